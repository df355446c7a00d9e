// Package procmem holds the vocabulary of procmem: addresses, ranges,
// mappings, memory that can be read by address, faults, and what is known of
// a process and its threads. It does nothing by itself.
//
// Start at process.Open for a live process, at snapshot.Stop to hold one
// still, and at core.Open for a core file: each gives a Memory, and everything
// else (core.Writer, the commands) takes one.
//
// All sizes are in bytes, all architectures are little endian, and all
// ranges are half-open.
package procmem
