// Package pageset keeps pages and ranges of addresses, in address spaces of any size. Set tells
// which pages there are, and Store where in a file they lie. The functions on ranges (Merge,
// Index, Overlaps and so on) are the only ones.
package pageset

import (
	"iter"
	"math"
	"math/bits"
	"slices"

	"github.com/procmem/procmem"
)

// chunkPages is the number of pages that share a bitmap: 2 MiB.
const chunkPages = 512

// Set is a set of pages. The zero value is empty. Ranges are widened to whole pages. A Set is
// not safe for concurrent use, and must not be changed during Ranges or Gaps.
type Set struct {
	chunks map[uint64]*chunk
	keys   []uint64 // of chunks, ascending unless unsorted; an empty chunk stays
	n      uint64   // pages

	unsorted bool
}

// chunk is one bitmap with its number of pages.
type chunk struct {
	bits [chunkPages / 64]uint64
	n    int
}

// pages returns the page numbers [first, end) that r touches. Numbers of pages, unlike
// addresses, can name the end of the last page.
func pages(r procmem.Range) (first, end uint64) {
	if r.Empty() {
		return 0, 0
	}
	return uint64(r.Start) / procmem.PageSize, uint64(r.End-1)/procmem.PageSize + 1
}

// addresses is the way back. The end of the last page is no address, so that its last byte must
// do.
func addresses(first, end uint64) procmem.Range {
	if end > math.MaxUint64/procmem.PageSize {
		return procmem.Range{Start: procmem.Addr(first * procmem.PageSize), End: math.MaxUint64}
	}
	return procmem.Range{Start: procmem.Addr(first * procmem.PageSize), End: procmem.Addr(end * procmem.PageSize)}
}

// Add puts the pages of r into the set.
func (s *Set) Add(r procmem.Range) {
	first, end := pages(r)
	for first < end {
		key, lo := first/chunkPages, int(first%chunkPages)
		hi := int(min(chunkPages, uint64(lo)+end-first))
		s.n += uint64(s.chunk(key).change(lo, hi, true))
		first += uint64(hi - lo)
	}
}

// chunk returns a chunk, new where there is none.
func (s *Set) chunk(key uint64) *chunk {
	c := s.chunks[key]
	if c == nil {
		if s.chunks == nil {
			s.chunks = map[uint64]*chunk{}
		}
		c = new(chunk)
		s.chunks[key] = c
		s.unsorted = s.unsorted || len(s.keys) > 0 && s.keys[len(s.keys)-1] > key
		s.keys = append(s.keys, key)
	}
	return c
}

// Remove takes the pages of r out of the set.
func (s *Set) Remove(r procmem.Range) {
	first, end := pages(r)
	for _, key := range s.between(first, end) {
		lo, hi := within(key, first, end)
		s.n -= uint64(s.chunks[key].change(lo, hi, false))
	}
}

// Clear empties the set.
func (s *Set) Clear() { *s = Set{} }

// Has reports whether the page that holds a is in the set.
func (s *Set) Has(a procmem.Addr) bool {
	page := uint64(a) / procmem.PageSize
	c := s.chunks[page/chunkPages]
	return c != nil && c.bits[page%chunkPages/64]&(1<<(page%64)) != 0
}

// Len returns the number of pages in the set.
func (s *Set) Len() uint64 { return s.n }

// Ranges yields the longest runs of pages inside r that are in the set, ascending.
func (s *Set) Ranges(r procmem.Range) iter.Seq[procmem.Range] {
	return func(yield func(procmem.Range) bool) {
		for lo, hi := range s.runs(pages(r)) {
			if !yield(addresses(lo, hi)) {
				return
			}
		}
	}
}

// Gaps yields the longest runs of pages inside r that are not in the set, ascending.
func (s *Set) Gaps(r procmem.Range) iter.Seq[procmem.Range] {
	return func(yield func(procmem.Range) bool) {
		at, end := pages(r)
		for lo, hi := range s.runs(at, end) {
			if at < lo && !yield(addresses(at, lo)) {
				return
			}
			at = hi
		}
		if at < end {
			yield(addresses(at, end))
		}
	}
}

// runs yields the runs of page numbers inside [first, end), across the borders of chunks.
func (s *Set) runs(first, end uint64) iter.Seq2[uint64, uint64] {
	return func(yield func(lo, hi uint64) bool) {
		var from, to uint64 // the run so far
		for _, key := range s.between(first, end) {
			c, base := s.chunks[key], key*chunkPages
			at, stop := within(key, first, end)
			for at < stop {
				lo := c.next(at, stop, true)
				if lo == stop {
					break
				}
				at = c.next(lo, stop, false)
				if base+uint64(lo) != to {
					if from < to && !yield(from, to) {
						return
					}
					from = base + uint64(lo)
				}
				to = base + uint64(at)
			}
		}
		if from < to {
			yield(from, to)
		}
	}
}

// between returns the keys of the chunks that [first, end) touches.
func (s *Set) between(first, end uint64) []uint64 {
	if first >= end {
		return nil
	}
	if s.unsorted {
		slices.Sort(s.keys)
		s.unsorted = false
	}
	i, _ := slices.BinarySearch(s.keys, first/chunkPages)
	j, _ := slices.BinarySearch(s.keys, (end-1)/chunkPages+1)
	return s.keys[i:j]
}

// within returns the part of a chunk that lies in [first, end).
func within(key, first, end uint64) (lo, hi int) {
	base := key * chunkPages
	return int(max(first, base) - base), int(min(end-base, chunkPages))
}

// change sets the bits [lo, hi) and returns how many of them changed.
func (c *chunk) change(lo, hi int, to bool) int {
	before := c.n
	switch {
	case to && c.n == chunkPages || !to && c.n == 0:
		return 0
	case hi-lo == chunkPages && to:
		for i := range c.bits {
			c.bits[i] = math.MaxUint64
		}
		c.n = chunkPages
	case hi-lo == chunkPages:
		*c = chunk{}
	default:
		for lo < hi {
			n := min(hi-lo, 64-lo%64)
			mask := uint64(math.MaxUint64) >> (64 - n) << (lo % 64)
			w := &c.bits[lo/64]
			c.n -= bits.OnesCount64(*w)
			if to {
				*w |= mask
			} else {
				*w &^= mask
			}
			c.n += bits.OnesCount64(*w)
			lo += n
		}
	}
	return max(c.n-before, before-c.n)
}

// next returns the first bit in [at, stop) that is set, or is not; else stop.
func (c *chunk) next(at, stop int, set bool) int {
	if c.n == 0 || c.n == chunkPages {
		if set == (c.n > 0) {
			return at
		}
		return stop
	}
	for at < stop {
		w := c.bits[at/64]
		if !set {
			w = ^w
		}
		if w >>= at % 64; w != 0 {
			return min(stop, at+bits.TrailingZeros64(w))
		}
		at = at&^63 + 64
	}
	return stop
}
