package search

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pipe"
	"github.com/procmem/procmem/internal/present"
)

// Matches yields what is found in mem, ascending by address, then by the index of the pattern.
// An error, of mem or of ctx, ends the sequence.
func (s *Searcher) Matches(ctx context.Context, mem procmem.Memory) iter.Seq2[Match, error] {
	return func(yield func(Match, error) bool) {
		r := &run{s: s, mem: mem, context: contextReader{n: s.o.Context}}
		r.hand = func(b *pipe.Block, n *progress) bool { return r.yieldHits(b, n.hits, yield) }
		if err := r.run(ctx); err != nil {
			yield(Match{}, err)
		}
	}
}

// Text is Matches for a caller that makes text of each match, which takes as long as the search
// if there are many. The goroutines that search call add, several at once. It appends to text
// what there is to say of a match; goesOn is set if the match begins where the one before it
// ends.
//
// Text yields the texts in order. Each is valid until the next. Matches have no Before and
// After.
func (s *Searcher) Text(ctx context.Context, mem procmem.Memory, add func(text []byte, m *Match, goesOn bool) []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		r := &run{s: s, mem: mem, add: add}
		r.hand = func(_ *pipe.Block, n *progress) bool { return yield(n.text, nil) }
		if err := r.run(ctx); err != nil {
			yield(nil, err)
		}
	}
}

// errStopped reports that no more matches are wanted.
var errStopped = errors.New("stopped")

// run is one call of Matches or Text. Blocks are scanned by goroutines of the pipe, which also
// make the text. What was found is yielded by the caller's own: it gets the blocks that have
// something, in order, one at a time.
type run struct {
	s    *Searcher
	mem  procmem.Memory
	maps []procmem.Mapping                               // ascending; nil if mem does not tell
	add  func(text []byte, m *Match, goesOn bool) []byte // nil if no text is made
	hand func(b *pipe.Block, n *progress) bool           // yields what was found

	blocks    chan *pipe.Block
	delivered chan struct{}

	carry   []procmem.Addr // where the last match of each sequence ends
	last    procmem.Addr   // where the last match of all ends
	context contextReader
	planErr error
}

// nowhere is where no match begins: the last address is in no range.
const nowhere = ^procmem.Addr(0)

// run returns no error if no more matches are wanted.
func (r *run) run(ctx context.Context) error {
	s := r.s
	s.stats = Stats{}
	if len(s.finders)+len(s.sequences) == 0 {
		return nil
	}
	ctx, stop := context.WithCancelCause(ctx)
	p := pipe.New()
	p.Size, p.Overlap = s.blockSize, s.overlap
	r.blocks, r.delivered = make(chan *pipe.Block), make(chan struct{})
	r.carry, r.last = make([]procmem.Addr, len(s.sequences)), nowhere
	r.context.r = r
	r.maps, _ = r.mem.Mappings() // what reads it fails with the reason
	var err error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(r.blocks)
		s.stats.Faults, err = p.Run(ctx, r.mem, r.plan(), pipe.Work{
			Each: func(b *pipe.Block) error {
				w := s.worker()
				defer s.free(w)
				n := s.start(b)
				s.scan(b, n, w)
				r.write(b, n, nowhere)
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
		if err := r.deliver(ctx, b, w); errors.Is(err, errStopped) {
			return nil
		} else if err != nil {
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

// deliver yields what was found in a block.
func (r *run) deliver(ctx context.Context, b *pipe.Block, w *worker) error {
	n := b.Note.(*progress)
	stale := len(n.hits) > 0 && n.hits[0].start(b) == r.last
	for k, carry := range r.carry {
		if carry > 0 && r.s.mend(b, n, w, k, carry) {
			stale = true
		}
	}
	if stale {
		r.write(b, n, r.last)
	}
	for ctx.Err() == nil {
		if !r.hand(b, n) {
			return errStopped
		}
		r.pass(b, n.hits)
		if n.piece == len(b.Pieces) {
			return nil
		}
		r.s.scan(b, n, w)
		r.write(b, n, r.last)
	}
	return context.Cause(ctx)
}

// pass notes where matches end that have been delivered.
func (r *run) pass(b *pipe.Block, hits []hit) {
	if len(hits) > 0 {
		r.last = hits[len(hits)-1].end(b)
	}
	for k, s := range r.s.sequences {
		for _, h := range slices.Backward(hits) {
			if int(h.pattern) == s.pattern {
				r.carry[k] = h.end(b)
				break
			}
		}
	}
}

// write makes the text of what was found in a block, where the match before it ends at last.
func (r *run) write(b *pipe.Block, n *progress, last procmem.Addr) {
	n.text = n.text[:0]
	if r.add == nil {
		return
	}
	for m := range r.matches(b, n.hits) {
		n.text = r.add(n.text, m, m.Start == last)
		last = m.End
	}
}

func (r *run) yieldHits(b *pipe.Block, hits []hit, yield func(Match, error) bool) bool {
	for m, p := range r.matches(b, hits) {
		if r.context.n > 0 {
			m.Before, m.After = r.context.around(p, m.Range)
		}
		if !yield(*m, nil) {
			return false
		}
	}
	return true
}

// matches yields what hits are, and the piece of memory that they are in. The Match is one for
// all.
func (r *run) matches(b *pipe.Block, hits []hit) iter.Seq2[*Match, pipe.Piece] {
	return func(yield func(*Match, pipe.Piece) bool) {
		var m Match
		piece := 0
		for _, h := range hits {
			m.Range = procmem.Range{Start: h.start(b), End: h.end(b)}
			for m.Start-b.Pieces[piece].Addr >= procmem.Addr(len(b.Pieces[piece].Bytes)) {
				piece++
			}
			p := b.Pieces[piece]
			i, end := int(m.Start-p.Addr), int(m.End-p.Addr)
			m.Pattern, m.Bytes = int(h.pattern), p.Bytes[i:end:end]
			if m.Mapping == nil || !m.Mapping.Contains(m.Start) {
				m.Mapping = r.mapping(m.Start)
			}
			if !yield(&m, p) {
				return
			}
		}
	}
}

// mapping returns the mapping that holds a, or nil.
func (r *run) mapping(a procmem.Addr) *procmem.Mapping {
	if i := procmem.FindMapping(r.maps, a); i < len(r.maps) && r.maps[i].Contains(a) {
		return &r.maps[i]
	}
	return nil
}

// plan yields what is searched: what is there, in the ranges that are asked for.
func (r *run) plan() iter.Seq[pipe.Extent] {
	return func(yield func(pipe.Extent) bool) {
		there := present.NewPlan(r.mem, r.s.o.In, r.s.o.Swapped)
		defer func() { r.s.stats.Swapped = there.Swapped() }()
		for x, err := range there.Ranges() {
			if err != nil {
				r.planErr = err
				return
			}
			if !yield(pipe.Extent{Range: x}) {
				return
			}
		}
	}
}

// contextReader finds what lies on either side of a match.
type contextReader struct {
	r             *run
	n             int
	before, after []byte
}

// around returns what is before a match in p, and behind it.
func (c *contextReader) around(p pipe.Piece, m procmem.Range) (before, after []byte) {
	start, end := int(m.Start-p.Addr), int(m.End-p.Addr)
	before = p.Bytes[max(0, start-c.n):start:start]
	if want := min(procmem.Addr(c.n), m.Start); len(before) < int(want) {
		before = c.read(&c.before, m.Start-want, int(want), true)
	}
	after = p.Bytes[end:min(len(p.Bytes), end+c.n)]
	if want := min(procmem.Addr(c.n), -m.End); len(after) < int(want) {
		after = c.read(&c.after, m.End, int(want), false)
	}
	return before, after
}

// read reads up to n bytes of memory at a. Those that are next to the match count: the last
// ones or the first.
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
	for there, err := range present.In(c.r.mem, whole, c.r.s.o.Swapped) {
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
