package forkroom

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/descriptors"
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
	dir, err := p.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	var waits error
	err = descriptors.Walk(dir, nil, func(d descriptors.Descriptor) bool {
		if tellsOfForks(d) {
			waits = ErrWaits
		}
		return waits == nil
	})
	if errors.Is(err, descriptors.ErrTooMany) {
		return nil
	}
	return cmp.Or(waits, err)
}

// tellsOfForks reports whether a descriptor is a userfaultfd with UFFD_FEATURE_EVENT_FORK.
func tellsOfForks(d descriptors.Descriptor) bool {
	const eventFork = 1 << 1
	if link, err := d.Link(); err != nil || link != "anon_inode:[userfaultfd]" {
		return false
	}
	info, _ := d.Info()
	for line := range strings.Lines(string(info)) { // API:	aa:FEATURES:..
		var features uint64
		if _, err := fmt.Sscanf(line, "API: aa:%x:", &features); err == nil && features&eventFork != 0 {
			return true
		}
	}
	return false
}
