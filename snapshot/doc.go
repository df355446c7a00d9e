// Package snapshot takes one moment of a live process: its memory, threads
// and registers, and what it cost.
//
// Start with Take, or with one of the methods: Auto, Stop, Fork, Precopy, and
// Live, which holds nothing still and says so. Each gives a Snapshot: a
// procmem.Memory together with a procmem.Image. docs/pause.md tells how they
// work and what they cost the process.
//
// Whatever happens to the caller, SIGKILL included, the target goes on. It is
// attached to with PTRACE_SEIZE, and what a dead tracer held the kernel lets
// go. Fork and Precopy have a thread of the target run a system call; that is
// done by a process of its own, which finishes and undoes it when the caller
// vanishes. This process is the caller's program, run again: in it, the
// initialization of this package does not return, so nothing of the program
// runs but what is initialized before.
//
// Not promised: that it goes unnoticed. A system call such as epoll_wait that
// was interrupted returns EINTR (signal(7)); and memory that others share may
// be changed by them (Snapshot.Torn).
package snapshot
