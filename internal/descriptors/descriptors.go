// Package descriptors walks the open files of a process. Start with Walk.
//
// Each thread may have a table of its own (unshare(2), CLONE_FILES), and a leader that has
// exited has none. So the tables of all threads are walked, each of them once.
//
// The package reads /proc and stops nobody. What it reads belongs to the target, so the work is
// bounded. The kernel makes who asks wait while the process executes a program (package
// patient).
package descriptors

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/procfs"
	"github.com/procmem/procmem/internal/sys"
)

// Most is the number of descriptors of a process that are looked at.
const Most = 1 << 16

// ErrTooMany reports that a process has more than Most descriptors.
var ErrTooMany = fmt.Errorf("it has more than %d descriptors, which were not all looked at", Most)

// Descriptor is an open file of a process. It is valid until Walk calls its function again.
type Descriptor struct {
	Name   string   // its number
	thread *os.File // the folder of a thread that has it
}

// Walk calls f with the descriptors of a process, in no order, until f returns false. dir is the
// folder /proc/PID. Walk fails with ErrTooMany, and if the kernel does not let this process
// look. A process that has ended has no descriptors. step is called after each answer of the
// kernel; nil for none.
func Walk(dir *os.File, step func(), f func(Descriptor) (more bool)) error {
	if step == nil {
		step = func() {}
	}
	tids, err := threads(dir)
	if err != nil {
		return err
	}
	w := walk{f: f, step: step}
	for _, tid := range tids {
		if step(); w.known(tid) {
			continue
		}
		if err := w.table(dir, "task/"+strconv.Itoa(tid)); w.ended || err != nil {
			return err
		}
	}
	return nil
}

// threads returns the ids of the threads of the process with a folder.
func threads(dir *os.File) (tids []int, err error) {
	task, err := privilege.OpenAt(dir, "task", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		if ended(dir) {
			return nil, nil
		}
		return nil, fmt.Errorf("its threads: %w", err)
	}
	defer task.Close()
	names, _ := task.Readdirnames(-1)
	for _, name := range names {
		if tid, err := strconv.Atoi(name); err == nil {
			tids = append(tids, tid)
		}
	}
	return tids, nil
}

// walk is the state of Walk.
type walk struct {
	f      func(Descriptor) bool
	step   func()
	ended  bool  // f has returned false
	looked int   // descriptors, and tables
	tables []int // a thread for each table, in the kernel's order of tables
}

// known reports whether another thread with the table of a thread has been looked at. Where the
// kernel does not tell, none has.
func (w *walk) known(tid int) (is bool) {
	var failed error
	i, is := slices.BinarySearchFunc(w.tables, tid, func(of, tid int) (order int) {
		var err error
		privilege.Raised(func() { order, err = sys.CompareFiles(of, tid) })
		failed = errors.Join(failed, err)
		return order
	})
	if failed != nil {
		return false
	}
	if !is {
		w.tables = slices.Insert(w.tables, i, tid)
	}
	return is
}

// table walks the table of one thread, whose folder has a name below dir.
func (w *walk) table(dir *os.File, name string) error {
	thread, err := privilege.OpenAt(dir, name, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil // the thread has ended: nothing else keeps its folder from being found
	}
	defer thread.Close()
	fds, err := privilege.OpenAt(thread, "fd", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		if ended(thread) {
			return nil
		}
		return fmt.Errorf("its descriptors: %w", err)
	}
	defer fds.Close()
	for w.looked++; ; {
		names, _ := fds.Readdirnames(1024)
		if len(names) == 0 {
			return nil
		}
		for _, fd := range names {
			if w.looked++; w.looked > Most {
				return ErrTooMany
			}
			if w.step(); !w.f(Descriptor{fd, thread}) {
				w.ended = true
				return nil
			}
		}
	}
}

// ended reports whether a thread, or the process with a folder, has exited. The folder of one
// that is still to be reaped belongs to root, whoever the user is.
func ended(thread *os.File) bool {
	f, err := privilege.OpenAt(thread, "stat", unix.O_RDONLY)
	if err != nil {
		return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH)
	}
	defer f.Close()
	st, err := procfs.ParseStat(f)
	return err == nil && (st.State == 'Z' || st.State == 'X') || errors.Is(err, unix.ESRCH)
}

// Link returns the first 64 bytes of what the descriptor shows, as /proc/PID/fd tells it: a
// path, or a kind of object such as "socket:[123]".
func (d Descriptor) Link() (string, error) {
	var link [64]byte // there may be tens of thousands
	var n int
	var err error
	privilege.Raised(func() { n, err = unix.Readlinkat(int(d.thread.Fd()), "fd/"+d.Name, link[:]) })
	return string(link[:max(n, 0)]), err
}

// Info returns the text of fdinfo, of 64 KiB at most (proc_pid_fdinfo(5)). It waits for no
// server.
func (d Descriptor) Info() ([]byte, error) {
	f, err := privilege.OpenAt(d.thread, "fdinfo/"+d.Name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 64<<10))
}

// Stat returns the status of the file. It may have to wait for the server of the file.
func (d Descriptor) Stat() (st unix.Stat_t, err error) {
	privilege.Raised(func() { err = unix.Fstatat(int(d.thread.Fd()), "fd/"+d.Name, &st, 0) })
	return st, err
}
