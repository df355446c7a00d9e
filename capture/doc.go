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
// Not promised: that the process notices nothing (docs/pause.md lists what it can), and
// that memory which others share is of the same moment (Report.Torn).
package capture
