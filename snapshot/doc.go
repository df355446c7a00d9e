// Package snapshot takes one moment of a live process: its memory, its threads with their
// registers, and the length of the pause.
//
// Take is the entry. It returns a Snapshot, a procmem.Memory together with a procmem.Image.
// Options choose the method: MethodAuto, MethodStop, MethodFork, MethodPrecopy, or MethodLive,
// which holds nothing and gives no moment. docs/pause.md describes what each method does and
// costs.
//
// The target goes on whatever ends the caller, SIGKILL included. It is attached to with
// PTRACE_SEIZE, and the kernel releases what a dead tracer held. MethodFork and MethodPrecopy
// have a thread of the target run a system call. A helper process makes that call, and undoes
// its effects when the caller vanishes. The helper is the caller's program, run again. In the
// helper, the initialization of this package does not return, so of the program only earlier
// initialization runs.
//
// The target may notice. An interrupted system call such as epoll_wait returns EINTR
// (signal(7)). Other processes may change memory that they share with the target
// (Snapshot.Torn).
package snapshot
