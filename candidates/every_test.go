package candidates

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/search"
)

// naivePositions takes what there is as candidates, in the simplest way.
func naivePositions(m *pagedMemory, info Info, o search.Options) []known {
	var all []known
	readable := func(a procmem.Addr) bool {
		return m.readable(a.PageDown()) && m.pages[a.PageDown()] != nil &&
			(o.Swapped || !m.swapped[a.PageDown()]) &&
			(o.In == nil || slices.ContainsFunc(o.In, func(r procmem.Range) bool { return r.Contains(a) }))
	}
	for i := range m.maps {
		for a := m.maps[i].Start; a < m.maps[i].End; a++ {
			if uint64(a)%uint64(info.Align) != 0 || !readable(a) {
				continue
			}
			ok := true
			for k := range info.size() {
				ok = ok && readable(a+procmem.Addr(k))
			}
			if ok {
				v, _ := m.value(a, info.size())
				all = append(all, known{a, string(v)})
			}
		}
	}
	return all
}

// Every position is a candidate, as a naive reader finds them.
func TestEveryPosition(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 4))
	for round := range 32 {
		m, info := randomMemory(rnd), randomInfo(rnd)
		if round%8 == 0 {
			info.Align = 2 * page
		}
		o := search.Options{In: randomRanges(rnd), Swapped: rnd.IntN(2) == 0}
		var file bytes.Buffer
		w, err := NewWriter(&file, info)
		if err != nil {
			t.Fatal(err)
		}
		stats, err := EveryPosition(t.Context(), m, o, w)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if len(m.touched) > 0 && !o.Swapped {
			t.Fatal("memory was read that is swapped out")
		}
		clear(m.touched)
		want := naivePositions(m, info, o)
		if _, got := readAll(t, file.Bytes()); !slices.Equal(got, want) {
			t.Fatalf("round %d: %+v %v: %d candidates, want %d", round, info, o, len(got), len(want))
		}
		swapped, in := uint64(0), o.In // which have no overlaps
		if in == nil {
			in = []procmem.Range{{End: math.MaxUint64}}
		}
		for a := range m.swapped {
			for _, r := range in {
				swapped += r.Intersect(procmem.Range{Start: a, End: a + page}).Size()
			}
		}
		if o.Swapped {
			swapped = 0
		}
		if stats.Swapped != swapped || len(want) > 0 && stats.Scanned == 0 {
			t.Fatalf("round %d: %+v, %d bytes are swapped out", round, stats, swapped)
		}
	}
}

// Positions are found that lie across the seam of two jobs, and one byte that
// changes is noticed wherever it is.
func TestSeams(t *testing.T) {
	const pages, start = 2*runPages + 5, 0x10000
	m := newPagedMemory()
	rnd := rand.New(rand.NewPCG(1, 6))
	m.add(start, pages, func(b []byte) bool { rngReader{rnd}.Read(b); return true })
	for _, info := range []Info{{Type: search.U64, Align: 1, Word: 8}, {Type: search.U64, Align: 8, Word: 8}} {
		var file bytes.Buffer
		w, _ := NewWriter(&file, info)
		if _, err := EveryPosition(t.Context(), m, search.Options{}, w); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		_, got := readAll(t, file.Bytes())
		if want := (pages*page - 8) / info.Align; len(got) != want+1 {
			t.Fatalf("%d candidates, want %d", len(got), want+1)
		}
		for i, c := range got {
			if v, _ := m.value(c.addr, 8); c.addr != procmem.Addr(start+i*info.Align) || string(v) != c.value {
				t.Fatalf("candidate %d is at %v with %x, want %x", i, c.addr, c.value, v)
			}
		}
		for _, off := range []int{0, 7, 8, page - 1, page, runPages*page - 1, runPages * page, pages*page - 1} {
			b := &m.pages[procmem.Addr(start+off).PageDown()][off%page]
			*b++
			r, err := Open(bytes.NewReader(file.Bytes()))
			if err != nil {
				t.Fatal(err)
			}
			var at []procmem.Addr
			_, err = Narrow(t.Context(), m, r, Narrowing{Change: Changed, Each: func(c Candidate) bool {
				at = append(at, c.Addr)
				return true
			}})
			*b--
			first, last := max(0, (off-8+info.Align)/info.Align), min(off, pages*page-8)/info.Align
			if err != nil || len(at) != last-first+1 || at[0] != procmem.Addr(start+first*info.Align) {
				t.Errorf("align %d: a byte at %#x changes: %v %v", info.Align, off, at, err)
			}
		}
	}
}
