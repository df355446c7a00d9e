package process

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/privilege"
)

// A process id is a number of one pid namespace. /proc shows ids of the namespace that it was
// mounted for. System calls that take a process id (ptrace(2), kill(2), pidfd_open(2),
// process_vm_readv(2)) mean ids of the caller's namespace. If the two differ, one number means
// two processes.

// ErrForeignProc reports that /proc belongs to another pid namespace than the caller.
var ErrForeignProc = errors.New("/proc shows the processes of another pid namespace than procmem's own, where their numbers mean others or none")

// CheckNamespace returns ErrForeignProc if the process id and thread ids of p must not be given
// to a system call. It must be called before the first such call. Code that only reads files of
// /proc needs no check.
func (p *Process) CheckNamespace() error {
	p.numbers.Do(func() { p.foreign = p.checkNamespace() })
	return p.foreign
}

func (p *Process) checkNamespace() error {
	// Another /proc may have been mounted since p was opened, or over one process.
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
	// NSpid has a number for each namespace from that of /proc down to the caller's own.
	// Kernels without pid namespaces do not print it.
	if len(status.NSPID) > 1 || pid != os.Getpid() {
		return ErrForeignProc
	}
	return nil
}

// Self returns the process id that the caller has in this /proc. It differs from os.Getpid if
// /proc belongs to another pid namespace. It fails with ErrForeignProc if this /proc does not
// show the caller.
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
	status, err = parseStatus(f)
	return pid, status, err
}

// ErrPreparedNamespace reports that a child of the thread would be in another namespace than
// the thread itself.
var ErrPreparedNamespace = errors.New("the next child is to be in another namespace (unshare(2), setns(2))")

// CheckChildNamespaces returns ErrPreparedNamespace if a thread has asked for another pid or
// time namespace for its children. It must be called while the thread is held, before the
// thread is made to clone anything.
//
// The first child in a pid namespace is its init: once that has ended, no other can be made
// there. The first child in a time namespace fixes its clocks. And the end of a pid namespace
// waits for all processes in it.
//
// The links that it reads take the rights of a debugger. Another error says that they cannot be
// read, such as for a thread that has ended.
func (p *Process) CheckChildNamespaces(tid int) error {
	for _, kind := range []string{"pid", "time"} {
		own := fmt.Sprintf("task/%d/ns/%s", tid, kind)
		next := own + "_for_children"
		var (
			st  unix.Stat_t
			err error
		)
		privilege.Raised(func() { err = unix.Fstatat(int(p.dir.Fd()), next, &st, unix.AT_SYMLINK_NOFOLLOW) })
		if errors.Is(err, unix.ENOENT) && p.HasThread(tid) {
			continue // kernels before 4.12 (pid) and 5.6 (time), or without such namespaces
		}
		a, err := p.readLink(own)
		if err != nil {
			return err
		}
		b, err := p.readLink(next)
		if errors.Is(err, unix.ENOENT) && !p.exiting(tid) {
			return fmt.Errorf("thread %d: %w: %s namespace, and it will be the first there", tid, ErrPreparedNamespace, kind)
		}
		if err != nil {
			return err
		}
		if a != b {
			return fmt.Errorf("thread %d: %w: %s, not %s", tid, ErrPreparedNamespace, b, a)
		}
	}
	return nil
}

// exiting reports whether a thread has exited, or is about to. It then has no namespaces.
func (p *Process) exiting(tid int) bool {
	st, err := p.ThreadStat(tid)
	return err != nil || st.Zombie() || st.Exiting()
}

// readLink reads a link below /proc/PID.
func (p *Process) readLink(name string) (string, error) {
	to, err := privilege.ReadLink(p.dir, name)
	if err != nil {
		return "", fmt.Errorf("read link /proc/%d/%s: %w", p.pid, name, err)
	}
	return to, nil
}
