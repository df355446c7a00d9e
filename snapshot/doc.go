// Package snapshot takes one moment of a live process: its memory, threads
// and registers, and what it cost.
//
// Start with Stop, which holds every thread still until Release, or Live,
// which holds nothing still and says so. Both give a Snapshot: a
// procmem.Memory together with a procmem.Image.
//
// Whatever happens to the caller, SIGKILL included, the target goes on: it is
// attached to with PTRACE_SEIZE and no option, no register of it is changed
// and no code is run in it, and the kernel itself releases what a dead
// tracer held.
//
// Not promised: that a stop goes unnoticed. A system call such as epoll_wait
// that was interrupted returns EINTR (signal(7)); and memory that others
// share may be changed by them.
package snapshot
