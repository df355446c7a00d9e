package process

import (
	"errors"
	"iter"
	"math"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/mappedfile"
	"github.com/procmem/procmem/internal/sys"
)

// Data implements procmem.Sparse.
func (v *View) Data(r procmem.Range) iter.Seq2[procmem.Range, error] { return v.data(r, 0) }

// Resident implements procmem.Resident. It reads nothing. Of files on a disk it also yields
// what has to be read from there.
func (v *View) Resident(r procmem.Range) iter.Seq2[procmem.Range, error] {
	return v.data(r, pageSwapped)
}

// data yields the parts of r that may hold data. skip is 0, or pageSwapped for only those in
// memory.
func (v *View) data(r procmem.Range, skip pageState) iter.Seq2[procmem.Range, error] {
	return func(yield func(procmem.Range, error) bool) {
		for i := procmem.FindMapping(v.spans, r.Start); i < len(v.spans) && v.spans[i].Start < r.End; i++ {
			m := &v.spans[i]
			if !v.mappingData(m, m.Range.Intersect(r), skip, yield) {
				return
			}
		}
	}
}

func (v *View) mappingData(m *procmem.Mapping, r procmem.Range, skip pageState, yield func(procmem.Range, error) bool) bool {
	byFile := m.HasFile() && (m.Shared() || m.Flags&procmem.VMHugeTLB == 0)
	if skip != 0 && (byFile || m.Flags&procmem.VMUffdMiss != 0) {
		yield = v.inMemory(m, yield)
	}
	switch {
	case m.Device():
		return true
	case m.Special(), m.Flags&procmem.VMUffdMiss != 0:
		return yield(r, nil)
	case byFile:
		f, release := v.back.File(m)
		defer release()
		yield = v.withoutGuards(yield)
		if f == nil {
			return yield(r, nil)
		}
		return v.fileData(f, m, r, yield)
	case untouched(m) && v.stopped:
		return true // spares old kernels reading the pagemap of a terabyte
	case skip != 0 && full(m):
		return yield(r, nil)
	}
	for run, err := range v.pm.runs(r, 0) {
		if err != nil {
			return yield(procmem.Range{}, err) && false
		}
		if run.State&(pageGuard|pageZero|skip) != 0 {
			continue
		}
		if !yield(run.Range.Intersect(r), nil) {
			return false
		}
	}
	return true
}

// full reports whether each page of a mapping was in memory when the view was made. Looking for
// a page that has gone since does no harm: it reads as zeros.
func full(m *procmem.Mapping) bool { return m.Usage != nil && m.Usage.RSS == m.Size() }

// inMemory returns a yield that leaves out the swapped-out parts of a mapping.
func (v *View) inMemory(m *procmem.Mapping, yield func(procmem.Range, error) bool) func(procmem.Range, error) bool {
	return func(r procmem.Range, err error) bool {
		if err != nil {
			return yield(r, err)
		}
		for out, err := range v.swapped(m, r) {
			if err != nil {
				return yield(procmem.Range{}, err) && false
			}
			if out.Start > r.Start && !yield(procmem.Range{Start: r.Start, End: out.Start}, nil) {
				return false
			}
			r.Start = max(r.Start, out.End)
		}
		return r.Empty() || yield(r, nil)
	}
}

// swapped yields the parts of r, data of a mapping, that are swapped out.
func (v *View) swapped(m *procmem.Mapping, r procmem.Range) iter.Seq2[procmem.Range, error] {
	return func(yield func(procmem.Range, error) bool) {
		if m.Shared() {
			v.swappedShared(m, r, yield)
			return
		}
		for run, err := range v.pm.runs(r, 0) {
			if (err != nil || run.State&pageSwapped != 0) && !yield(run.Range.Intersect(r), err) {
				return
			}
		}
	}
}

// swappedShared is swapped for shared memory. Its page tables do not tell whether a page is
// swapped out or was never touched by this process. Only the file does.
func (v *View) swappedShared(m *procmem.Mapping, r procmem.Range, yield func(procmem.Range, error) bool) {
	file, release := v.back.File(m)
	defer release()
	f, local := file.(mappedfile.Local)
	if !local || m.Usage == nil || m.Usage.Swap == 0 {
		return
	}
	const most = 64 << 20
	for a := baseDown(r.Start); a < r.End; a += most {
		n := baseDown(min(most, r.End-a) + basePage - 1)
		in, err := sys.InCore(int(f.Fd()), int64(m.Offset+uint64(a-m.Start)), int(n))
		if err != nil {
			return // all of it may be in memory
		}
		for i, in := range in {
			at := a + procmem.Addr(i)*basePage
			if in&1 == 0 && !yield(procmem.Range{Start: at, End: at + basePage}.Intersect(r), nil) {
				return
			}
		}
	}
}

// withoutGuards returns a yield that leaves out the guards of a file mapping. The process has
// nothing there, whatever the file has.
func (v *View) withoutGuards(yield func(procmem.Range, error) bool) func(procmem.Range, error) bool {
	return func(r procmem.Range, err error) bool {
		if err != nil {
			return yield(r, err)
		}
		for g, err := range v.pm.guards(r) {
			if err != nil {
				return yield(procmem.Range{}, err) && false
			}
			if g.Start > r.Start && !yield(procmem.Range{Start: r.Start, End: g.Start}, nil) {
				return false
			}
			r.Start = min(g.End, r.End)
		}
		return r.Empty() || yield(r, nil)
	}
}

// fileData yields the parts of r, of a mapping of f, that may hold data. For a private mapping,
// these are what the file has and, in its holes, the pages of the process.
func (v *View) fileData(f mappedfile.File, m *procmem.Mapping, r procmem.Range, yield func(procmem.Range, error) bool) bool {
	if m.Shared() {
		return fileExtents(f, m, r, yield)
	}
	at := r.Start
	pagesTo := func(end procmem.Addr) bool {
		hole := procmem.Range{Start: at, End: end}
		for run, err := range v.pm.runs(hole, 0) {
			if err != nil {
				return yield(procmem.Range{}, err) && false
			}
			if run.State&(pageGuard|pageZero) == 0 && !yield(run.Range.Intersect(hole), nil) {
				return false
			}
		}
		return true
	}
	goesOn := fileExtents(f, m, r, func(d procmem.Range, err error) bool {
		if err == nil && at < d.Start && !pagesTo(d.Start) {
			return false
		}
		at = d.End
		return yield(d, err)
	})
	return goesOn && (at >= r.End || pagesTo(r.End))
}

// fileExtents yields the parts of r that are data in the file and not holes. Beyond the end of
// the file nothing can be read, so it yields nothing there.
func fileExtents(f mappedfile.File, m *procmem.Mapping, r procmem.Range, yield func(procmem.Range, error) bool) bool {
	base := m.Offset - uint64(m.Start) // modulo 2^64: file offset = base + address
	end := base + uint64(r.End)
	if end > math.MaxInt64 {
		return true
	}
	size, err := f.Size()
	if err != nil {
		return yield(r, nil)
	}
	end = min(end, uint64(baseDown(procmem.Addr(size)+basePage-1)))
	for off := base + uint64(r.Start); off < end; {
		data, h, err := f.SeekData(int64(off))
		if errors.Is(err, unix.ENXIO) {
			return true
		}
		hole := int64(end)
		if err != nil || uint64(data) < off {
			data = int64(off) // the file system cannot tell: all of it may be data
		} else if h > data {
			hole = min(h, int64(end))
		}
		lo := uint64(data) &^ (procmem.PageSize - 1)
		hi := min(end, (uint64(hole)+procmem.PageSize-1)&^(procmem.PageSize-1))
		if lo >= end {
			return true
		}
		if !yield(procmem.Range{Start: procmem.Addr(max(lo, off) - base), End: procmem.Addr(hi - base)}, nil) {
			return false
		}
		off = hi
	}
	return true
}
