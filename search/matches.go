package search

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pipe"
)

// Matches yields what is found in mem, ascending by address, then by pattern.
// An error, of mem or why ctx has ended, is the last that is yielded.
func (s *Searcher) Matches(ctx context.Context, mem procmem.Memory) iter.Seq2[Match, error] {
	return func(yield func(Match, error) bool) {
		s.stats = Stats{}
		if len(s.finders)+len(s.sequences) == 0 {
			return
		}
		r := &run{s: s, mem: mem, yield: yield, blocks: make(chan *pipe.Block), delivered: make(chan struct{})}
		if err := r.run(ctx); err != nil && !errors.Is(err, errStopped) {
			yield(Match{}, err)
		}
	}
}

// errStopped: nobody wants more.
var errStopped = errors.New("stopped")

// run is one call of Matches. Blocks are scanned by goroutines of the pipe, and
// what was found is yielded by the caller's own: it gets the blocks that have
// something, in order, one at a time.
type run struct {
	s     *Searcher
	mem   procmem.Memory
	yield func(Match, error) bool

	blocks    chan *pipe.Block
	delivered chan struct{}

	carry   []procmem.Addr // where the last match of each sequence ends
	context contextReader
	planErr error
}

func (r *run) run(ctx context.Context) error {
	s := r.s
	ctx, stop := context.WithCancelCause(ctx)
	p := pipe.New()
	p.Size, p.Overlap = s.blockSize, s.overlap
	r.carry = make([]procmem.Addr, len(s.sequences))
	r.context = contextReader{r: r, n: s.o.Context}
	var err error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(r.blocks)
		s.stats.Faults, err = p.Run(ctx, r.mem, r.plan(), pipe.Work{
			Each: func(b *pipe.Block) error {
				w := s.worker()
				defer s.free(w)
				s.scan(b, s.start(b), w)
				return nil
			},
			Emit: func(b *pipe.Block) error { return r.emit(ctx, b) },
		})
	}()
	defer func() { // whatever becomes of the loop's body
		stop(errStopped)
		close(r.delivered)
		<-ended
	}()
	w := s.worker()
	defer s.free(w)
	for b := range r.blocks {
		if err := r.deliver(ctx, b, w); err != nil {
			return err
		}
		r.delivered <- struct{}{}
	}
	return cmp.Or(err, r.planErr)
}

// emit has what was found in a block delivered.
func (r *run) emit(ctx context.Context, b *pipe.Block) error {
	for _, p := range b.Pieces {
		if p.Addr <= b.Last {
			r.s.stats.Scanned += min(uint64(len(p.Bytes)), uint64(b.Last-p.Addr)+1)
		}
	}
	n := b.Note.(*progress)
	if len(n.hits) == 0 && n.piece == len(b.Pieces) && !r.reachesInto(b) {
		return nil
	}
	select {
	case r.blocks <- b:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	<-r.delivered // in any case: the bytes of the matches are those of the block
	return nil
}

// reachesInto reports whether the last match of a sequence ends in the block.
func (r *run) reachesInto(b *pipe.Block) bool {
	for _, carry := range r.carry {
		if carry >= b.First && carry > 0 {
			return true
		}
	}
	return false
}

// deliver yields the matches of a block.
func (r *run) deliver(ctx context.Context, b *pipe.Block, w *worker) error {
	n := b.Note.(*progress)
	for k, carry := range r.carry {
		if carry > 0 {
			r.s.mend(b, n, w, k, carry)
		}
	}
	for ctx.Err() == nil {
		if !r.yieldHits(b, n.hits) {
			return errStopped
		}
		if n.piece == len(b.Pieces) {
			return nil
		}
		r.s.scan(b, n, w)
	}
	return context.Cause(ctx)
}

func (r *run) yieldHits(b *pipe.Block, hits []hit) bool {
	piece := 0
	for _, h := range hits {
		a := b.First + procmem.Addr(h.at)
		for a-b.Pieces[piece].Addr >= procmem.Addr(len(b.Pieces[piece].Bytes)) {
			piece++
		}
		p := b.Pieces[piece]
		i := int(a - p.Addr)
		end := i + int(h.size)
		m := Match{Range: procmem.Range{Start: a, End: a + procmem.Addr(h.size)}, Pattern: int(h.pattern), Bytes: p.Bytes[i:end:end]}
		if r.context.n > 0 {
			m.Before, m.After = r.context.around(p, i, end)
		}
		for k, s := range r.s.sequences {
			if s.pattern == m.Pattern {
				r.carry[k] = m.End
			}
		}
		if !r.yield(m, nil) {
			return false
		}
	}
	return true
}

// plan yields what is searched: what is there, in the ranges that are asked for.
func (r *run) plan() iter.Seq[pipe.Extent] {
	return func(yield func(pipe.Extent) bool) {
		for _, in := range normalized(r.s.o.In) {
			for data, err := range r.there(in) {
				if err != nil {
					r.planErr = err
					return
				}
				if !yield(pipe.Extent{Range: data}) {
					return
				}
			}
			r.countSwapped(in)
		}
	}
}

// normalized returns the ranges ascending and without overlaps; nil is all
// addresses.
func normalized(ranges []procmem.Range) []procmem.Range {
	if ranges == nil {
		return []procmem.Range{{End: ^procmem.Addr(0)}}
	}
	sorted := slices.SortedFunc(slices.Values(ranges), func(a, b procmem.Range) int { return cmp.Compare(a.Start, b.Start) })
	var out []procmem.Range
	for _, x := range sorted {
		if k := len(out) - 1; x.Empty() {
			continue
		} else if k >= 0 && x.Start <= out[k].End {
			out[k].End = max(out[k].End, x.End)
		} else {
			out = append(out, x)
		}
	}
	return out
}

// there yields the memory in a range that is to be read.
func (r *run) there(in procmem.Range) iter.Seq2[procmem.Range, error] {
	if m, ok := r.mem.(procmem.Resident); ok && !r.s.o.Swapped {
		return m.Resident(in)
	}
	if m, ok := r.mem.(procmem.Sparse); ok {
		return m.Data(in)
	}
	return func(yield func(procmem.Range, error) bool) {
		maps, err := r.mem.Mappings()
		if err != nil {
			yield(procmem.Range{}, err)
			return
		}
		for i := procmem.FindMapping(maps, in.Start); i < len(maps) && maps[i].Start < in.End; i++ {
			if x := maps[i].Intersect(in); !x.Empty() && !yield(x, nil) {
				return
			}
		}
	}
}

// countSwapped counts what Data has and Resident has not. Both change as the
// process runs.
func (r *run) countSwapped(in procmem.Range) {
	resident, ok1 := r.mem.(procmem.Resident)
	sparse, ok2 := r.mem.(procmem.Sparse)
	if !ok1 || !ok2 || r.s.o.Swapped || !r.maySwap(in) {
		return
	}
	all, there := size(sparse.Data(in)), size(resident.Resident(in))
	r.s.stats.Swapped += max(all, there) - there
}

// maySwap reports whether the mappings tell that any part of a range was
// swapped out, or do not tell.
func (r *run) maySwap(in procmem.Range) bool {
	maps, err := r.mem.Mappings()
	if err != nil {
		return true
	}
	for i := procmem.FindMapping(maps, in.Start); i < len(maps) && maps[i].Start < in.End; i++ {
		if u := maps[i].Usage; u == nil || u.Swap > 0 {
			return true
		}
	}
	return false
}

func size(ranges iter.Seq2[procmem.Range, error]) (n uint64) {
	for r, err := range ranges {
		if err == nil {
			n += r.Size()
		}
	}
	return n
}

// contextReader finds what lies on either side of a match.
type contextReader struct {
	r             *run
	n             int
	before, after []byte
}

// around returns what is before p.Bytes[start] and from end on.
func (c *contextReader) around(p pipe.Piece, start, end int) (before, after []byte) {
	first, next := p.Addr+procmem.Addr(start), p.Addr+procmem.Addr(end)
	before = p.Bytes[max(0, start-c.n):start:start]
	if want := min(procmem.Addr(c.n), first); len(before) < int(want) {
		before = c.read(&c.before, first-want, int(want), true)
	}
	after = p.Bytes[end:min(len(p.Bytes), end+c.n)]
	if want := min(procmem.Addr(c.n), -next); len(after) < int(want) {
		after = c.read(&c.after, next, int(want), false)
	}
	return before, after
}

// read reads up to n bytes of memory at a, of which those count that are next
// to the match: the last ones or the first.
func (c *contextReader) read(buf *[]byte, a procmem.Addr, n int, last bool) []byte {
	if cap(*buf) < n {
		*buf = make([]byte, n)
	}
	b := (*buf)[:n]
	whole := procmem.Range{Start: a, End: a + procmem.Addr(n)}
	if whole.End < a { // the last byte of all cannot be in a range
		whole.End = ^procmem.Addr(0)
	}
	from, to := -1, -1 // the last run of bytes that were read
	for there, err := range c.r.there(whole) {
		if err != nil {
			break
		}
		_, _ = procmem.ReadFull(c.r.mem, there, b[there.Start-a:there.End-a], func(at procmem.Addr, p []byte) error {
			if i := int(at - a); i != to {
				if !last && from == 0 {
					return errStopped // the first run is whole
				}
				from, to = i, i
			}
			to += len(p)
			return nil
		})
	}
	switch {
	case last && to == int(whole.Size()):
		return b[from:to:to]
	case !last && from == 0:
		return b[:to:to]
	}
	return nil
}
