package snapshot

import (
	"context"
	"iter"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/pipe"
)

// keepPatience is how long a store may take for one piece. What it is for may be a disk
// that is busy.
const keepPatience = 3 * StuckPatience

// Keep copies the memory of ascending ranges into a store and lets the process
// go on: they are read from there from now on, and nothing else can be. It is
// for a process that is held and whose memory goes to where it may have to
// wait. Where the process goes on already, it does nothing.
func (s *Snapshot) Keep(ctx context.Context, store Store, ranges []procmem.Range) error {
	if s.tracer == nil {
		return nil
	}
	kept := &overlay{maps: s.img.Mappings, own: pageset.Merge(ranges), arena: &arena{}, store: store, base: nothing{}}
	for _, r := range kept.own {
		for d, err := range s.Data(r) {
			if err != nil {
				kept.arena.miss(r, procmem.Cause(err))
				break
			}
			kept.data = append(kept.data, procmem.Range{Start: d.Start.PageDown(), End: (d.End + procmem.PageSize - 1).PageDown()})
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	tracer := s.tracer
	stuck := func() {
		cancel(ErrStuck)
		tracer.Release()
	}
	faults, err := pipe.New().Run(ctx, s.Sparse, kept.plan(), pipe.Work{Each: func(b *pipe.Block) error {
		for _, p := range b.Pieces {
			timer := time.AfterFunc(keepPatience, stuck)
			err := store.Put(p.Addr, p.Bytes)
			if timer.Stop(); err != nil {
				return err
			}
		}
		return nil
	}})
	if err != nil {
		return err
	}
	for _, d := range kept.data {
		kept.held.Add(d)
	}
	for _, f := range faults {
		kept.arena.fault(f.Range, f.Err)
		kept.held.Remove(f.Range)
	}
	s.Image() // waits for the registers
	s.Release()
	s.Sparse = kept
	return kept.seal()
}

// plan yields what of an overlay is to be copied.
func (o *overlay) plan() iter.Seq[pipe.Extent] {
	return func(yield func(pipe.Extent) bool) {
		for _, d := range o.data {
			if !yield(pipe.Extent{Range: d}) {
				return
			}
		}
	}
}

// nothing is memory that holds nothing.
type nothing struct{}

func (nothing) Mappings() ([]procmem.Mapping, error) { return nil, nil }

func (nothing) ReadAt(_ []byte, addr procmem.Addr) (int, error) {
	return 0, &procmem.FaultError{Addr: addr, Err: procmem.ErrNotDumped}
}

func (nothing) Data(procmem.Range) iter.Seq2[procmem.Range, error] {
	return func(func(procmem.Range, error) bool) {}
}
