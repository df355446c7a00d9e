package snapshot

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/dirty"
	"github.com/procmem/procmem/internal/inject"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/ptracer"
)

// Where the kernel has no asynchronous write protection (before 6.7), or no system call can be
// run in the process, precopy goes by the soft-dirty bits of the page tables (dirty.Bits). They
// can only be cleared all at once: before the first round, and later while all threads are held.
// So there are few more rounds (maxBitsRounds), and only where they make the pause shorter.

// precopyByBits is precopy by soft-dirty bits.
func (f *pauser) precopyByBits(ctx context.Context) error {
	if err := f.beginBits(); err != nil {
		return err
	}
	rest, err := f.bitsRounds(ctx)
	if err != nil {
		return err
	}
	if err = f.pauseFor(ctx, rest); errors.Is(err, errTooMuch) {
		return ErrBusy
	}
	return err
}

// beginBits clears the bits of the process.
func (f *pauser) beginBits() (err error) {
	if f.store == nil {
		return errNoStore
	}
	if f.bits, err = dirty.NewBits(f.p, f.view, f.store); err != nil {
		return err
	}
	f.s.undo.add(f.bits.Close)
	if err := f.plan(); err != nil {
		return err
	}
	return f.bits.Clear(f.maps)
}

// bitsRounds copies until another round would not make the pause shorter. It returns about how
// many bytes are left.
func (f *pauser) bitsRounds(ctx context.Context) (rest uint64, err error) {
	for again := f.s.Rounds > 0; ; again = true {
		if again {
			if err := f.clearAgain(ctx); err != nil {
				return 0, err
			}
		}
		written, err := f.bitsRound(ctx)
		if err != nil {
			return 0, err
		}
		left := f.estimate(written)
		if f.s.Rounds < maxBitsRounds && left > f.lookTime()+f.clearTime() {
			continue
		}
		if f.o.MaxPause > 0 && left+f.lookTime() > f.o.MaxPause {
			return 0, fmt.Errorf("%w: %d MiB in the last round", ErrBusy, written.Bytes>>20)
		}
		return written.Bytes, nil
	}
}

// maxBitsRounds bounds the number of rounds. Each but the first is begun while all threads are
// held.
const maxBitsRounds = 3

// bitsRound copies what is not copied, and returns what was written meanwhile.
func (f *pauser) bitsRound(ctx context.Context) (written dirty.Work, err error) {
	if err := f.plan(); err != nil {
		return written, err
	}
	f.o.step(StepRound, f.s.Rounds+1)
	ranges := f.wantedBits()
	if _, err = f.bits.Round(ctx, ranges); err == nil {
		written, err = f.bits.Written(ctx, ranges, f.maps)
	}
	if errors.Is(err, procmem.ErrGone) {
		err = f.lost()
	}
	f.s.Rounds++
	return written, err
}

// wantedBits returns the ranges that are wanted and tracked.
func (f *pauser) wantedBits() (out []procmem.Range) {
	for i := range f.maps {
		m := &f.maps[i]
		if !clearable(m) {
			continue
		}
		for k := pageset.Index(f.wanted, m.Start); k < len(f.wanted) && f.wanted[k].Start < m.End; k++ {
			out = append(out, f.wanted[k].Intersect(m.Range))
		}
	}
	return out
}

// clearAgain holds all threads, finds out what was written, and clears the bits.
func (f *pauser) clearAgain(ctx context.Context) (err error) {
	f.o.step(StepPause, 0)
	s := f.s
	s.tracer = ptracer.New(f.p)
	s.tracer.Known = known(f.infos)
	s.tracer.HoldSharers(true)
	s.Unheld = nil
	s.tracer.Do(func() {
		if err = f.stopAll(ctx); err == nil {
			err = f.forgetWritten()
		}
		s.tracer.LetAllGo()
	})
	s.letGo()
	return err
}

// stopAll stops the process, which must still execute the same program.
func (f *pauser) stopAll(ctx context.Context) error {
	if err := f.s.tracer.StopAll(ctx); err != nil {
		return err
	}
	if err := f.s.tracer.MapsAreFree(); err != nil {
		return err
	}
	f.s.taken = time.Now()
	if !f.sameProgram() {
		return inject.ErrExec
	}
	return nil
}

// forgetWritten forgets the copies of pages that were written, and clears the bits of all.
func (f *pauser) forgetWritten() error {
	text, err := f.readMaps()
	if err != nil {
		return err
	}
	if !bytes.Equal(text, f.text) {
		if _, err = f.update(text); err != nil {
			return err
		}
		f.text = nil // the next plan has to see what is fresh
	}
	if err := f.bits.Check(); err != nil {
		return err
	}
	look, err := f.bits.Look(context.Background(), f.clearable(), f.maps)
	if err != nil {
		return err
	}
	f.bits.Forget(look)
	return f.bits.Clear(f.maps)
}

// Rough costs of the bits of a page, in the pause.
const (
	entryTime = 15 * time.Nanosecond // to read its entry
	clearTime = 20 * time.Nanosecond // to clear its bit
)

func (f *pauser) pagesPresent() (n time.Duration) {
	for i := range f.maps {
		if u := f.maps[i].Usage; u != nil {
			n += time.Duration(u.RSS / procmem.PageSize)
		}
	}
	return n
}

func (f *pauser) lookTime() time.Duration { return f.pagesPresent() * entryTime }

func (f *pauser) clearTime() time.Duration { return pauseBase + f.pagesPresent()*clearTime }

// canUseBits returns why writes cannot be tracked by soft-dirty bits.
func (l *look) canUseBits() error {
	if err := cmp.Or(dirty.SoftDirty(), l.countable()); err != nil {
		return err
	}
	refs, err := l.p.OpenClearRefs()
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("its soft-dirty bits are its user's to clear, or take CAP_DAC_OVERRIDE: %w", err)
	} else if err != nil {
		return err
	}
	return refs.Close()
}

// canTrackByFaults returns why writes cannot be tracked by a userfaultfd.
func (l *look) canTrackByFaults() error {
	if err := canTrack(); err != nil {
		return err
	}
	return canCall(l.p, l.img.Arch)
}
