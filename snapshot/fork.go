package snapshot

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/forkroom"
	"github.com/procmem/procmem/internal/holders"
	"github.com/procmem/procmem/internal/inject"
	"github.com/procmem/procmem/internal/overlay"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/process"
)

// ErrLost reports that the forked copy of the process ended before it was read, such as by the
// kernel for want of memory.
var ErrLost = errors.New("the copy of the process was ended before all of it was read; it is the first to go where memory is short")

// fork has the process copy itself and lets it go on. What a fork does not copy, we copy while
// the process is held. That is memory with MADV_DONTFORK or MADV_WIPEONFORK, private huge
// pages, and shared memory up to a bound. Torn lists the shared memory beyond it.
func (f *pauser) fork(ctx context.Context) error {
	if err := f.lookAnew(); err != nil {
		return err
	}
	s := f.s
	if st, err := f.p.Status(); err == nil {
		x := &forkroom.Footprint{Pages: st.RSS / procmem.PageSize, Mappings: len(f.maps)}
		x.AddCopies(f.maps)
		if err := forkroom.Check(f.p, x); err != nil {
			return fmt.Errorf("fork process %d: %w", f.p.PID(), err)
		}
	}
	if err := forkroom.Waits(f.p, f.view, f.maps); err != nil {
		return err
	}
	left, _ := f.uncopied()
	var size uint64
	for i := range left {
		size += overlay.KeepSize(f.view, &left[i])
	}
	ov, err := overlay.New(size, bounded(context.Background(), f.store)) // the helper bounds the pause
	if err != nil {
		return err
	}
	s.undo.add(func() error { ov.Close(); return nil })

	f.o.step(StepPause, 0)
	k, err := inject.Start(f.p, inject.Job{Task: inject.TaskFork, Wait: len(left) > 0, Known: known(f.infos)})
	if err != nil {
		return err
	}
	s.undo.add(k.Close)
	// The process is held once more, while its child is reaped.
	s.leave = func() time.Duration {
		_ = k.Close() // undo reports the error
		return k.Pause()
	}
	if len(left) > 0 {
		if _, err = k.Listen(ctx); err != nil {
			return err
		}
		f.view.AssumeStopped(nil)
		ov.Keep(f.view, left)
		if err = k.GoOn(); err != nil {
			return fmt.Errorf("helper: %w", err)
		}
	}
	n, err := k.Listen(ctx)
	if err != nil {
		return err
	}
	if n.Late {
		return errors.New("what a fork does not copy could not be copied in time: the process was let go")
	}
	s.pause, s.taken, s.Unheld = s.pause+n.Pause, n.Time, n.Unheld
	s.img = f.img
	s.addThreads(f.p.PID(), f.infos, n.Threads)
	if err = f.openCopy(n.Child.PID, ov); err != nil {
		return err
	}
	s.tearCalls(ptracer.Calls(n.Threads), s.Sparse)
	return nil
}

// lookAnew looks again where mappings have changed since the look. A fork cannot find that out
// later, and their flags decide what it does not copy.
func (f *pauser) lookAnew() error {
	if _, err := f.refresh(); err != nil || !f.stale {
		return err
	}
	view, err := f.p.View()
	if err != nil {
		return err
	}
	f.s.undo.add(view.Close)
	f.view, f.text, f.stale = view, nil, false
	f.maps, _ = view.Mappings()
	f.img.Mappings = f.maps
	f.wanted = f.o.want(f.img, f.view)
	return nil
}

// uncopied returns the wanted mappings that a fork does not copy and the pause does. torn is
// the size, in bytes, of shared memory that is read later.
func (f *pauser) uncopied() (out []procmem.Mapping, torn uint64) {
	var shared []procmem.Mapping
	for i := range f.maps {
		m := &f.maps[i]
		// The copy has no userfaultfd, so pages that are missing in its memory would be zeros.
		const special = procmem.VMDontCopy | procmem.VMWipeOnFork | procmem.VMHugeTLB | procmem.VMUffdMiss
		switch {
		case m.Special() || m.Flags&(procmem.VMIO|procmem.VMPFNMap) != 0 || !pageset.Overlaps(f.wanted, m.Range):
		case m.Shared() && m.Flags&procmem.VMDontCopy == 0:
			shared = append(shared, *m)
		case m.Flags&special != 0:
			out = append(out, *m)
		}
	}
	plan := f.boundShared(shared, func(*holders.Object) bool { return false })
	return append(out, plan.inPause...), plan.torn
}

// openCopy makes the copy of the process the memory of the moment.
func (f *pauser) openCopy(pid int, ov *overlay.Memory) error {
	s := f.s
	child, err := process.Open(pid)
	if err != nil {
		return ErrLost
	}
	s.undo.add(child.Close)
	if auxv, err := child.Auxv(s.img.Arch); err != nil || !bytes.Equal(auxv, s.img.Auxv) {
		return inject.ErrExec
	}
	view, err := child.View()
	if err != nil {
		return fmt.Errorf("read the copy of the process: %w", err)
	}
	s.undo.add(view.Close)
	view.AssumeStopped(nil)
	maps, _ := view.Mappings()
	// The copy lacks the mappings that a fork does not copy at all.
	for i := range s.img.Mappings {
		if m := &s.img.Mappings[i]; m.Flags&procmem.VMDontCopy != 0 {
			maps = append(maps[:len(maps):len(maps)], *m)
		}
	}
	slices.SortFunc(maps, func(a, b procmem.Mapping) int { return cmp.Compare(a.Start, b.Start) })
	s.img.Mappings = maps
	s.Sparse = ov
	s.alive = func() error {
		if st, err := child.Stat(); err != nil || st.Zombie() {
			return ErrLost
		}
		return nil
	}
	return ov.Seal(maps, view)
}
