// Package fidelity holds tests alone. They show that a core of procmem says what other programs
// say of the same process at the same moment.
//
// A process is stopped with SIGSTOP, so that nothing in it changes between two looks. Then
// "procmem core" and gdb's gcore each take a core of it. The two must agree wherever both have
// an opinion: registers, auxiliary vector, file names, every byte of memory. Every debugger
// must show the same threads, frames and modules from both. What gcore has and procmem leaves
// out must be what the rule of docs/consumers.md leaves out. That is bytes that are in a file,
// or that no program can read.
//
// Start with pair_test.go, which takes the two cores, and memory_test.go, which knows the only
// excuses for a byte that is not there. The programs are in zoo_test.go, runtimes_test.go and
// servers_test.go; large ones in many_test.go.
//
// A test whose tools are missing is skipped, or fails under PROCMEM_TEST_ALL=1.
package fidelity
