// Package ptracer attaches to the threads of a process, holds them, reads their
// registers, and lets them go.
//
// Start with New and Stop. A Tracer is the one owner of all that is attached to:
// an OS thread of its own, since ptrace(2) belongs to a thread. Whatever ends that
// thread, SIGKILL of the program included, the kernel lets go what it held.
//
// What could hurt a target, and what prevents it:
//   - A thread that stays stopped: PTRACE_SEIZE, whose stops end with the tracer. Every
//     wait has a bound. PTRACE_ATTACH, whose SIGSTOP would stay, is not used.
//   - A target that ends with its tracer: PTRACE_O_EXITKILL is never set on it.
//   - A lost signal: stops are looked at with WNOWAIT, since a stop that was taken with
//     wait4(2) has lost its signal if the tracer dies before it detaches.
//   - A SIGTRAP that a dead tracer leaves behind: there are no single steps.
//
// Not promised: that a target notices nothing. Some system calls return EINTR after any
// stop (signal(7)).
package ptracer
