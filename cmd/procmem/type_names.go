package main

import "strings"

// typeNames are what programmers call the types of numbers.
var typeNames = map[string]string{
	"char": "i8", "int8": "i8", "short": "i16", "int16": "i16", "int": "i32", "int32": "i32", "int64": "i64",
	"byte": "u8", "uint8": "u8", "uint16": "u16", "unsigned": "u32", "uint": "u32", "uint32": "u32", "uint64": "u64",
	"float": "f32", "float32": "f32", "double": "f64", "float64": "f64", "pointer": "ptr",
}

// typeName returns the name of a type that package search knows, as far as there is one. int32_t is
// int32, and case does not matter.
func typeName(word string) (string, error) {
	name := strings.ToLower(word)
	switch strings.TrimSuffix(name, "_t") {
	case "long":
		return "", usagef("--type %s: a long is i64 in programs of 64 bits, and i32 in those of 32", word)
	case "ulong", "size", "uintptr":
		return "", usagef("--type %s: that is u64 in programs of 64 bits, and u32 in those of 32", word)
	}
	if known, ok := typeNames[strings.TrimSuffix(name, "_t")]; ok {
		return known, nil
	}
	return name, nil
}
