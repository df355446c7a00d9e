// Package procmem holds the vocabulary of procmem: addresses, ranges, mappings, faults, and
// memory that can be read by address. It also has what is known of a process and its threads.
// It does nothing by itself.
//
// Start with process.Open and Process.View for a live process, capture.ToFile for a core of it,
// and core.Open for a core file. View and Open give a Memory, and so does snapshot.Take for one
// moment of a process. Everything else takes one.
//
// All sizes are in bytes, all architectures are little endian, and all ranges are half-open.
package procmem
