package search

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pipe"
)

// hit is a match in a block.
type hit struct {
	at      uint32 // distance from the first byte of the block
	size    uint32
	pattern uint32
}

// order is by address, then by pattern.
func (h hit) order() uint64 { return uint64(h.at)<<32 | uint64(h.pattern) }

func (h hit) start(b *pipe.Block) procmem.Addr { return b.First + procmem.Addr(h.at) }

func (h hit) end(b *pipe.Block) procmem.Addr { return h.start(b) + procmem.Addr(h.size) }

func compareHits(a, b hit) int { return cmp.Compare(a.order(), b.order()) }

// sortHits sorts what mostly is sorted.
func sortHits(hits []hit) {
	if !slices.IsSortedFunc(hits, compareHits) {
		slices.SortFunc(hits, compareHits)
	}
}

// window is a part of a block in which finders look for what begins in [from, to). b is the
// memory at addr, which is base bytes from the first byte of the block.
type window struct {
	b        []byte
	addr     procmem.Addr
	base     int
	from, to int
	hits     []hit
}

func (w *window) add(i, size, pattern int) {
	w.hits = append(w.hits, hit{uint32(w.base + i), uint32(size), uint32(pattern)})
}

// finder finds matches of fixed length, wherever they are. It is for several goroutines at
// once, and need not find them in order.
type finder interface{ find(w *window) }

// bytesFinder finds one pattern, where two of its bytes are.
type bytesFinder struct {
	*Pattern
	index   int
	pairs   []pair
	offsets []int         // of the first byte of each pair
	current atomic.Uint32 // the pair that is looked for
}

func newBytesFinder(p *Pattern, index int) *bytesFinder {
	f := &bytesFinder{Pattern: p, index: index}
	f.pairs, f.offsets = pairsOf(p)
	return f
}

func (f *bytesFinder) find(w *window) {
	turn := f.current.Load()
	k := int(turn) % len(f.pairs)
	p, off := f.pairs[k], f.offsets[k]
	end := min(w.to, len(w.b)-len(f.value)+1)
	vain := 0
	for i := w.from; i < end; i++ {
		n := p.index(w.b[i+off : end+off+p.gap])
		if n < 0 {
			break
		}
		if i += n; f.at(w.b[i:], w.addr+procmem.Addr(i)) {
			w.add(i, len(f.value), f.index)
		} else {
			vain++
		}
	}
	// Bytes that are rare elsewhere may be common here.
	if vain > (w.to-w.from)/128 {
		f.current.CompareAndSwap(turn, turn+1)
	}
}

// numberFinder finds numbers.
type numberFinder struct {
	*Pattern
	index int
}

func (f *numberFinder) find(w *window) {
	align := int(f.align)
	// The first address that is a multiple of align or, above that, of size.
	stride := min(align, f.number.size)
	first := w.from + int(-(uint64(w.addr)+uint64(w.from))&uint64(stride-1))
	for k := 0; k < f.number.size; k += stride {
		f.findIn(w, first+k)
	}
}

// findIn finds numbers at i and whole numbers behind it, in order.
func (f *numberFinder) findIn(w *window, i int) {
	n := f.number
	// No number that begins at w.to or behind it, and none that is cut off.
	b := w.b[:min(w.to-1+n.size, len(w.b))]
	next := [2]int{n.next(b, i, 0), n.next(b, i, 1)}
	for {
		k := 0
		if next[1] < next[0] {
			k = 1
		}
		at := next[k]
		if at == len(b) {
			return
		}
		if uint64(w.addr+procmem.Addr(at))&(f.align-1) == 0 {
			w.add(at, n.size, f.index)
		}
		next[k] = n.next(b, at+n.size, k)
	}
}

// next returns the offset of the first number in b from i on that is in a span, or the length
// of b.
func (n *number) next(b []byte, i, span int) int {
	if span >= len(n.spans) || i+n.size > len(b) {
		return len(b)
	}
	s := n.spans[span]
	if n.in(b[i:], s) { // where there is one there are often many
		return i
	}
	if k := n.index(b[i:], s); k >= 0 {
		return i + k
	}
	return len(b)
}

// index returns the offset of the first number in b that is in s, or -1.
func (n *number) index(b []byte, s valueRange) int {
	if !n.bigEndian {
		return indexRange(b, n.size, s)
	}
	for i := 0; i+n.size <= len(b); i += n.size {
		if n.in(b[i:], s) {
			return i
		}
	}
	return -1
}

// exact returns the bytes of a number that is one value.
func (n *number) exact() ([]byte, bool) {
	if len(n.spans) != 1 || n.spans[0].more != 0 {
		return nil, false
	}
	b := make([]byte, n.size)
	for i := range b {
		b[i] = byte(n.spans[0].first >> (8 * i))
	}
	if n.bigEndian {
		slices.Reverse(b)
	}
	return b, true
}
