// Package procmem holds the vocabulary of procmem: addresses, ranges, mappings, faults, and
// memory that can be read by address. It also has what is known of a process and its threads.
// It does nothing by itself.
//
// Start with process.Open for a live process, snapshot.Take for one moment of it, and core.Open
// for a core file. Each gives a Memory, and everything else takes one.
//
// All sizes are in bytes, all architectures are little endian, and all ranges are half-open.
package procmem
