package forkroom

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/process"
)

// ErrWaits reports that a fork of the process would wait for the process itself.
var ErrWaits = errors.New("a fork of it waits until one of its threads, all of which would be held, has read of that (UFFD_FEATURE_EVENT_FORK)")

// errServer: the kernel writes dirty pages back when such a mapping ends, and nothing ends that
// wait (fs/fuse/file.c, fuse_vma_close).
var errServer = errors.New("it maps a file shared that is on a server: a copy of it could not end before that answers")

// Waits returns why a fork of a process, or the end of the fork, would wait for somebody. It
// returns ErrWaits if a userfaultfd of the process reports forks. Only threads of the process,
// all held, could then read that report. It returns nil if there is no such wait. maps are the
// mappings of the process, and view is a view of it. The search is bounded, and a fork that
// waits all the same is ended after a while.
func Waits(p *process.Process, view *process.View, maps []procmem.Mapping) error {
	if slices.ContainsFunc(maps, func(m procmem.Mapping) bool {
		return m.Shared() && m.Flags&procmem.VMDontCopy == 0 && view.Remote(&m)
	}) {
		return errServer
	}
	const served = procmem.VMUffdMiss | procmem.VMUffdWP | procmem.VMUffdMinor
	if !slices.ContainsFunc(maps, func(m procmem.Mapping) bool { return m.Flags&served != 0 }) {
		return nil
	}
	tids, err := p.Threads()
	if err != nil {
		return err
	}
	privilege.Raised(func() { err = readsForks(p.PID(), tids) })
	return err
}

// readsForks returns ErrWaits if one of the threads has a userfaultfd that reports forks.
func readsForks(pid int, tids []int) error {
	const most = 100_000 // descriptors
	looked := 0
	for _, tid := range tids { // each thread may have a table of files of its own
		dir := fmt.Sprintf("/proc/%d/task/%d/", pid, tid)
		fds, err := os.Open(dir + "fd")
		if err != nil {
			continue // the thread has ended
		}
		names, _ := fds.Readdirnames(most - looked)
		fds.Close()
		if looked += len(names); slices.ContainsFunc(names, func(fd string) bool { return tellsOfForks(dir, fd) }) {
			return ErrWaits
		}
		if looked >= most {
			break
		}
	}
	return nil
}

// tellsOfForks reports whether a file descriptor of a thread is a userfaultfd with
// UFFD_FEATURE_EVENT_FORK.
func tellsOfForks(dir, fd string) bool {
	const eventFork = 1 << 1
	if link, err := os.Readlink(dir + "fd/" + fd); err != nil || link != "anon_inode:[userfaultfd]" {
		return false
	}
	info, _ := os.ReadFile(dir + "fdinfo/" + fd)
	for line := range strings.Lines(string(info)) { // API:	aa:FEATURES:..
		var features uint64
		if _, err := fmt.Sscanf(line, "API: aa:%x:", &features); err == nil && features&eventFork != 0 {
			return true
		}
	}
	return false
}
