package pageset

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/procmem/procmem"
)

const page = procmem.PageSize

func rng(start, end procmem.Addr) procmem.Range { return procmem.Range{Start: start, End: end} }

// oracle is a set of 4 chunks of pages from base, and what is asked of it in
// the simplest way.
type oracle struct {
	base procmem.Addr
	has  [4 * chunkPages]bool
}

// whole widens r to pages and cuts off what is outside of the oracle.
func (o *oracle) whole(r procmem.Range) (first, end int) {
	if r.Empty() {
		return 0, 0
	}
	return int((r.Start - o.base) / page), int((r.End-1-o.base)/page) + 1
}

func (o *oracle) set(r procmem.Range, to bool) {
	first, end := o.whole(r)
	for i := first; i < end; i++ {
		o.has[i] = to
	}
}

func (o *oracle) len() (n uint64) {
	for _, b := range o.has {
		if b {
			n++
		}
	}
	return n
}

func (o *oracle) runs(r procmem.Range, want bool) (out []procmem.Range) {
	first, end := o.whole(r)
	for i := first; i < end; i++ {
		if o.has[i] != want {
			continue
		}
		a := o.base + procmem.Addr(i)*page
		stop := a + page
		if stop == 0 {
			stop-- // the end of the last page is no address
		}
		if k := len(out) - 1; k >= 0 && out[k].End == a {
			out[k].End = stop
		} else {
			out = append(out, rng(a, stop))
		}
	}
	return out
}

func TestRandom(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const size = 4 * chunkPages * page
	for _, base := range []procmem.Addr{0, 0x7f0000000000 + 5*page, math.MaxUint64 - size + 1} {
		o := &oracle{base: base}
		var s Set
		for step := range 5_000 {
			lo := random.Uint64N(size)
			n := random.Uint64N(3 * page)
			if random.IntN(4) == 0 {
				n = random.Uint64N(size)
			}
			start := base + procmem.Addr(lo)
			r := rng(start, start+procmem.Addr(min(n, size-1-lo)))
			switch k := random.IntN(100); {
			case k == 0:
				s.Clear()
				o.has = oracle{}.has
			case k < 40:
				s.Add(r)
				o.set(r, true)
			case k < 70:
				s.Remove(r)
				o.set(r, false)
			}
			if got, want := s.Len(), o.len(); got != want {
				t.Fatalf("%v: step %d: %d pages, want %d", base, step, got, want)
			}
			if got, want := s.Has(start), o.has[lo/page]; got != want {
				t.Fatalf("%v: step %d: has %v: %v", base, step, start, got)
			}
			for _, within := range []procmem.Range{r, rng(base, base+size-1)} {
				if got, want := slices.Collect(s.Ranges(within)), o.runs(within, true); !slices.Equal(got, want) {
					t.Fatalf("%v: step %d: ranges in %v\n got %v\nwant %v", base, step, within, got, want)
				}
				if got, want := slices.Collect(s.Gaps(within)), o.runs(within, false); !slices.Equal(got, want) {
					t.Fatalf("%v: step %d: gaps in %v\n got %v\nwant %v", base, step, within, got, want)
				}
			}
		}
	}
}

func TestStopEarly(t *testing.T) {
	var s Set
	s.Add(rng(0, page))
	s.Add(rng(2*page, 3*page))
	s.Add(rng(4*page, 5*page))
	for r := range s.Ranges(rng(0, 10*page)) {
		if r != rng(0, page) {
			t.Errorf("%v after the loop was left", r)
		}
		break
	}
	for r := range s.Gaps(rng(0, 10*page)) {
		if r != rng(page, 2*page) {
			t.Errorf("%v after the loop was left", r)
		}
		break
	}
}

// What is asked of the whole address space costs what is in the set, not what
// could be.
func TestHuge(t *testing.T) {
	all := rng(0, math.MaxUint64)
	var s Set
	s.Remove(all)
	for i := range procmem.Addr(1000) {
		at := (1000 - i) << 44
		s.Add(rng(at, at+page))
	}
	began := time.Now()
	if n := len(slices.Collect(s.Ranges(all))); n != 1000 {
		t.Errorf("%d ranges", n)
	}
	gaps := slices.Collect(s.Gaps(all))
	if len(gaps) != 1001 || gaps[1000].End != math.MaxUint64 {
		t.Errorf("%d gaps", len(gaps))
	}
	if s.Remove(all); s.Len() != 0 || len(slices.Collect(s.Gaps(all))) != 1 {
		t.Errorf("%d pages are left", s.Len())
	}
	s.Add(rng(1<<40, 1<<40+8<<30))
	if got := slices.Collect(s.Ranges(all)); len(got) != 1 || got[0] != rng(1<<40, 1<<40+8<<30) {
		t.Errorf("%v", got)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("%v", took)
	}
}
