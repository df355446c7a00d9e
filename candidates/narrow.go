package candidates

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"slices"
	"sync/atomic"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
)

// Change is what has become of a value since it was last looked at.
type Change uint8

// The changes. Values have changed where their bytes have; they have increased or decreased as
// numbers, which is never true of a NaN.
const (
	AnyChange Change = iota // none is asked for
	Changed
	Unchanged
	Increased
	Decreased
)

// Narrowing says which candidates stay, and what becomes of them.
type Narrowing struct {
	Change Change
	// Value reports whether a candidate may hold this value now, as search.Pattern.Holds does;
	// nil allows all. It must be safe for concurrent use.
	Value func(now []byte) bool
	// In is where candidates stay, ascending and without overlaps; nil is everywhere.
	In []procmem.Range
	// Swapped has memory read that is swapped out. Else its candidates stay, with the value
	// they had.
	Swapped bool
	// Save takes the candidates that stay, with the value they have now; nil takes none. Its
	// Info must be that of the Reader, but for the Origin. It is not closed.
	Save *Writer
	// Each is called for those that stay and were read, ascending, until it returns false; nil
	// takes none.
	Each func(Candidate) bool
}

// Narrowed is what Narrow has made of the candidates, as numbers of them.
type Narrowed struct {
	Before  uint64
	Kept    uint64 // of them, those that were not read included
	Swapped uint64 // not read because they are swapped out
	Lost    uint64 // could not be read
}

// Narrow looks at the candidates of from in mem, and keeps those that n allows. It fails as
// from and n.Save do, if mem is gone or cannot tell what it holds, or with the cause of ctx.
// What n.Save has taken is useless then.
func Narrow(ctx context.Context, mem procmem.Memory, from *Reader, n Narrowing) (Narrowed, error) {
	var stats Narrowed
	info := from.Info()
	var stopped atomic.Bool // results for Each
	stopped.Store(n.Each == nil)
	jobs := make([]*narrowJob, workers()+2)
	for i := range jobs {
		jobs[i] = newNarrowJob(&info, mem, &n)
	}
	err := inOrder(ctx, jobs, func(j *narrowJob) (err error) {
		j.raw, err = from.frame(j.raw)
		if err != nil {
			return err
		}
		j.results = !stopped.Load()
		// Decoded here, for the next frame must begin above this one.
		return from.decode(&j.old, j.raw)
	}, (*narrowJob).work, func(j *narrowJob) error {
		stats.Before += uint64(len(j.old.slots))
		stats.Kept += uint64(len(j.kept.slots))
		stats.Swapped += j.swapped
		stats.Lost += j.lost
		if !stopped.Load() {
			for c := range j.found() {
				if !n.Each(c) {
					stopped.Store(true)
					break
				}
			}
		}
		if n.Save == nil {
			return nil
		}
		return n.Save.frames(&j.enc)
	})
	return stats, err
}

// condition returns what is asked of a value that was old.
func (n *Narrowing) condition(info *Info) func(old, now []byte) bool {
	less := info.Type.Less(info.Options())
	return func(old, now []byte) bool {
		switch n.Change {
		case Changed:
			if string(old) == string(now) {
				return false
			}
		case Unchanged:
			if string(old) != string(now) {
				return false
			}
		case Increased:
			if !less(old, now) {
				return false
			}
		case Decreased:
			if !less(now, old) {
				return false
			}
		}
		return n.Value == nil || n.Value(now)
	}
}

// narrowJob is a frame that is worked on.
type narrowJob struct {
	n          *Narrowing
	info       *Info
	size, unit int
	mem        procmem.Memory
	resident   procmem.Resident // nil if nothing is swapped out, or all is to be read
	in         []procmem.Range
	keep       func(old, now []byte) bool

	raw     []byte
	old     frame
	kept    frame
	results bool   // are wanted for Each:
	was     []byte // the old values of what is kept
	read    []bool // and which of it was read
	enc     frameEncoder

	buf           []byte
	gaps          []unread // of the run that is worked on
	swapped, lost uint64
}

func newNarrowJob(info *Info, mem procmem.Memory, n *Narrowing) *narrowJob {
	j := &narrowJob{n: n, info: info, size: info.size(), unit: info.unit(), mem: mem, in: n.In, keep: n.condition(info),
		enc: newFrameEncoder(info), buf: make([]byte, (runPages+1)*procmem.PageSize)}
	if r, ok := mem.(procmem.Resident); ok && !n.Swapped {
		j.resident = r
	}
	return j
}

// work reads the memory of a frame, and keeps what stays.
func (j *narrowJob) work() error {
	j.kept = frame{j.kept.pages[:0], j.kept.slots[:0], j.kept.values[:0]}
	j.was, j.read = j.was[:0], j.read[:0]
	j.enc.reset()
	j.swapped, j.lost = 0, 0
	for first := 0; first < len(j.old.pages); {
		last := first
		for last+1 < len(j.old.pages) && last+1-first < runPages && j.old.pages[last+1].number == j.old.pages[last].number+1 {
			last++
		}
		if err := j.run(first, last); err != nil {
			return err
		}
		first = last + 1
	}
	return nil
}

// run works on pages of the frame that follow upon each other.
func (j *narrowJob) run(first, last int) error {
	pages := j.old.pages
	from := 0
	if first > 0 {
		from = pages[first-1].end
	}
	r := procmem.Range{Start: procmem.Addr(pages[first].number * procmem.PageSize)}
	end := int(j.old.slots[pages[last].end-1])*j.unit + j.size
	r.End = procmem.Addr(pages[last].number*procmem.PageSize) + procmem.Addr(end)
	if err := j.fetch(r); err != nil {
		return err
	}
	for k := first; k <= last; k++ {
		base := procmem.Addr(pages[k].number * procmem.PageSize)
		before := len(j.kept.slots)
		if now := j.buf[base-r.Start:]; len(j.gaps) > 0 || j.in != nil {
			j.doubtful(from, pages[k].end, base, now)
		} else if !j.whole(from, pages[k].end, now) {
			j.sure(from, pages[k].end, now)
		}
		from = pages[k].end
		if n := len(j.kept.slots); n > before {
			j.kept.pages = append(j.kept.pages, framePage{pages[k].number, n})
			j.enc.page(pages[k].number, j.kept.slots[before:], j.kept.values[before*j.size:])
		}
	}
	return nil
}

// sure looks at candidates of a page all of which was read into now.
func (j *narrowJob) sure(from, end int, now []byte) {
	for i := from; i < end; i++ {
		old, v := j.old.values[i*j.size:][:j.size], now[int(j.old.slots[i])*j.unit:][:j.size]
		if j.keep(old, v) {
			j.stays(i, v, true)
		}
	}
}

// whole is sure for a page that is full of candidates and has not changed, which most have not.
// It does nothing about others.
func (j *narrowJob) whole(from, end int, now []byte) bool {
	if j.unit != j.size || end-from != procmem.PageSize/j.unit || j.n.Value != nil {
		return false
	}
	old := j.old.values[from*j.size : end*j.size]
	if !bytes.Equal(old, now[:procmem.PageSize]) {
		return false
	}
	if j.n.Change == AnyChange || j.n.Change == Unchanged {
		j.kept.slots = append(j.kept.slots, j.old.slots[from:end]...)
		j.kept.values = append(j.kept.values, old...)
		if j.results {
			j.was = append(j.was, old...)
			j.read = slices.Grow(j.read, end-from)
			for range end - from {
				j.read = append(j.read, true)
			}
		}
	}
	return true
}

// doubtful looks at candidates of the page at base, not all of which was read, or is asked for.
func (j *narrowJob) doubtful(from, end int, base procmem.Addr, now []byte) {
	for i := from; i < end; i++ {
		off := int(j.old.slots[i]) * j.unit
		a := base + procmem.Addr(off)
		if j.in != nil && !pageset.Contains(j.in, a) {
			continue
		}
		for len(j.gaps) > 0 && j.gaps[0].End <= a {
			j.gaps = j.gaps[1:]
		}
		old, v := j.old.values[i*j.size:][:j.size], now[off:][:j.size]
		switch {
		case len(j.gaps) == 0 || j.gaps[0].Start >= a+procmem.Addr(j.size):
			if j.keep(old, v) {
				j.stays(i, v, true)
			}
		case j.gaps[0].swapped:
			j.swapped++
			j.stays(i, old, false)
		default:
			j.lost++
		}
	}
}

// stays keeps candidate i of the old frame, with a value.
func (j *narrowJob) stays(i int, value []byte, read bool) {
	j.kept.slots = append(j.kept.slots, j.old.slots[i])
	j.kept.values = append(j.kept.values, value...)
	if j.results {
		j.was = append(j.was, j.old.values[i*j.size:][:j.size]...)
		j.read = append(j.read, read)
	}
}

// unread is memory that was not read.
type unread struct {
	procmem.Range
	swapped bool // else it could not be
}

// fetch reads r into buf, and returns what was not read, ascending.
func (j *narrowJob) fetch(r procmem.Range) error {
	j.gaps = j.gaps[:0]
	at := r.Start
	if j.resident != nil {
		swapped, err := swappedOut(j.resident, r)
		if err != nil {
			return err
		}
		for _, s := range swapped {
			if err := j.readInto(r.Start, procmem.Range{Start: at, End: s.Start}); err != nil {
				return err
			}
			j.gaps = append(j.gaps, unread{s, true})
			at = s.End
		}
	}
	return j.readInto(r.Start, procmem.Range{Start: at, End: r.End})
}

// readInto reads r into buf, which begins at base.
func (j *narrowJob) readInto(base procmem.Addr, r procmem.Range) error {
	if r.Empty() {
		return nil
	}
	// No error: that would be one of the function, which has none.
	faults, _ := procmem.ReadFull(j.mem, r, j.buf[r.Start-base:r.End-base], func(procmem.Addr, []byte) error { return nil })
	for _, f := range faults {
		if errors.Is(f.Err, procmem.ErrGone) {
			return f.Err
		}
		j.gaps = append(j.gaps, unread{f.Range, false})
	}
	return nil
}

// found yields what was kept and read.
func (j *narrowJob) found() iter.Seq[Candidate] {
	return func(yield func(Candidate) bool) {
		i := 0
		for a, v := range j.kept.all(j.info) {
			if j.read[i] && !yield(Candidate{a, j.was[i*j.size:][:j.size], v}) {
				return
			}
			i++
		}
	}
}

// swappedOut returns what holds data in r and is not in memory, ascending.
func swappedOut(mem procmem.Resident, r procmem.Range) ([]procmem.Range, error) {
	var have, out []procmem.Range
	for x, err := range mem.Resident(r) {
		if err != nil {
			return nil, err
		}
		have = append(have, x)
	}
	sparse, ok := mem.(procmem.Sparse)
	if !ok || len(have) == 1 && have[0] == r {
		return nil, nil
	}
	for d, err := range sparse.Data(r) {
		if err != nil {
			return nil, err
		}
		for len(have) > 0 && have[0].Start < d.End {
			if have[0].Start > d.Start {
				out = append(out, procmem.Range{Start: d.Start, End: have[0].Start})
			}
			d.Start = max(d.Start, have[0].End)
			if have[0].End > d.End {
				break
			}
			have = have[1:]
		}
		if !d.Empty() {
			out = append(out, d)
		}
	}
	return out, nil
}
