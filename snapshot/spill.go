package snapshot

import (
	"context"
	"iter"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/overlay"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/pipe"
)

// spillPatience is how long a store may take for one piece. Its disk may be busy.
const spillPatience = 3 * StuckPatience

// spill copies ascending ranges of a held process into a store, and lets the process go on.
// From then on these ranges are read from the store, and nothing else can be read.
func (s *Snapshot) spill(ctx context.Context, store Store, ranges []procmem.Range) error {
	spilled, err := overlay.New(0, store) // it holds nothing that is not in the store
	if err != nil {
		return err
	}
	var data []procmem.Range
	for _, r := range pageset.Merge(ranges) {
		spilled.Own(r)
		for d, err := range s.Data(r) {
			if err != nil {
				spilled.Miss(r, procmem.Cause(err))
				break
			}
			data = append(data, procmem.Range{Start: d.Start.PageDown(), End: (d.End + procmem.PageSize - 1).PageDown()})
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	tracer := s.tracer
	stuck := func() {
		cancel(ErrStuck)
		tracer.Release()
	}
	faults, err := pipe.New().Run(ctx, s.Sparse, extents(data), pipe.Work{Each: func(b *pipe.Block) error {
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
	var stored pageset.Set
	for _, d := range data {
		stored.Add(d)
	}
	for _, f := range faults {
		spilled.Miss(f.Range, f.Err)
		stored.Remove(f.Range)
	}
	for r := range stored.Ranges(everything) {
		spilled.MarkStored(r)
	}
	s.Image() // waits for the registers
	s.letGo()
	s.Sparse = spilled
	return spilled.Seal(s.img.Mappings, nil)
}

// extents yields ranges as a pipe takes them.
func extents(data []procmem.Range) iter.Seq[pipe.Extent] {
	return func(yield func(pipe.Extent) bool) {
		for _, d := range data {
			if !yield(pipe.Extent{Range: d}) {
				return
			}
		}
	}
}
