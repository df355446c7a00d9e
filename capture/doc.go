// Package capture takes a core of a live process in one call: to a file, to a writer, or
// to a file without a name. It gives what the command procmem core gives: the same methods,
// the same pause, the same report.
//
// Start with ToFile or ToWriter. Memory is for other formats than a core: it gives the
// memory of one moment to a function.
//
// The process goes on afterwards, whatever fails. It needs the rights of a debugger
// (ptrace(2), access mode checking); package access explains a refusal. MethodPrecopy and
// MethodFork run a helper process, which is the program of the caller run again: a main
// package that imports this one needs nothing more for that.
//
// Not promised: cores of processes that use no mappings below 2^63, as [vsyscall] has.
package capture
