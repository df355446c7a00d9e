package diff

import (
	"context"
	"errors"
	"iter"
	"sort"
	"sync/atomic"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/pipe"
)

// Options say what is compared. The zero value is all memory that is not swapped out.
type Options struct {
	// In is where to compare; nil is all memory.
	In []procmem.Range
	// Swapped includes what is swapped out, of a memory that can tell (procmem.Resident).
	// Otherwise that is counted and not compared.
	Swapped bool
}

// Side names one of the two memories.
type Side string

// The sides.
const (
	A Side = "a" // the first memory
	B Side = "b"
)

// Error reports why one of the two memories cannot be compared.
type Error struct {
	Side Side
	Err  error
}

func (e *Error) Error() string { return "memory " + string(e.Side) + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Missing is memory that was not compared because one of the two cannot show it. Side is the
// first if neither can.
type Missing struct {
	procmem.Fault
	Side Side
}

// Heat tells how much of a mapping of the first memory has changed, and where.
type Heat struct {
	Mapping  procmem.Mapping
	Compared uint64 // bytes, of untouched memory too
	Changed  uint64 // bytes that differ
	Pages    uint64 // in which they lie
	Changes  uint64 // as Join yields them
	// Spots are the changed pages by place. All spots are parts of the mapping of the same
	// length, but the last may be shorter. There are MaxSpots at most, and none is less than a
	// page.
	Spots []uint64
}

// MaxSpots is the greatest length of Heat.Spots.
const MaxSpots = 64

// SpotPages returns how many pages of the mapping each spot stands for.
func (h *Heat) SpotPages() uint64 { return spotPages(h.Mapping.Range) }

func spotPages(r procmem.Range) uint64 { return max(1, (pagesOf(r)+MaxSpots-1)/MaxSpots) }

// pagesOf returns how many pages a range touches.
func pagesOf(r procmem.Range) uint64 {
	if r.Empty() {
		return 0
	}
	return uint64((r.End-1)/procmem.PageSize-r.Start/procmem.PageSize) + 1
}

// Stats is the result of a comparison.
type Stats struct {
	Compared uint64 // bytes, of untouched memory too
	Changed  uint64 // bytes that differ
	Pages    uint64 // in which they lie
	Changes  uint64 // as Join yields them
	Swapped  uint64 // bytes that were not compared since they are swapped out
	Heat     []Heat // of the mappings with changes, ascending

	// Missing is what was not compared, ascending: MaxMissing ranges at most, of MissingRanges.
	// MissingBytes counts them all.
	Missing       []Missing
	MissingRanges uint64
	MissingBytes  uint64
}

// Diff compares two memories. It is not safe for concurrent use, except for Done.
type Diff struct {
	a, b    procmem.Memory
	o       Options
	maps    []procmem.Mapping // of a
	mapsB   []procmem.Mapping // of b
	changes []MappingChange
	areas   []area
	stats   Stats
	done    atomic.Int64
}

// New returns a Diff of two memories, after a look at their mappings. If one of them cannot
// tell its mappings, it fails with an *Error.
func New(a, b procmem.Memory, o Options) (*Diff, error) {
	mapsA, err := a.Mappings()
	if err != nil {
		return nil, &Error{A, err}
	}
	mapsB, err := b.Mappings()
	if err != nil {
		return nil, &Error{B, err}
	}
	if o.In != nil {
		o.In = pageset.Merge(o.In)
	}
	d := &Diff{a: a, b: b, o: o, maps: mapsA, mapsB: mapsB}
	d.changes, d.areas = compareMappings(mapsA, mapsB, o.In)
	return d, nil
}

// Mappings returns the differences between the mappings, ascending.
func (d *Diff) Mappings() []MappingChange { return d.changes }

// Done returns how many bytes of each memory have been read so far. It is safe for concurrent
// use.
func (d *Diff) Done() int64 { return d.done.Load() }

// Stats returns the result of the last iteration over Changes. If that was left before its end,
// it is what had been counted by then.
func (d *Diff) Stats() Stats { return d.stats }

// errLeft ends a comparison whose changes are no longer wanted.
var errLeft = errors.New("the loop was left")

// Changes compares the memory, and yields what differs, ascending. Both memories are read and
// compared a few MiB ahead of the loop.
//
// An error ends the sequence: that of ctx, or an *Error if a whole memory is gone
// (procmem.ErrGone). Memory that cannot be read is no error: see Stats.
func (d *Diff) Changes(ctx context.Context) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		ctx, cancel := context.WithCancelCause(ctx)
		r := newComparison(d)
		var err error
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			err = r.run(ctx)
			close(r.found)
		}()
		defer func() {
			cancel(errLeft)
			for n := range r.found {
				n.taken <- struct{}{}
			}
			<-ended
		}()
		for n := range r.found {
			if !n.yield(d.areas, yield) {
				return
			}
		}
		if err != nil {
			yield(Change{}, err)
		}
	}
}

// comparison is one run of a Diff.
type comparison struct {
	*Diff
	plan     planner
	found    chan *notes // blocks with changes, in order
	compared []uint64    // bytes of each area that were read
	missing  missingList // of the second memory
	last     Change      // the last one that was counted
}

func newComparison(d *Diff) *comparison {
	d.stats = Stats{}
	d.done.Store(0)
	return &comparison{Diff: d, found: make(chan *notes), compared: make([]uint64, len(d.areas)),
		plan: planner{a: d.a, b: d.b, maps: [2][]procmem.Mapping{d.maps, d.mapsB}, areas: d.areas, swapped: d.o.Swapped, absent: make([]uint64, len(d.areas))}}
}

// run compares everything. The pipe carries the first memory. The goroutine that has read a
// block of it reads the same block of the second.
func (r *comparison) run(ctx context.Context) error {
	faults, err := pipe.New().Run(ctx, r.a, r.plan.extents, pipe.Work{
		Each: r.each,
		Emit: func(b *pipe.Block) error { return r.emit(ctx, b) },
	})
	if err == nil {
		err = r.plan.err
	}
	if err != nil {
		return err
	}
	var missing missingList
	for _, f := range faults {
		if errors.Is(f.Err, procmem.ErrGone) {
			return &Error{A, f.Err}
		}
		missing.add(Missing{f, A})
	}
	r.sum(&missing)
	return nil
}

// sum completes the statistics.
func (r *comparison) sum(missing *missingList) {
	s := &r.stats
	s.Swapped = r.plan.swapSize
	all := mergeMissing(missing, &r.missing, &r.plan.missing)
	s.Missing, s.MissingRanges, s.MissingBytes = all.list, all.ranges, all.bytes
	k := 0
	for i, x := range r.areas {
		n := r.plan.absent[i] + r.compared[i]
		s.Compared += n
		start := r.maps[x.mapping].Start
		for k < len(s.Heat) && s.Heat[k].Mapping.Start < start {
			k++
		}
		if k < len(s.Heat) && s.Heat[k].Mapping.Start == start {
			s.Heat[k].Compared += n
		}
	}
}

// notes is what is known of a block: it goes with the buffers of the pipe.
type notes struct {
	buf     []byte // of the second memory
	parts   []part
	runs    []run
	missing []Missing
	taken   chan struct{}
}

// part is memory without a gap, of one area, that was read of both.
type part struct {
	addr procmem.Addr
	area int
	a, b []byte
	runs int // how many of the notes are its, behind those of the parts before
}

// each reads of the second memory what was read of the first, and compares.
func (r *comparison) each(b *pipe.Block) error {
	n, _ := b.Note.(*notes)
	if n == nil {
		n = &notes{buf: pageset.Buffer(pipe.BlockSize), taken: make(chan struct{}, 1)}
		b.Note = n
	}
	n.parts, n.runs, n.missing = n.parts[:0], n.runs[:0], n.missing[:0]
	if len(b.Pieces) == 0 {
		return nil
	}
	base := b.Pieces[0].Addr.PageDown()
	for _, p := range b.Pieces {
		whole := procmem.Range{Start: p.Addr, End: p.Addr + procmem.Addr(len(p.Bytes))}
		faults, err := procmem.ReadFull(r.b, whole, n.buf[p.Addr-base:whole.End-base], func(a procmem.Addr, q []byte) error {
			n.compare(r.areas, a, p.Bytes[a-p.Addr:][:len(q)], q)
			return nil
		})
		if err != nil {
			return err
		}
		for _, f := range faults {
			if errors.Is(f.Err, procmem.ErrGone) {
				return &Error{B, f.Err}
			}
			n.missing = append(n.missing, Missing{f, B})
		}
		r.done.Add(int64(len(p.Bytes)))
	}
	return nil
}

// compare notes where a and b, the bytes of both memories from addr on, differ.
func (n *notes) compare(areas []area, addr procmem.Addr, a, b []byte) {
	i := sort.Search(len(areas), func(i int) bool { return areas[i].End > addr })
	for ; len(a) > 0; i++ {
		size := min(uint64(len(a)), uint64(areas[i].End-addr))
		before := len(n.runs)
		n.runs = appendRuns(n.runs, addr, a[:size], b[:size])
		n.parts = append(n.parts, part{addr, i, a[:size], b[:size], len(n.runs) - before})
		addr, a, b = addr+procmem.Addr(size), a[size:], b[size:]
	}
}

// emit counts what was found in a block, and has it yielded. It waits even if ctx ends, for the
// block is not to be used again meanwhile.
func (r *comparison) emit(ctx context.Context, b *pipe.Block) error {
	n := b.Note.(*notes)
	for _, m := range n.missing {
		r.missing.add(m)
	}
	for _, p := range n.parts {
		r.compared[p.area] += uint64(len(p.a))
	}
	if len(n.runs) == 0 {
		return nil
	}
	for c := range n.changes(r.areas) {
		r.count(c)
	}
	select {
	case r.found <- n:
		<-n.taken
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// changes yields what was found.
func (n *notes) changes(areas []area) iter.Seq[Change] {
	return func(yield func(Change) bool) {
		runs := n.runs
		for _, p := range n.parts {
			for _, x := range runs[:p.runs] {
				c := Change{
					Range: procmem.Range{Start: p.addr + procmem.Addr(x.start), End: p.addr + procmem.Addr(x.end)},
					Bytes: uint64(x.differ), A: p.a[x.start:x.end], B: p.b[x.start:x.end], Mapping: areas[p.area].mapping,
				}
				if !yield(c) {
					return
				}
			}
			runs = runs[p.runs:]
		}
	}
}

// count adds a change to the statistics.
func (r *comparison) count(c Change) {
	s := &r.stats
	m := &r.maps[c.Mapping]
	if k := len(s.Heat); k == 0 || s.Heat[k-1].Mapping.Start != m.Start {
		s.Heat = append(s.Heat, Heat{Mapping: *m, Spots: make([]uint64, (pagesOf(m.Range)+spotPages(m.Range)-1)/spotPages(m.Range))})
	}
	h := &s.Heat[len(s.Heat)-1]
	page := c.Start / procmem.PageSize
	if r.last.Bytes == 0 || r.last.Start/procmem.PageSize != page || r.last.Mapping != c.Mapping {
		s.Pages++
		h.Pages++
		h.Spots[uint64(page-m.Start/procmem.PageSize)/spotPages(m.Range)]++
	}
	if r.last.Bytes == 0 || !goesOn(r.last.Range, r.last.Mapping, c.Start, c.Mapping) {
		s.Changes++
		h.Changes++
	}
	s.Changed += c.Bytes
	h.Changed += c.Bytes
	r.last = c
}

// yield has a loop take what was found, and reports whether it wants more.
func (n *notes) yield(areas []area, yield func(Change, error) bool) bool {
	defer func() { n.taken <- struct{}{} }()
	for c := range n.changes(areas) {
		if !yield(c, nil) {
			return false
		}
	}
	return true
}
