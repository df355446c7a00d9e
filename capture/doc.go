// Package capture takes a core of a live process in one call: to a file, to a writer, or to an
// unnamed file. It gives what the command procmem core gives: the same methods, the same pause,
// the same report.
//
// Start with ToFile or ToWriter. Memory is for other formats than a core: it passes the memory
// of one moment to a function.
//
// The process goes on afterwards, whatever fails. The caller needs the rights of a debugger
// (ptrace(2), access mode checking). The text of a ProcessError is the sentence of package
// access where that knows the cause. MethodPrecopy and MethodFork run a helper process, which
// is the caller's program, run again. A main package that imports this one needs nothing more
// for that.
//
// A core has memory below 2^63 alone, so it lacks [vsyscall].
package capture
