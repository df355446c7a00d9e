package process

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// A process id is a number of one pid namespace. /proc shows those of the
// namespace that it was mounted for; system calls that take a process id
// (ptrace(2), kill(2), pidfd_open(2), process_vm_readv(2)) mean those of the
// caller's. Where the two differ, one number means two processes.

// ErrForeignProc reports that /proc belongs to another pid namespace than the
// caller.
var ErrForeignProc = errors.New("/proc shows the processes of another pid namespace than procmem's own, where their numbers mean others or none")

// CheckNamespace returns ErrForeignProc where the process id and the thread
// ids of p may not be given to a system call. It must be called before the
// first one is. What reads files of /proc alone needs no such check.
func (p *Process) CheckNamespace() error {
	p.numbers.Do(func() { p.foreign = p.checkNamespace() })
	return p.foreign
}

func (p *Process) checkNamespace() error {
	// Another /proc may be mounted since p was opened, or over one process.
	var self, target unix.Stat_t
	if err := unix.Stat("/proc/self/status", &self); err != nil {
		return ErrForeignProc // this /proc does not know the caller
	}
	if err := unix.Fstat(int(p.dir.Fd()), &target); err != nil {
		return fmt.Errorf("look at /proc/%d: %w", p.pid, err)
	}
	if self.Dev != target.Dev {
		return ErrForeignProc
	}
	pid, status, err := readSelf()
	if err != nil {
		return err
	}
	// NSpid has a number for each namespace from that of /proc down to the
	// caller's own. Kernels without pid namespaces do not print it.
	if len(status.NSPID) > 1 || pid != os.Getpid() {
		return ErrForeignProc
	}
	return nil
}

// Self returns the process id that the caller has in this /proc, which is not
// os.Getpid where /proc belongs to another pid namespace. ErrForeignProc: this
// /proc does not show the caller.
func Self() (int, error) {
	pid, _, err := readSelf()
	return pid, err
}

func readSelf() (pid int, status *Status, err error) {
	link, err := os.Readlink("/proc/self")
	if err != nil {
		return 0, nil, ErrForeignProc
	}
	if pid, err = strconv.Atoi(link); err != nil {
		return 0, nil, fmt.Errorf("/proc/self: %w", err)
	}
	f, err := os.Open("/proc/" + link + "/status")
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	status, err = ParseStatus(f)
	return pid, status, err
}
