package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/process"
)

// ErrLost reports that the copy of the process that a fork made was ended by
// somebody else before it was read, such as by the kernel for want of memory.
var ErrLost = errors.New("the copy of the process was ended before all of it was read; it is the first to go where memory is short")

// Fork has the process copy itself, for which all of its threads are held, and
// lets it go on: the copy, which never runs, is the memory of the moment. It
// takes rights as Stop does, 64-bit code of this machine, and room for another
// process in the target's limits.
//
// What a fork does not copy is copied by us while the process is held: memory
// that is MADV_DONTFORK or MADV_WIPEONFORK, private huge pages, and shared
// memory up to a bound (Torn tells what is beyond it).
func Fork(ctx context.Context, p *process.Process, o Options) (*Snapshot, error) {
	return attempt(o, func() (*Snapshot, error) { return fork(ctx, p, o) })
}

func fork(ctx context.Context, p *process.Process, o Options) (s *Snapshot, err error) {
	s = &Snapshot{Method: MethodFork}
	defer func() {
		if err != nil {
			s.Close()
			s = nil
		}
	}()
	infos, err := s.before(p)
	if err != nil {
		return s, err
	}
	if err = p.MayRead(); err != nil {
		return s, err
	}
	before, err := p.View()
	if err != nil {
		return s, err
	}
	defer before.Close()
	if st, serr := p.Status(); serr == nil {
		if err = canFork(p, &extent{pages: st.RSS / procmem.PageSize}); err != nil {
			return s, fmt.Errorf("fork process %d: %w", p.PID(), err)
		}
	}
	s.img.Mappings, _ = before.Mappings()
	if err = s.forkWaits(p); err != nil {
		return s, err
	}
	left := s.uncopied(before, o.want(s.img, before))
	var size uint64
	for i := range left {
		size += presentSize(before, &left[i])
	}
	ov := &overlay{store: o.Store}
	if ov.arena, err = newArena(size, o.Store); err != nil {
		return s, err
	}
	s.undo(func() error { ov.arena.close(); return nil })

	o.phase("paused")
	k, err := startKeeper(p, job{Task: taskFork, Wait: len(left) > 0, Known: known(infos)})
	if err != nil {
		return s, err
	}
	s.undo(k.close)
	if len(left) > 0 {
		if _, err = k.listen(ctx); err != nil {
			return s, err
		}
		before.Stopped(nil)
		ov.keep(before, left)
		if err = k.goOn(); err != nil {
			return s, fmt.Errorf("keeper: %w", err)
		}
	}
	n, err := k.listen(ctx)
	if err != nil {
		return s, err
	}
	k.copy = &n.Child
	if n.Late {
		return s, errors.New("what a fork does not copy could not be copied in time: the process was let go")
	}
	s.pause, s.taken = n.Pause, n.Time
	// The process is held once more, while it takes leave of the copy.
	s.leave = func() time.Duration {
		k.close()
		return k.pause
	}
	s.addThreads(p.PID(), infos, n.Threads)
	return s, s.openCopy(n.Child.PID, ov)
}

var errForkWaits = errors.New("a fork of it waits until one of its threads, all of which would be held, has read of that (UFFD_FEATURE_EVENT_FORK)")

// forkWaits reports errForkWaits where a userfaultfd of the process tells of
// forks. With whom no other process shares it there is nobody else to read.
func (s *Snapshot) forkWaits(p *process.Process) error {
	if !slices.ContainsFunc(s.img.Mappings, func(m procmem.Mapping) bool { return m.Flags&(procmem.VMUffdMiss|procmem.VMUffdWP) != 0 }) {
		return nil
	}
	var err error
	privilege.Raised(func() { err = readsForks(p.PID()) })
	return err
}

// readsForks reports errForkWaits where a process has a userfaultfd that tells
// of forks.
func readsForks(pid int) error {
	const eventFork = 1 << 1
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		return err
	}
	for _, fd := range fds {
		if link, err := os.Readlink(fd); err != nil || link != "anon_inode:[userfaultfd]" {
			continue
		}
		info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, filepath.Base(fd)))
		if err != nil {
			continue // closed meanwhile
		}
		// API:	aa:FEATURES:..
		for line := range strings.Lines(string(info)) {
			var features uint64
			if _, err := fmt.Sscanf(line, "API: aa:%x:", &features); err == nil && features&eventFork != 0 {
				return errForkWaits
			}
		}
	}
	return nil
}

// uncopied returns what a fork does not copy of the ranges that are wanted.
func (s *Snapshot) uncopied(mem *process.View, wanted []procmem.Range) (out []procmem.Mapping) {
	var shared []procmem.Mapping
	for i := range s.img.Mappings {
		m := &s.img.Mappings[i]
		// Memory of a userfaultfd is not, in the copy: what is missing would be zeros.
		const special = procmem.VMDontCopy | procmem.VMWipeOnFork | procmem.VMHugeTLB | procmem.VMUffdMiss
		switch {
		case m.Special() || m.Flags&(procmem.VMIO|procmem.VMPFNMap) != 0 || !overlaps(wanted, m.Range):
		case m.Shared() && m.Flags&procmem.VMDontCopy == 0:
			shared = append(shared, *m)
		case m.Flags&special != 0:
			out = append(out, *m)
		}
	}
	return append(out, s.boundShared(mem, shared)...)
}

// keep copies what there is of mappings, which become our own, while the
// process is held.
func (o *overlay) keep(view *process.View, mappings []procmem.Mapping) {
	for i := range mappings {
		m := &mappings[i]
		o.own = append(o.own, m.Range)
		at := m.Start
		for d, err := range present(view, m) {
			if err != nil {
				o.arena.miss(m.Range, procmem.Cause(err))
				break
			}
			d = procmem.Range{Start: d.Start.PageDown(), End: (d.End + procmem.PageSize - 1).PageDown()}
			if unseen(view, m) && at < d.Start {
				o.arena.miss(procmem.Range{Start: at, End: d.Start}, procmem.ErrUntouched)
			}
			o.data = append(o.data, d)
			o.arena.copy(view, d)
			at = d.End
		}
		if unseen(view, m) && at < m.End {
			o.arena.miss(procmem.Range{Start: at, End: m.End}, procmem.ErrUntouched)
		}
	}
}

// unseen reports whether only the pages of a shared mapping that the process
// has touched can be read: what else it holds is in a file that cannot be
// opened.
func unseen(view *process.View, m *procmem.Mapping) bool {
	return m.Shared() && m.Flags&procmem.VMUffdMiss == 0 && !view.Backed(m)
}

// present yields what there is to copy of a mapping.
func present(view *process.View, m *procmem.Mapping) iter.Seq2[procmem.Range, error] {
	if unseen(view, m) {
		return view.Present(m.Range)
	}
	return view.Data(m.Range)
}

// openCopy makes the copy of the process the memory of the moment.
func (s *Snapshot) openCopy(pid int, ov *overlay) error {
	child, err := process.Open(pid)
	if err != nil {
		return ErrLost
	}
	s.undo(child.Close)
	if auxv, err := child.Auxv(s.img.Arch); err != nil || !bytes.Equal(auxv, s.img.Auxv) {
		return errExec
	}
	view, err := child.View()
	if err != nil {
		return fmt.Errorf("read the copy of the process: %w", err)
	}
	s.undo(view.Close)
	view.Stopped(nil)
	ov.base = view
	maps, _ := view.Mappings()
	// Mappings that are not copied at all are missing there.
	for i := range s.img.Mappings {
		if m := &s.img.Mappings[i]; m.Flags&procmem.VMDontCopy != 0 {
			maps = append(maps[:len(maps):len(maps)], *m)
		}
	}
	slices.SortFunc(maps, func(a, b procmem.Mapping) int { return compareAddr(a.Start, b.Start) })
	s.img.Mappings, ov.maps = maps, maps
	s.Sparse = ov
	s.alive = func() error {
		if st, err := child.Stat(); err != nil || st.Zombie() {
			return ErrLost
		}
		return nil
	}
	// What was spilled is in the store, and the rest of own in the arena.
	ov.held = ov.arena.spilled
	return ov.seal()
}
