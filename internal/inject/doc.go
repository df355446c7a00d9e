// Package inject runs system calls in threads of another process, and undoes what they did.
//
// Start starts a helper, and a Job tells the helper what to do. A helper is this program, run
// again (package selfexec). If the process that started it vanishes, by whatever signal, the
// connection between them ends, and the helper finishes. The target then has its registers
// back, and nothing is left in it.
//
// What could hurt a target, and what prevents it:
//   - Registers that are not its own, when the tracer dies: only a helper calls.
//     Injector.callWith ends with the registers restored or with the thread gone.
//   - A call in the wrong place: see Injector.fit.
//   - A child that stays: it is traced from birth, ends with the helper, and is reaped.
//
// A helper that is itself killed leaves the target with what it was doing (docs/pause.md says
// when that harms).
package inject
