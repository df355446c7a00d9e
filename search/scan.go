package search

import (
	"cmp"
	"slices"
	"sync"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pipe"
)

const (
	// blockSize is how much is read at once: what was read is scanned while it is in the cache
	// of the processor.
	blockSize = 1 << 20
	// windowSize is how much all finders look at before the next part.
	windowSize = 32 << 10
	// enough is the number of hits after which the scan of a block waits until they are
	// delivered.
	maxHits = 64 << 10
)

// seeker finds matches that do not overlap, one after the other.
type seeker interface {
	// seek returns the first match in b that begins at from or behind it. With inside, one may
	// begin in the midst of what would be a longer match.
	seek(b []byte, from int, inside bool) (start, end int, ok bool)
	// forget is called when b is not what it was the last time.
	forget()
}

// sequence is a pattern that is found by seekers.
type sequence struct {
	pattern int
	make    func() seeker // for one goroutine
}

// engine is what patterns have become.
type engine struct {
	finders   []finder
	sequences []sequence
	// overlap is how much of what follows a block must be known, and look how much of what is
	// before a match, in bytes.
	overlap, look int

	mu      sync.Mutex
	workers []*worker // that are free
}

// worker is what a goroutine needs: seekers, one for each sequence.
type worker struct{ seekers []seeker }

func (e *engine) worker() *worker {
	e.mu.Lock()
	defer e.mu.Unlock()
	if k := len(e.workers) - 1; k >= 0 {
		w := e.workers[k]
		e.workers = e.workers[:k]
		return w
	}
	w := &worker{}
	for _, s := range e.sequences {
		w.seekers = append(w.seekers, s.make())
	}
	return w
}

func (e *engine) free(w *worker) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.workers = append(e.workers, w)
}

// progress is how far a block has been scanned, and what was found since the last time.
type progress struct {
	hits    []hit
	text    []byte // that was made of the hits
	piece   int    // index; what is before it has been scanned
	from    int    // where what begins is for the block, in the piece
	at      int    // how far it has been scanned
	cursors []cursor
}

// cursor is the next match of a sequence in a piece.
type cursor struct {
	from       int // where it begins at the soonest
	inside     bool
	known, ok  bool
	start, end int
}

// next finds the match, unless it has been found, and reports whether it begins before to.
func (c *cursor) next(s seeker, b []byte, to int) bool {
	if !c.known {
		c.start, c.end, c.ok = s.seek(b, c.from, c.inside)
		c.known = true
	}
	return c.ok && c.start < to
}

func (c *cursor) pass() { *c = cursor{from: c.end, inside: true} }

// start makes the progress of a block that is new.
func (e *engine) start(b *pipe.Block) *progress {
	n, ok := b.Note.(*progress)
	if !ok {
		n = &progress{cursors: make([]cursor, len(e.sequences))}
		b.Note = n
	}
	n.hits, n.piece = n.hits[:0], 0
	e.enter(b, n)
	return n
}

// enter begins with a piece.
func (e *engine) enter(b *pipe.Block, n *progress) {
	n.from = 0
	// The last block has what begins with bytes that must have something before them.
	if n.piece == 0 && b.Follows && len(b.Pieces) > 0 && b.Pieces[0].Addr == b.First {
		n.from = e.look
	}
	n.at = n.from
	for k := range n.cursors {
		n.cursors[k] = cursor{from: n.from}
	}
}

// end returns where the matches of a piece end to be those of the block.
func (e *engine) end(b *pipe.Block, p pipe.Piece) int {
	return int(min(int64(len(p.Bytes)), int64(b.Last-p.Addr)+1+int64(e.look)))
}

// scan looks for more matches, until there are enough. It reports whether that was all.
func (e *engine) scan(b *pipe.Block, n *progress, w *worker) (all bool) {
	n.hits = n.hits[:0]
	for n.piece < len(b.Pieces) {
		p := b.Pieces[n.piece]
		for end := e.end(b, p); n.at < end; {
			to := min(n.at+windowSize, end)
			e.window(b, n, w, to)
			if n.at = to; len(n.hits) >= maxHits {
				return false
			}
		}
		n.piece++
		e.enter(b, n)
	}
	return true
}

// window finds what begins up to an offset of the current piece.
func (e *engine) window(b *pipe.Block, n *progress, w *worker, to int) {
	p := b.Pieces[n.piece]
	win := window{p.Bytes, p.Addr, int(p.Addr - b.First), n.at, to, n.hits}
	for _, f := range e.finders {
		f.find(&win)
	}
	for k, s := range e.sequences {
		w.seekers[k].forget()
		for c := &n.cursors[k]; c.next(w.seekers[k], p.Bytes, to); c.pass() {
			win.add(c.start, c.end-c.start, s.pattern)
		}
	}
	sortHits(win.hits[len(n.hits):])
	n.hits = win.hits
}

// mend puts right the hits of a sequence where the last match of the block before reaches into
// this one, up to the address carry. The hits were found from the start of the block on. They
// are found anew from carry on, until one is the same as before. mend reports whether there was
// anything to put right.
func (e *engine) mend(b *pipe.Block, n *progress, w *worker, k int, carry procmem.Addr) bool {
	if len(b.Pieces) == 0 {
		return false
	}
	p := b.Pieces[0]
	first := p.Addr
	if b.Follows && first == b.First {
		first += procmem.Addr(e.look)
	}
	if carry < first || carry-p.Addr > procmem.Addr(len(p.Bytes)) {
		return false
	}
	base, pattern := int(p.Addr-b.First), uint32(e.sequences[k].pattern)
	upto := e.end(b, p)
	if n.piece == 0 {
		upto = n.at
	}
	var found []hit
	next := 0 // of the hits there are
	w.seekers[k].forget()
	c := cursor{from: int(carry - p.Addr), inside: true}
	for ; c.next(w.seekers[k], p.Bytes, upto); c.pass() {
		h := hit{uint32(base + c.start), uint32(c.end - c.start), pattern}
		for next < len(n.hits) && n.hits[next].order() < h.order() {
			next++
		}
		if next < len(n.hits) && n.hits[next] == h {
			upto = c.start
			break
		}
		found = append(found, h)
	}
	if n.piece == 0 && (!c.ok || c.start >= upto) && upto == n.at {
		n.cursors[k] = c
	}
	head, _ := slices.BinarySearchFunc(n.hits, base+upto, func(h hit, at int) int { return cmp.Compare(int(h.at), at) })
	own := func(h hit) bool { return h.pattern == pattern }
	if len(found) == 0 && !slices.ContainsFunc(n.hits[:head], own) {
		return false
	}
	n.hits = slices.Concat(slices.DeleteFunc(n.hits[:head], own), found, n.hits[head:])
	sortHits(n.hits)
	return true
}
