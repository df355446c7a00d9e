package pageset

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"reflect"
	"slices"
	"sort"
	"sync"

	"github.com/procmem/procmem"
)

// chunkSize is how many bytes of memory get a place in the file at once. So neighbours in
// memory are neighbours in the file by and large.
const chunkSize = chunkPages * procmem.PageSize

// Place is where memory lies in a file: its address plus Delta is the offset.
type Place struct {
	procmem.Range
	Delta int64
}

// Store keeps pages by address in a file that can be written anywhere and is all zeros at
// first. Pages may be overwritten and forgotten, and forgotten ones leave no byte behind. Put
// and ReadAt are safe for concurrent use on different pages.
type Store struct {
	dst   io.WriterAt
	limit int64 // the highest offset at which a place may end

	mu     sync.Mutex
	places []Place // ascending, disjoint; neighbours with one Delta are one
	end    int64   // of the last place in the file
	held   Set     // what was put and not forgotten
	data   Set     // the pages of the file that may hold anything but zeros
}

// NewStore returns a store in the file dst. The given places, ascending and disjoint, are
// fixed. Other memory gets a place when it first needs one, from offset end on; it fails if the
// place would end above limit.
func NewStore(dst io.WriterAt, places []Place, end, limit int64) *Store {
	return &Store{dst: dst, places: places, end: end, limit: limit}
}

// Put writes whole pages. Pages of zeros become holes.
func (s *Store) Put(addr procmem.Addr, p []byte) error {
	if end, err := addr.Add(uint64(len(p))); err != nil || addr != addr.PageDown() || end != end.PageDown() {
		return fmt.Errorf("%d bytes at %v are no whole pages", len(p), addr)
	}
	for len(p) > 0 {
		zeros := Run(true, p)
		if err := s.drop(rangeOf(addr, zeros)); err != nil {
			return err
		}
		n := zeros + Run(false, p[zeros:])
		if err := s.write(addr+procmem.Addr(zeros), p[zeros:n]); err != nil {
			return err
		}
		s.mu.Lock()
		s.held.Add(rangeOf(addr, n))
		s.mu.Unlock()
		addr, p = addr+procmem.Addr(n), p[n:]
	}
	return nil
}

func rangeOf(addr procmem.Addr, n int) procmem.Range {
	return procmem.Range{Start: addr, End: addr + procmem.Addr(n)}
}

// write writes pages to where they belong.
func (s *Store) write(addr procmem.Addr, p []byte) error {
	for len(p) > 0 {
		at, err := s.place(addr)
		if err != nil {
			return err
		}
		n := int(min(uint64(len(p)), uint64(at.End-addr)))
		s.mu.Lock()
		s.data.Add(rangeOf(addr, n)) // before it is true, in case the write fails in the middle
		s.mu.Unlock()
		if err := s.writeAt(p[:n], int64(addr)+at.Delta); err != nil {
			return err
		}
		addr, p = addr+procmem.Addr(n), p[n:]
	}
	return nil
}

func (s *Store) writeAt(p []byte, off int64) error {
	if _, err := s.dst.WriteAt(p, off); err != nil {
		return fmt.Errorf("write at offset %#x: %w", off, err)
	}
	return nil
}

// place returns the place that holds addr, a new one where there is none.
func (s *Store) place(addr procmem.Addr) (Place, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.find(addr)
	if i < len(s.places) && s.places[i].Contains(addr) {
		return s.places[i], nil
	}
	chunk := addr &^ (chunkSize - 1)
	r := procmem.Range{Start: chunk, End: procmem.Addr(math.MaxUint64).PageDown()}
	if end, err := chunk.Add(chunkSize); err == nil {
		r.End = end
	}
	if i > 0 {
		r.Start = max(r.Start, s.places[i-1].End)
	}
	if i < len(s.places) {
		r.End = min(r.End, s.places[i].Start)
	}
	return s.insert(i, r)
}

// find returns the index of the first place that ends above addr.
func (s *Store) find(addr procmem.Addr) int {
	return sort.Search(len(s.places), func(i int) bool { return s.places[i].End > addr })
}

// insert gives r, which lies in front of place i, a place.
func (s *Store) insert(i int, r procmem.Range) (Place, error) {
	at, err := s.grow(r)
	if err != nil {
		return at, err
	}
	// Nothing that follows in memory can follow in the file.
	if i > 0 && s.places[i-1].End == r.Start && s.places[i-1].Delta == at.Delta {
		s.places[i-1].End = r.End
		return s.places[i-1], nil
	}
	s.places = slices.Insert(s.places, i, at)
	return at, nil
}

// grow takes room for r at the end of the file.
func (s *Store) grow(r procmem.Range) (Place, error) {
	if r.Size() > uint64(s.limit-s.end) {
		return Place{}, fmt.Errorf("%v would end at file offset %#x, beyond the limit of %#x", r, uint64(s.end)+r.Size(), s.limit)
	}
	at := Place{r, s.end - int64(r.Start)}
	s.end += int64(r.Size())
	return at, nil
}

// Settle gives all memory of the ranges a place, and forgets everything outside of them. Ranges
// must be ascending and disjoint. The places that it returns are ascending, and each lies in
// one of the ranges.
func (s *Store) Settle(ranges []procmem.Range) ([]Place, error) {
	s.mu.Lock()
	places, err := s.settle(ranges)
	var holes []Place
	if err == nil {
		holes = s.outside(ranges)
	}
	s.mu.Unlock()
	return places, cmp.Or(err, s.makeHoles(holes))
}

// settle returns the places of the ranges. It walks along both, since there may be tens of
// thousands of each.
func (s *Store) settle(ranges []procmem.Range) (out []Place, err error) {
	known, i := s.places, 0
	var fresh []Place
	for _, r := range ranges {
		for !r.Empty() {
			for i < len(known) && known[i].End <= r.Start {
				i++
			}
			var at Place
			switch {
			case i < len(known) && known[i].Contains(r.Start):
				at = Place{r.Intersect(known[i].Range), known[i].Delta}
			case i < len(known):
				at, err = s.grow(procmem.Range{Start: r.Start, End: min(r.End, known[i].Start)})
				fresh = append(fresh, at)
			default:
				at, err = s.grow(r)
				fresh = append(fresh, at)
			}
			if err != nil {
				return nil, err
			}
			out = append(out, at)
			r.Start = at.End
		}
	}
	s.places = joinPlaces(append(known, fresh...))
	return out, nil
}

// joinPlaces brings places in order and makes one of neighbours.
func joinPlaces(places []Place) []Place {
	slices.SortFunc(places, func(a, b Place) int { return cmp.Compare(a.Start, b.Start) })
	joined := places[:0]
	for _, p := range places {
		if k := len(joined) - 1; k >= 0 && joined[k].End == p.Start && joined[k].Delta == p.Delta {
			joined[k].End = p.End
		} else {
			joined = append(joined, p)
		}
	}
	return joined
}

// outside takes what is not in the ranges out of the sets, and returns where there have to be
// holes.
func (s *Store) outside(ranges []procmem.Range) (holes []Place) {
	var at procmem.Addr
	drop := func(end procmem.Addr) {
		gap := procmem.Range{Start: at, End: end}
		holes = append(holes, s.stored(gap)...)
		s.held.Remove(gap)
		s.data.Remove(gap)
	}
	for _, r := range ranges {
		drop(r.Start)
		at = r.End
	}
	drop(math.MaxUint64)
	return holes
}

// Forget removes the pages of r from the store and makes holes of them.
func (s *Store) Forget(r procmem.Range) error {
	s.mu.Lock()
	s.held.Remove(r)
	s.mu.Unlock()
	return s.drop(r)
}

// drop makes holes of the pages of r.
func (s *Store) drop(r procmem.Range) error {
	s.mu.Lock()
	holes := s.stored(r)
	s.data.Remove(r)
	s.mu.Unlock()
	return s.makeHoles(holes)
}

func (s *Store) makeHoles(holes []Place) error {
	for _, h := range holes {
		if err := s.hole(int64(h.Start)+h.Delta, int64(h.Size())); err != nil {
			return err
		}
	}
	return nil
}

// stored returns where the pages of r lie that are not zeros. The caller has locked.
func (s *Store) stored(r procmem.Range) (out []Place) {
	for d := range s.data.Ranges(r) {
		for i := s.find(d.Start); !d.Empty(); i++ {
			at := Place{s.places[i].Intersect(d), s.places[i].Delta}
			out = append(out, at)
			d.Start = at.End
		}
	}
	return out
}

// hole makes n bytes of the file read as zeros, without taking room where the file can do that.
func (s *Store) hole(off, n int64) error {
	if f, ok := s.dst.(interface{ PunchHole(off, n int64) error }); ok {
		if err := f.PunchHole(off, n); err != nil {
			return fmt.Errorf("make a hole at offset %#x: %w", off, err)
		}
		return nil
	}
	for n > 0 {
		p := zeroBlock[:min(n, int64(len(zeroBlock)))]
		if err := s.writeAt(p, off); err != nil {
			return err
		}
		off, n = off+int64(len(p)), n-int64(len(p))
	}
	return nil
}

// ReadAt reads what was put. The file must be an io.ReaderAt.
func (s *Store) ReadAt(p []byte, addr procmem.Addr) (int, error) {
	src, ok := s.dst.(io.ReaderAt)
	if !ok {
		return 0, errors.New("the file cannot be read back")
	}
	n, data := s.readable(p, addr)
	clear(p[:n])
	for _, d := range data {
		lo, hi := d.Start-addr, d.End-addr
		if m, err := src.ReadAt(p[lo:hi], int64(d.Start)+d.Delta); m < int(hi-lo) {
			return int(lo) + m, &procmem.FaultError{Addr: d.Start + procmem.Addr(m), Err: err}
		}
	}
	if n < len(p) {
		return n, &procmem.FaultError{Addr: addr + procmem.Addr(n), Err: procmem.ErrNotMapped}
	}
	return n, nil
}

// readable returns how much of p the store holds from addr on, and the parts of that which are
// not zeros.
func (s *Store) readable(p []byte, addr procmem.Addr) (n int, data []Place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	want := procmem.Range{Start: addr, End: addr + procmem.Addr(len(p))}
	if want.End < addr {
		want.End = math.MaxUint64
	}
	for r := range s.held.Ranges(want) {
		if r.Start > addr {
			break
		}
		n = int(min(r.End, want.End) - addr)
	}
	data = s.stored(rangeOf(addr, n))
	for i := range data {
		data[i].Range = data[i].Intersect(want)
	}
	return n, data
}

// Held yields the runs of pages inside r that were put and not forgotten, ascending. Changes
// made during the loop do not show in it.
func (s *Store) Held(r procmem.Range) iter.Seq[procmem.Range] {
	return func(yield func(procmem.Range) bool) {
		s.mu.Lock()
		runs := slices.Collect(s.held.Ranges(r))
		s.mu.Unlock()
		for _, run := range runs {
			if !yield(run) {
				return
			}
		}
	}
}

// Lacks yields the runs of pages inside r that Held does not. The store must not be changed
// during the loop.
func (s *Store) Lacks(r procmem.Range) iter.Seq[procmem.Range] { return s.held.Gaps(r) }

// End returns the offset at which the last place ends.
func (s *Store) End() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end
}

// Bytes returns how many bytes of the file are not holes.
func (s *Store) Bytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(s.data.Len() * procmem.PageSize)
}

// zeroBlock is compared with and written from, never written to.
var zeroBlock [256 << 10]byte

// Buffer returns n bytes that begin at a page boundary, as direct I/O requires.
func Buffer(n int) []byte {
	b := make([]byte, n+procmem.PageSize)
	skip := -int(reflect.ValueOf(b).Pointer()) & (procmem.PageSize - 1)
	return b[skip : skip+n : skip+n]
}

// Run returns the length, in bytes, of the run of pages at the front of p that are all zero, or
// all not. The last page may be short.
func Run(zero bool, p []byte) int {
	n := 0
	for n < len(p) {
		page := p[n:min(n+procmem.PageSize, len(p))]
		if bytes.Equal(page, zeroBlock[:len(page)]) != zero {
			break
		}
		n += len(page)
	}
	return n
}
