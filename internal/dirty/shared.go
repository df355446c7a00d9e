package dirty

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/sys"
)

// Shared is shared memory of one process to which no other process writes: a file that is on no
// disk. Several addresses may show the same page, so pages are known by their offset in the
// file.
//
// A page is as it was copied if it is protected in all mappings that may write. An absent page
// is protected, too, if a marker is in its place. A page fault turns that into a page that is
// written or protected. A page that is absent without a marker may have been written and
// dropped from the page tables since, and is not trusted. Only the file tells that such a page
// exists.
type Shared struct {
	Maps  []procmem.Mapping // all of the file's, ascending
	Data  pageset.Set       // offsets of pages that existed when the last round began
	Pages uint64            // number of pages that the file had then
	stale pageset.Set       // offsets of pages that some mapping did not protect then
	seen  map[procmem.Range]uint64
	still map[procmem.Range]bool // mappings that never may write
}

// Offset returns the offset in its file of an address of a mapping.
func Offset(m *procmem.Mapping, a procmem.Addr) procmem.Addr {
	return procmem.Addr(m.Offset) + (a - m.Start)
}

// Offsets returns the offsets in its file of a part of a mapping.
func Offsets(m *procmem.Mapping, r procmem.Range) procmem.Range {
	return procmem.Range{Start: Offset(m, r.Start), End: Offset(m, r.End)}
}

// At returns the addresses in a mapping of a range of offsets in its file.
func At(m *procmem.Mapping, r procmem.Range) procmem.Range {
	return procmem.Range{Start: r.Start - procmem.Addr(m.Offset) + m.Start, End: r.End - procmem.Addr(m.Offset) + m.Start}
}

// MayWrite reports whether the process may write through a mapping, now or later. It reports
// true until the kernel has refused the mapping as one that never can.
func (o *Shared) MayWrite(m *procmem.Mapping) bool {
	return !o.still[m.Range] && (m.Flags == 0 || m.Flags&procmem.VMMayWrite != 0)
}

// RoundShared protects shared memory that has been written, and copies what is wanted of it.
// mem reads the backing memory of the mappings. The result says how much was copied. It fails
// if mem, the store or the kernel does, and with procmem.ErrGone.
//
// All mappings are protected before anything is copied. So a copy is never older than a write
// that goes unnoticed.
func (t *Tracker) RoundShared(ctx context.Context, o *Shared, mem procmem.Sparse, wanted []procmem.Range) (written Work, err error) {
	o.Data.Clear()
	o.stale.Clear()
	seen := make(map[procmem.Range]uint64, len(o.Maps))
	for i := range o.Maps {
		m := &o.Maps[i]
		if offset, ok := o.seen[m.Range]; !ok || offset != m.Offset {
			t.forget(m.Range)
		}
		seen[m.Range] = m.Offset
		for d, err := range mem.Data(m.Range) {
			if err != nil {
				return written, err
			}
			o.Data.Add(Offsets(m, procmem.Range{Start: d.Start.PageDown(), End: (d.End + procmem.PageSize - 1).PageDown()}))
		}
	}
	o.seen = seen
	for i := range o.Maps { // a page that is gone may be another one later
		for gap := range o.Data.Gaps(Offsets(&o.Maps[i], o.Maps[i].Range)) {
			t.forget(At(&o.Maps[i], gap))
		}
	}
	for i := range o.Maps {
		if err := t.protect(ctx, o, &o.Maps[i]); err != nil {
			return written, err
		}
	}
	defer func() {
		if derr := t.drain(); err == nil {
			err = derr
		}
	}()
	for i := range o.Maps {
		m := &o.Maps[i]
		for k := pageset.Index(wanted, m.Start); k < len(wanted) && wanted[k].Start < m.End; k++ {
			more, err := t.copyShared(ctx, o, m, wanted[k].Intersect(m.Range), mem)
			if written.add(more); err != nil {
				return written, err
			}
		}
	}
	return written, nil
}

// protect protects the pages of a mapping that exist in the file, and notes those that were not
// protected.
func (t *Tracker) protect(ctx context.Context, o *Shared, m *procmem.Mapping) error {
	if !o.MayWrite(m) {
		return nil
	}
	for d := range o.Data.Ranges(Offsets(m, m.Range)) {
		tries := 0
		for r := At(m, d); !r.Empty(); {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			step := procmem.Range{Start: r.Start, End: min(r.End, (r.Start|(scanStep-1))+1)}
			end, err := t.protectStep(o, m, step)
			switch {
			case errors.Is(err, unix.EPERM) && tries < maxTries && t.coverShared(o, m):
				tries++
				continue
			case errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOENT): // the mapping is changing: all of it counts as written
				o.stale.Add(Offsets(m, r))
				end = r.End
			case errors.Is(err, unix.ESRCH):
				return procmem.ErrGone
			case err != nil:
				return fmt.Errorf("protect shared memory at %v: %w", r.Start, err)
			}
			if !o.MayWrite(m) {
				return nil
			}
			r.Start = end
		}
	}
	return nil
}

// protectStep is protect for one step. It returns the address that it reached.
func (t *Tracker) protectStep(o *Shared, m *procmem.Mapping, r procmem.Range) (procmem.Addr, error) {
	n, end, err := sys.PagemapQuery(t.pm.Fd(), sys.Scan{Start: uint64(r.Start), End: uint64(r.End),
		Return: sys.PageWritten | sys.PageTracked, Protect: true, Tracked: true}, t.vec)
	if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
		// An interrupted scan does not say what it has protected.
		o.stale.Add(Offsets(m, r))
		return r.Start, nil
	}
	if err != nil {
		return r.Start, err
	}
	for _, v := range t.vec[:n] {
		if v.Categories&sys.PageWritten != 0 {
			o.stale.Add(Offsets(m, procmem.Range{Start: procmem.Addr(v.Start), End: procmem.Addr(v.End)}))
		}
	}
	if end <= uint64(r.Start) {
		return r.Start, errors.New("nothing was looked at")
	}
	return procmem.Addr(end), nil
}

// coverShared has a shared mapping tracked, and reports whether another try to protect it is of
// use.
func (t *Tracker) coverShared(o *Shared, m *procmem.Mapping) bool {
	if !t.boundaries.are(m.Range) {
		return false
	}
	err := sys.UffdRegister(t.uffd, uint64(m.Start), uint64(m.End))
	if errors.Is(err, unix.EPERM) { // the file was opened for reading
		if o.still == nil {
			o.still = make(map[procmem.Range]bool)
		}
		o.still[m.Range] = true
		return true
	}
	return err == nil
}

// copyShared copies what was written of a part of a shared mapping.
func (t *Tracker) copyShared(ctx context.Context, o *Shared, m *procmem.Mapping, r procmem.Range, mem procmem.Memory) (written Work, err error) {
	for d := range o.Data.Ranges(Offsets(m, r)) {
		at := At(m, d)
		for s := range o.stale.Ranges(d) {
			t.forget(At(m, s))
		}
		var missing []procmem.Range // the set changes while batches are finished
		for gap := range t.Copied.Gaps(at) {
			missing = append(missing, gap)
		}
		for _, gap := range missing {
			if ctx.Err() != nil {
				return written, context.Cause(ctx)
			}
			written.add(Work{gap.Size(), 1})
			if err := t.copyRun(gap, mem); err != nil {
				return written, err
			}
		}
	}
	return written, nil
}
