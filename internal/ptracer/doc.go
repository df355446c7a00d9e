// Package ptracer attaches to the threads of a process, holds them, reads their registers, and
// lets them go.
//
// Start with New and Stop. A Tracer owns all that is attached to. It is an OS thread of its
// own, because ptrace(2) belongs to a thread. When that thread ends, by SIGKILL of the program
// too, the kernel releases what it held.
//
// What could hurt a target, and what prevents it:
//   - A thread that stays stopped: stops of PTRACE_SEIZE end with the tracer, and every wait
//     has a bound. PTRACE_ATTACH is not used, because its SIGSTOP would stay.
//   - A target that ends with its tracer: PTRACE_O_EXITKILL is never set on it.
//   - A lost signal: stops are looked at with WNOWAIT. A stop that was taken with wait4(2) has
//     lost its signal if the tracer dies before it detaches.
//   - A hold without end: a thread that does not stop may hold the lock that a reader of the
//     mappings waits for. MapsAreFree finds that out without waiting for the lock.
//   - A SIGTRAP that a dead tracer leaves behind: there are no single steps.
//
// The target may notice. Some system calls return EINTR after any stop (signal(7)).
package ptracer
