package snapshot

import (
	"bytes"
	"context"
	"errors"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/overlay"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/ptracer"
)

// errTooMuch reports that a pause would have exceeded its bound, and was ended at once.
var errTooMuch = errors.New("more was written than can be copied within the bound of the pause")

// pauseFor holds the process, copies what has not been copied, and lets it go on. rest is about
// the number of bytes to copy. errTooMuch reports that there was more than the bound allows,
// and that nothing was kept.
func (f *pauser) pauseFor(ctx context.Context, rest uint64) (err error) {
	s := f.s
	ov, err := overlay.New(2*rest+f.inPause+(1<<20), bounded(ctx, f.store))
	if err != nil {
		return err
	}
	f.o.step(StepPause, 0)
	s.tracer = ptracer.New(f.p)
	s.tracer.Known = known(f.infos)
	s.tracer.HoldSharers(true)
	s.Unheld = nil
	var m *pausePlan
	var threads []ptracer.Taken
	// One thread does all of it, because handing over takes time on a busy machine.
	s.tracer.Do(func() {
		if m, err = f.hold(ctx, ov); err == nil {
			threads = s.tracer.Take(f.img.Arch)
		}
		s.tracer.LetAllGo()
	})
	s.letGo()
	if err != nil {
		ov.Close()
		return err
	}
	s.undo.add(func() error { ov.Close(); return nil })
	s.threads = nil
	s.addThreads(f.p.PID(), f.infos, threads)
	f.lookAgain()
	f.tearPinned()
	if err := f.settle(ov, m); err != nil {
		return err
	}
	s.tearCalls(ptracer.Calls(threads), s.Sparse)
	return nil
}

// hold stops the process and copies what has not been copied. It runs on the tracing thread.
func (f *pauser) hold(ctx context.Context, ov *overlay.Memory) (*pausePlan, error) {
	if err := f.stopAll(ctx); err != nil {
		return nil, err
	}
	if f.bits != nil {
		if err := f.bits.Check(); err != nil {
			return nil, err
		}
	}
	text, err := f.readMaps()
	if err != nil {
		return nil, err
	}
	var fresh []procmem.Range
	if !bytes.Equal(text, f.text) {
		if fresh, err = f.update(text); err != nil {
			return nil, err
		}
	}
	if err := f.scan(); err != nil {
		return nil, err
	}
	m, err := f.classify(ov, fresh)
	if err != nil {
		return nil, err
	}
	if f.o.MaxPause > 0 && f.estimate(m.work()) > f.o.MaxPause {
		f.text = nil // the next plan has to see what is fresh
		return nil, errTooMuch
	}
	m.copy()
	return m, ov.Err()
}

// settle makes the moment the memory of the snapshot. The store forgets what it has of other
// moments.
func (f *pauser) settle(ov *overlay.Memory, m *pausePlan) error {
	for _, r := range m.known {
		ov.MarkStored(r)
	}
	if err := ov.Seal(f.maps, f.view.Backing(f.maps)); err != nil {
		return err
	}
	if stored := f.stored(); stored != nil {
		for have := range stored.Ranges(everything) {
			for stale := range ov.Stored().Gaps(have) {
				if err := f.store.Forget(stale); err != nil {
					return err
				}
			}
		}
	}
	f.s.img.Mappings, f.s.Sparse = f.maps, ov
	return nil
}

// stored returns the pages that were put into the store; nil for none.
func (f *pauser) stored() *pageset.Set {
	switch {
	case f.tracker != nil:
		return &f.tracker.Stored
	case f.bits != nil:
		return &f.bits.Stored
	}
	return nil
}
