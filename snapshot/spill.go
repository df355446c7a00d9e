package snapshot

import (
	"context"
	"iter"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/pipe"
)

// spillPatience is how long a store may take for one piece. Its disk may be busy.
const spillPatience = 3 * StuckPatience

// spill copies ascending ranges of a held process into a store, and lets the process go on.
// From then on these ranges are read from the store, and nothing else can be read.
func (s *Snapshot) spill(ctx context.Context, store Store, ranges []procmem.Range) error {
	spilled := &overlay{maps: s.img.Mappings, own: pageset.Merge(ranges), arena: &arena{}, store: store, base: nothing{}}
	for _, r := range spilled.own {
		for d, err := range s.Data(r) {
			if err != nil {
				spilled.arena.miss(r, procmem.Cause(err))
				break
			}
			spilled.data = append(spilled.data, procmem.Range{Start: d.Start.PageDown(), End: (d.End + procmem.PageSize - 1).PageDown()})
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	tracer := s.tracer
	stuck := func() {
		cancel(ErrStuck)
		tracer.Release()
	}
	faults, err := pipe.New().Run(ctx, s.Sparse, spilled.plan(), pipe.Work{Each: func(b *pipe.Block) error {
		for _, p := range b.Pieces {
			timer := time.AfterFunc(spillPatience, stuck)
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
	for _, d := range spilled.data {
		spilled.held.Add(d)
	}
	for _, f := range faults {
		spilled.arena.fault(f.Range, f.Err)
		spilled.held.Remove(f.Range)
	}
	s.Image() // waits for the registers
	s.letGo()
	s.Sparse = spilled
	return spilled.seal()
}

// plan yields the ranges of an overlay that are to be copied.
func (o *overlay) plan() iter.Seq[pipe.Extent] {
	return func(yield func(pipe.Extent) bool) {
		for _, d := range o.data {
			if !yield(pipe.Extent{Range: d}) {
				return
			}
		}
	}
}

// nothing is a procmem.Sparse that holds nothing.
type nothing struct{}

func (nothing) Mappings() ([]procmem.Mapping, error) { return nil, nil }

func (nothing) ReadAt(_ []byte, addr procmem.Addr) (int, error) {
	return 0, &procmem.FaultError{Addr: addr, Err: procmem.ErrNotDumped}
}

func (nothing) Data(procmem.Range) iter.Seq2[procmem.Range, error] {
	return func(func(procmem.Range, error) bool) {}
}
