package process

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/procfs"
)

// HasThread reports whether tid is a thread of this process that has not been reaped.
func (p *Process) HasThread(tid int) bool {
	return unix.Faccessat(int(p.dir.Fd()), "task/"+strconv.Itoa(tid)+"/stat", unix.F_OK, 0) == nil
}

// ThreadStatus reads task/TID/status. It needs no rights.
func (p *Process) ThreadStatus(tid int) (*Status, error) {
	return parse(p, "task/"+strconv.Itoa(tid)+"/status", parseStatus)
}

// ThreadRuns returns how often the thread has been given a processor. It reads
// task/TID/schedstat (Documentation/scheduler/sched-stats.rst).
func (p *Process) ThreadRuns(tid int) (uint64, error) {
	return parse(p, "task/"+strconv.Itoa(tid)+"/schedstat", procfs.ParseRuns)
}

// ThreadSyscall reads task/TID/syscall: where a blocked thread is, without stopping it. It
// needs the rights of a debugger.
func (p *Process) ThreadSyscall(tid int) (*Syscall, error) {
	return parse(p, "task/"+strconv.Itoa(tid)+"/syscall", parseSyscall)
}

// ThreadWait reads task/TID/wchan: the function of the kernel in which a thread waits, "" if it
// does not. It needs the rights of a debugger. A kernel without names of its functions tells
// nothing.
func (p *Process) ThreadWait(tid int) (string, error) {
	b, err := parse(p, "task/"+strconv.Itoa(tid)+"/wchan", procfs.ReadSmall)
	if err != nil || string(b) == "0" {
		return "", err
	}
	return string(b), nil
}
