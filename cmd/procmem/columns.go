package main

// On a narrow terminal, columns that can be spared are left out where less than this would be
// left of names.
const (
	leastName = 12 // of a function, behind other columns that tell where it is
	leastPath = 30 // of a mapping
)

// rangeWidth is what ranges take. Addresses of user space have 12 digits.
const rangeWidth = len("0x7fffffffffff-0x7fffffffffff")
