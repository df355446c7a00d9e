package snapshot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/dirty"
	"github.com/procmem/procmem/internal/inject"
	"github.com/procmem/procmem/internal/pageset"
)

// ErrBusy reports that memory is written faster than it can be copied.
var ErrBusy = errors.New("the process writes its memory faster than it can be copied within the bound of the pause")

// Bounds of precopy.
const (
	maxRounds = 16
	maxVain   = 2
	// A process writes about restBytes while a pause begins. With less left, another round is
	// of no use.
	restBytes = 256 << 10
)

// errNoStore says why nothing can be copied while the process goes on.
var errNoStore = errors.New("there is no room to keep the memory that is copied early")

// precopy copies memory while the process goes on, and holds it for the rest.
func (f *pauser) precopy(ctx context.Context) error {
	if err := f.canTrackByFaults(); err != nil {
		if berr := f.canUseBits(); berr != nil {
			return fmt.Errorf("%w; %w", err, berr)
		}
		return f.precopyByBits(ctx)
	}
	k, err := f.beginTracking(ctx)
	if err != nil {
		if inject.Never(err) && f.canUseBits() == nil {
			return f.precopyByBits(ctx)
		}
		return err
	}
	for try := 0; ; try++ {
		rest, err := f.rounds(ctx)
		if errors.Is(err, procmem.ErrGone) && !errors.Is(err, inject.ErrExec) {
			err = f.lost()
		}
		if err != nil {
			return err
		}
		err = f.pauseFor(ctx, rest)
		if err == nil {
			k.Leave() // while the core is being written
		}
		tooMuch := errors.Is(err, errTooMuch)
		switch {
		case tooMuch && try == maxTries:
			return ErrBusy
		case !tooMuch:
			return err
		}
	}
}

// beginTracking has the process make a userfaultfd. The helper holds it, too.
func (f *pauser) beginTracking(ctx context.Context) (*inject.Helper, error) {
	if f.store == nil {
		return nil, errNoStore
	}
	k, err := inject.Start(f.p, inject.Job{Task: inject.TaskTrack})
	if err != nil {
		return nil, err
	}
	f.s.undo.add(k.Close)
	uffd, held, err := k.Userfaultfd(ctx)
	if f.s.pause += held; err != nil {
		return nil, err
	}
	if f.tracker, err = dirty.New(f.p, uffd, f.view, f.store); err != nil {
		return nil, err
	}
	f.s.undo.add(f.tracker.Close)
	return k, nil
}

// rounds copies until the rest fits the bound of the pause. It returns about how many bytes
// that rest has.
func (f *pauser) rounds(ctx context.Context) (rest uint64, err error) {
	var last uint64
	vain := 0 // number of rounds that left hardly less than the round before
	for round := 1; ; round++ {
		if err := f.plan(); err != nil {
			return 0, err
		}
		f.o.step(StepRound, f.s.Rounds+1)
		f.tracker.Register(f.trackable())
		f.tracker.Files = f.privateFiles()
		f.tracker.Own = f.ownMappings()
		began := time.Now()
		f.tracker.Check = nil
		if round == 1 {
			f.tracker.WorkAhead(f.s.Rounds == 0)
			f.tracker.Check = f.watch(began)
		}
		written, err := f.tracker.Round(ctx, f.wanted)
		f.tracker.WorkAhead(false)
		if err == nil {
			var shared dirty.Work
			shared, err = f.roundShared(ctx)
			written.Bytes += shared.Bytes
			written.Runs += shared.Runs
		}
		if err != nil {
			return 0, err
		}
		f.s.Rounds++
		took := time.Since(began)
		little := written.Bytes <= restBytes
		if round > 1 && written.Bytes > last/4*3 {
			vain++ // a machine that is busy for a moment causes this, too
		}
		if round > 1 && (little || vain == maxVain || round == maxRounds) {
			if little || f.o.MaxPause == 0 || f.estimate(written) <= f.o.MaxPause {
				return written.Bytes, nil
			}
			return 0, fmt.Errorf("%w: %d MiB in the last %v", ErrBusy, written.Bytes>>20, took.Round(time.Millisecond))
		}
		last = written.Bytes
	}
}

// watch returns a check for the first round. If much of what was copied is written again,
// working ahead is of no use. If most of it is, the round ends.
func (f *pauser) watch(began time.Time) func(procmem.Addr) error {
	const every = 100 * time.Millisecond
	next := began.Add(every)
	return func(upTo procmem.Addr) error {
		now := time.Now()
		if now.Before(next) || !f.tracker.Ahead() && f.o.MaxPause == 0 {
			return nil
		}
		written, blocks, all := f.tracker.WrittenBelow(upTo)
		next = time.Now().Add(max(every, 20*time.Since(now)))
		if f.tracker.Ahead() {
			// A busy process writes a few blocks all the time.
			f.tracker.WorkAhead(blocks <= 16 || blocks*dirty.AheadBatch <= all*procmem.PageSize/8)
			return nil // without it the round is faster
		}
		if written > all/2 && f.estimate(dirty.Work{Bytes: written * procmem.PageSize}) > f.o.MaxPause {
			return fmt.Errorf("%w: most of what was copied in the first %v was written again", ErrBusy, time.Since(began).Round(time.Millisecond))
		}
		return nil
	}
}

// privateFiles returns the ranges in which pages may be a file's.
func (f *pauser) privateFiles() (out []procmem.Range) {
	for i := range f.maps {
		if m := &f.maps[i]; m.HasFile() && dirty.Private(m) {
			out = append(out, m.Range)
		}
	}
	return out
}

// ownMappings returns the ranges in which written pages are the process's own.
func (f *pauser) ownMappings() (out []procmem.Range) {
	for i := range f.maps {
		if m := &f.maps[i]; ownMapping(m) {
			out = append(out, m.Range)
		}
	}
	return out
}

// trackable returns the mappings whose writes are to be tracked.
func (f *pauser) trackable() (out []procmem.Mapping) {
	for i := range f.maps {
		m := &f.maps[i]
		const foreign = procmem.VMUffdMiss | procmem.VMUffdWP // another userfaultfd's
		if dirty.Private(m) && (m.Flags&foreign == 0 || pageset.Covers(f.tracker.Ranges, m.Range)) && pageset.Overlaps(f.wanted, m.Range) {
			out = append(out, *m)
		}
	}
	return out
}
