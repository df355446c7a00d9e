package snapshot

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/dirty"
	"github.com/procmem/procmem/internal/holders"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/process"
)

// stop holds the process until Release. If there is little memory, it holds the process only
// until that is copied.
func (f *pauser) stop(ctx context.Context) error {
	if size := f.size(); size <= littleMemory && (f.countable() == nil || canTrack() == nil) {
		return f.pauseFor(ctx, size)
	}
	f.lookAround(f.view, holders.Objects(f.sharedMappings(f.maps)))
	return f.holdOpen(ctx)
}

// size returns the bytes to copy. Unwritten pages of a file do not count, because they can be
// read from the file at any time.
func (f *pauser) size() (n uint64) {
	for _, r := range f.wanted {
		for i := procmem.FindMapping(f.maps, r.Start); i < len(f.maps) && f.maps[i].Start < r.End; i++ {
			m := &f.maps[i]
			part := m.Range.Intersect(r)
			if dirty.Private(m) && m.Usage != nil && f.fromFile(m) {
				n += min(part.Size(), m.Usage.Anonymous+m.Usage.Swap)
				continue
			}
			n += dataSize(f.view, part)
		}
	}
	return n
}

// holdOpen holds the process until Release.
func (f *pauser) holdOpen(ctx context.Context) error {
	f.o.step(StepPause, 0)
	if err := f.holdAll(ctx, f.s); err != nil {
		return err
	}
	f.s.taken = time.Now()
	view, err := f.p.View()
	if err != nil {
		return err
	}
	view.AssumeStopped(f.s.tracer.Do)
	f.s.img = f.img
	f.s.show(view)
	var givenUp map[int]*process.Syscall
	f.s.tracer.Do(func() { givenUp = f.s.tracer.GivenUp() })
	f.s.tearCalls(slices.Collect(maps.Values(givenUp)), view)
	objects := holders.Objects(f.sharedMappings(f.s.img.Mappings))
	f.lookAround(view, objects)
	for _, o := range objects {
		f.s.tear(o, f.writers[o.ID].Reason())
	}
	f.s.sortTorn()
	return nil
}

// Threads holds the process for as long as it takes to read the registers of its threads. It
// returns the image and the length of the pause. Rights and errors are those of Take. The
// mappings are read after the pause.
func Threads(ctx context.Context, p *process.Process) (*procmem.Image, time.Duration, error) {
	if err := p.CheckNamespace(); err != nil {
		return nil, 0, fmt.Errorf("stop process %d: %w", p.PID(), err)
	}
	b, err := describe(p)
	if err != nil {
		return nil, 0, err
	}
	// A refusal must come before anything is stopped.
	if err := p.MayRead(); err != nil {
		return nil, 0, err
	}
	b.waits()
	s := &Snapshot{Method: MethodStop}
	defer s.Close()
	if err := b.holdAll(ctx, s); err != nil {
		return nil, 0, err
	}
	s.img = b.img
	s.letGo()
	img := s.Image()
	img.Mappings, err = p.Mappings()
	return img, s.pause, err
}

// holdAll holds all threads of the process until the snapshot is released or ctx ends, and has
// their registers read.
func (b *subject) holdAll(ctx context.Context, s *Snapshot) error {
	t := ptracer.New(b.p)
	s.tracer = t
	t.Known = known(b.infos)
	t.HoldSharers(true)
	// Readers, and writers of what was read, may wait for something that never comes.
	stop := context.AfterFunc(ctx, t.Release)
	s.undo.add(func() error { stop(); return nil })
	if err := t.Stop(ctx); err != nil {
		return err
	}
	var lock error
	t.Do(func() { lock = t.MapsAreFree() })
	if lock != nil {
		return lock
	}
	if !b.sameProgram() { // it has executed another one in the meantime
		state := b.img.Process.State
		if err := b.program(); err != nil {
			return err
		}
		var err error
		if b.img.Process, err = b.p.Info(); err != nil {
			return err
		}
		b.img.Process.State = state
	}
	arch := b.img.Arch
	t.Begin(func() { s.addThreads(b.p.PID(), b.infos, t.Take(arch)) })
	return nil
}
