package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/procmem/procmem"
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
	s.img.Mappings, _ = before.Mappings()
	left := s.uncopied(before, o.want(s.img, before))
	var size uint64
	for i := range left {
		size += dataSize(before, left[i].Range)
	}
	ov := &overlay{store: o.Store}
	if ov.arena, err = newArena(size, o.Store); err != nil {
		return s, err
	}
	s.undo(func() error { ov.arena.close(); return nil })

	k, err := startKeeper(p, job{Task: taskFork, Wait: len(left) > 0})
	if err != nil {
		return s, err
	}
	s.undo(k.close)
	if len(left) > 0 {
		if _, err = k.listen(ctx); err != nil {
			return s, err
		}
		before.Stopped(nil)
		ov.keepUncopied(before, left)
		if err = k.goOn(); err != nil {
			return s, fmt.Errorf("keeper: %w", err)
		}
	}
	n, err := k.listen(ctx)
	if err != nil {
		return s, err
	}
	s.pause = n.Pause
	s.taken = time.Now().Add(-n.Pause)
	s.addThreads(p, infos, n.Threads)
	return s, s.openCopy(n.Child, ov)
}

// uncopied returns what a fork does not copy of the ranges that are wanted.
func (s *Snapshot) uncopied(mem procmem.Sparse, wanted []procmem.Range) (out []procmem.Mapping) {
	var shared []procmem.Mapping
	for i := range s.img.Mappings {
		m := &s.img.Mappings[i]
		const special = procmem.VMDontCopy | procmem.VMWipeOnFork | procmem.VMHugeTLB
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

// keepUncopied copies mappings while the process is held.
func (o *overlay) keepUncopied(mem procmem.Sparse, left []procmem.Mapping) {
	for i := range left {
		o.keep(mem, left[i].Range)
	}
}

// keep copies what there is in r, which becomes our own.
func (o *overlay) keep(mem procmem.Sparse, r procmem.Range) {
	o.own = append(o.own, r)
	for d, err := range mem.Data(r) {
		if err != nil {
			o.arena.fault(r, procmem.Cause(err))
			o.arena.missing = append(o.arena.missing, r)
			return
		}
		d = procmem.Range{Start: d.Start.PageDown(), End: (d.End + procmem.PageSize - 1).PageDown()}
		o.data = append(o.data, d)
		o.arena.copy(mem, d)
	}
}

// openCopy makes the copy of the process the memory of the moment.
func (s *Snapshot) openCopy(pid int, ov *overlay) error {
	child, err := process.Open(pid)
	if err != nil {
		return ErrLost
	}
	s.undo(child.Close)
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
