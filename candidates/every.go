package candidates

import (
	"context"
	"errors"
	"io"
	"iter"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/present"
	"github.com/procmem/procmem/search"
)

// EveryPosition makes a candidate of each position that a value can have, for a value of which
// nothing is known yet. These are all multiples of the alignment, in memory that a
// search.Searcher would search.
//
// It adds them to a Writer without candidates, which it does not close. It fails as that does,
// if mem is gone or cannot tell what it holds, or with the cause of ctx. Memory that cannot be
// read is among the Faults. Options.Context means nothing here.
func EveryPosition(ctx context.Context, mem procmem.Memory, o search.Options, to *Writer) (search.Stats, error) {
	var stats search.Stats
	there := present.NewPlan(mem, o.In, o.Swapped)
	next, stop := iter.Pull2(joined(there.Ranges()))
	defer stop()
	info := to.Info()
	jobs := make([]*scanJob, workers()+2)
	for i := range jobs {
		jobs[i] = &scanJob{mem: mem, info: &info, enc: newFrameEncoder(&info), buf: make([]byte, (runPages+1)*procmem.PageSize)}
	}
	cutter := cutter{next: next}
	err := inOrder(ctx, jobs, cutter.fill, (*scanJob).work, func(j *scanJob) error {
		for _, r := range j.parts {
			stats.Scanned += r.Size()
		}
		for _, f := range j.faults {
			if errors.Is(f.Err, procmem.ErrGone) {
				return f.Err
			}
			stats.Faults = procmem.AppendFault(stats.Faults, f)
		}
		return to.frames(&j.enc)
	})
	stats.Swapped = there.Swapped()
	return stats, err
}

// cutter cuts the extents of a plan into jobs, so that no two have to do with the same page.
type cutter struct {
	next func() (procmem.Range, error, bool)
	left procmem.Range // what is next, unless it is empty
	err  error         // why nothing is
}

// more makes sure that something is left.
func (c *cutter) more() error {
	for c.left.Empty() && c.err == nil {
		x, err, ok := c.next()
		if !ok {
			err = io.EOF
		}
		c.left, c.err = x, err
	}
	return c.err
}

// fill gives a job all that lies in its pages.
func (c *cutter) fill(j *scanJob) error {
	if err := c.more(); err != nil {
		return err
	}
	j.parts = j.parts[:0]
	j.base = c.left.Start.PageDown()
	last := j.base + min(runPages*procmem.PageSize-1, ^j.base)
	for c.more() == nil && c.left.Start <= last {
		part := c.left
		if part.End-1 > last {
			part.End = last + 1
		}
		j.parts = append(j.parts, part)
		j.beyond = min(c.left.End, part.End+procmem.Addr(j.info.size()-1))
		c.left.Start = part.End
	}
	return nil
}

// scanJob is memory all of which becomes candidates.
type scanJob struct {
	mem    procmem.Memory
	info   *Info
	base   procmem.Addr    // of buf
	parts  []procmem.Range // where candidates begin
	beyond procmem.Addr    // where those of the last part may end
	buf    []byte
	faults []procmem.Fault

	enc    frameEncoder
	number uint64 // of the page for which slots and values are
	slots  []uint16
	values []byte
}

// work reads the memory and encodes it.
func (j *scanJob) work() error {
	j.enc.reset()
	j.faults = j.faults[:0]
	for i, starts := range j.parts {
		r := starts
		if i == len(j.parts)-1 {
			r.End = j.beyond
		}
		var piece procmem.Range
		// No error: that would be one of the function, which has none.
		faults, _ := procmem.ReadFull(j.mem, r, j.buf[r.Start-j.base:r.End-j.base], func(a procmem.Addr, p []byte) error {
			if a != piece.End {
				j.piece(piece, starts.End)
				piece.Start = a
			}
			piece.End = a + procmem.Addr(len(p))
			return nil
		})
		j.piece(piece, starts.End)
		for _, f := range faults {
			if f.Range = f.Intersect(starts); !f.Empty() {
				j.faults = append(j.faults, f)
			}
		}
	}
	j.flush()
	return nil
}

// piece encodes memory without a gap; candidates begin below limit.
func (j *scanJob) piece(r procmem.Range, limit procmem.Addr) {
	size, unit := j.info.size(), j.enc.unit
	if r.Size() < uint64(size) {
		return
	}
	limit = min(limit, r.End-procmem.Addr(size-1))
	for page := r.Start.PageDown(); page >= j.base && page < limit; page += procmem.PageSize {
		from, to := max(page, r.Start), page+min(procmem.PageSize, limit-page)
		first, end := (int(from-page)+unit-1)/unit, (int(to-page)+unit-1)/unit
		if first >= end || int(uint64(page)/procmem.PageSize)%max(1, j.info.Align/procmem.PageSize) != 0 {
			continue
		}
		b, number := j.buf[page-j.base:], uint64(page)/procmem.PageSize
		if number != j.number {
			j.flush()
		}
		if unit == size && end-first == procmem.PageSize/unit {
			j.enc.page(number, nil, b[:procmem.PageSize])
			continue
		}
		j.number = number
		for i := first; i < end; i++ {
			j.slots = append(j.slots, uint16(i))
			j.values = append(j.values, b[i*unit:][:size]...)
		}
	}
}

// flush encodes the page of which not all positions are candidates, or those that go beyond it.
func (j *scanJob) flush() {
	if len(j.slots) > 0 {
		j.enc.page(j.number, j.slots, j.values)
		j.slots, j.values = j.slots[:0], j.values[:0]
	}
}

// joined yields ranges that ascend; neighbours are one.
func joined(ranges iter.Seq2[procmem.Range, error]) iter.Seq2[procmem.Range, error] {
	return func(yield func(procmem.Range, error) bool) {
		var last procmem.Range
		var failed error
		for r, err := range ranges {
			if err != nil {
				failed = err
				break
			}
			if r.Start == last.End {
				last.End = r.End
				continue
			}
			if !last.Empty() && !yield(last, nil) {
				return
			}
			last = r
		}
		if !last.Empty() && !yield(last, nil) {
			return
		}
		if failed != nil {
			yield(procmem.Range{}, failed)
		}
	}
}
