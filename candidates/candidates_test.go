package candidates

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/search"
)

const page = procmem.PageSize

// pagedMemory is memory of pages that may be absent, swapped out, or refuse to
// be read.
type pagedMemory struct {
	maps    []procmem.Mapping
	pages   map[procmem.Addr][]byte
	swapped map[procmem.Addr]bool
	broken  map[procmem.Addr]error
	touched map[procmem.Addr]bool // swapped pages that were read
}

func newPagedMemory() *pagedMemory {
	return &pagedMemory{pages: map[procmem.Addr][]byte{}, swapped: map[procmem.Addr]bool{},
		broken: map[procmem.Addr]error{}, touched: map[procmem.Addr]bool{}}
}

func (m *pagedMemory) add(start procmem.Addr, pages int, fill func(page []byte) bool) {
	m.maps = append(m.maps, procmem.Mapping{Range: procmem.Range{Start: start, End: start + procmem.Addr(pages*page)}})
	for i := range pages {
		if b := make([]byte, page); fill(b) {
			m.pages[start+procmem.Addr(i*page)] = b
		}
	}
}

func (m *pagedMemory) Mappings() ([]procmem.Mapping, error) { return m.maps, nil }

func (m *pagedMemory) ReadAt(p []byte, a procmem.Addr) (int, error) {
	for n := 0; n < len(p); {
		base := (a + procmem.Addr(n)).PageDown()
		if !m.mapped(base) {
			return n, &procmem.FaultError{Addr: a + procmem.Addr(n), Err: procmem.ErrNotMapped}
		}
		if err := m.broken[base]; err != nil {
			return n, &procmem.FaultError{Addr: a + procmem.Addr(n), Err: err}
		}
		if m.swapped[base] && m.pages[base] != nil {
			m.touched[base] = true // by one goroutine, or it is an error anyway
		}
		b := m.pages[base]
		if b == nil {
			b = make([]byte, page)
		}
		n += copy(p[n:], b[a+procmem.Addr(n)-base:])
	}
	return len(p), nil
}

func (m *pagedMemory) present(r procmem.Range, keep func(procmem.Addr) bool) iter.Seq2[procmem.Range, error] {
	return func(yield func(procmem.Range, error) bool) {
		for _, m := range m.maps {
			for a := m.Start; a < m.End; a += page {
				x := procmem.Range{Start: a, End: a + page}.Intersect(r)
				if keep(a) && !x.Empty() && !yield(x, nil) {
					return
				}
			}
		}
	}
}

func (m *pagedMemory) Data(r procmem.Range) iter.Seq2[procmem.Range, error] {
	return m.present(r, func(a procmem.Addr) bool { return m.pages[a] != nil })
}

func (m *pagedMemory) Resident(r procmem.Range) iter.Seq2[procmem.Range, error] {
	return m.present(r, func(a procmem.Addr) bool { return m.pages[a] != nil && !m.swapped[a] })
}

func (m *pagedMemory) mapped(a procmem.Addr) bool {
	i := procmem.FindMapping(m.maps, a)
	return i < len(m.maps) && m.maps[i].Contains(a)
}

func (m *pagedMemory) readable(a procmem.Addr) bool { return m.mapped(a) && m.broken[a] == nil }

func (m *pagedMemory) value(a procmem.Addr, size int) ([]byte, error) {
	b := make([]byte, size)
	_, err := m.ReadAt(b, a)
	return b, err
}

// known is a candidate that outlives the next one.
type known struct {
	addr  procmem.Addr
	value string
}

func readAll(t testing.TB, file []byte) (Info, []known) {
	t.Helper()
	r, err := Open(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	var got []known
	for c, err := range r.All() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, known{c.Addr, string(c.Value)})
	}
	return r.Info(), got
}

func writeAll(t testing.TB, info Info, all []known) []byte {
	t.Helper()
	var file bytes.Buffer
	w, err := NewWriter(&file, info)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if err := w.Add(c.addr, []byte(c.value)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if w.Count() != uint64(len(all)) {
		t.Fatalf("%d candidates, want %d", w.Count(), len(all))
	}
	return file.Bytes()
}

// randomInfo is candidates of any kind.
func randomInfo(rnd *rand.Rand) Info {
	types := search.TypeNames()
	typ, _ := search.ParseType(types[rnd.IntN(len(types))])
	return Info{Type: typ, Align: 1 << rnd.IntN(5), BigEndian: rnd.IntN(2) == 0, Word: 4 << rnd.IntN(2)}
}

// What is written is read: dense and sparse, equal, zero and random values, far
// apart, in any number.
func TestRoundTrip(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for round := range 30 {
		info := randomInfo(rnd)
		info.Origin = Origin{PID: round, Start: rnd.Uint64(), Boot: "b", Program: rnd.Uint32(), Core: strings.Repeat("c", round)}
		if round == 0 {
			info.Align = 1 << 20
		}
		size := info.size()
		var all []known
		a := procmem.Addr(rnd.Uint64N(1<<40)) &^ procmem.Addr(info.Align-1)
		for range rnd.IntN(40) {
			step, kind := rnd.IntN(4), rnd.IntN(3)
			for range rnd.IntN(3000) {
				v := make([]byte, size)
				switch {
				case kind == 1:
					v[0] = 7
				case kind == 2 || rnd.IntN(10) == 0:
					binary.Read(rngReader{rnd}, binary.LittleEndian, v)
				}
				all = append(all, known{a, string(v)})
				a += procmem.Addr(info.Align << (step * rnd.IntN(5)))
				if all[len(all)-1].addr == a {
					a += procmem.Addr(info.Align)
				}
			}
			a += procmem.Addr(rnd.Uint64N(1<<(10*uint(step)+4))) * procmem.Addr(info.Align)
		}
		file := writeAll(t, info, all)
		if got, back := readAll(t, file); got != info || !slices.Equal(back, all) {
			t.Fatalf("round %d: %+v and %d candidates, want %+v and %d", round, got, len(back), info, len(all))
		}
	}
	none := Info{Type: search.U8, Align: 1, Word: 8}
	if _, back := readAll(t, writeAll(t, none, nil)); len(back) != 0 {
		t.Error("candidates out of nothing")
	}
}

type rngReader struct{ rnd *rand.Rand }

func (r rngReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r.rnd.Uint32())
	}
	return len(p), nil
}

// Candidates take little room.
func TestCompact(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 3))
	info := Info{Type: search.U32, Align: 4, Word: 8}
	const n = 1 << 18
	for _, c := range []struct {
		name string
		most float64 // bytes a candidate, values not included where they are random
		next func(i int) (step int, value uint32)
	}{
		{"all, equal", 0.01, func(int) (int, uint32) { return 4, 9 }},
		{"all, one in ten not zero", 0.6, func(int) (int, uint32) { return 4, uint32(rnd.IntN(1000) * (1 - min(1, rnd.IntN(10)))) }},
		{"all, random", 4.01, func(int) (int, uint32) { return 4, rnd.Uint32() }},
		{"every other, equal", 0.27, func(int) (int, uint32) { return 8, 9 }},
		{"ten in a page, equal", 2.2, func(int) (int, uint32) { return 4 * (1 + rnd.IntN(204)), 9 }},
		{"one in many pages", 10, func(int) (int, uint32) { return 4 * rnd.IntN(1<<20), 9 }},
	} {
		a := procmem.Addr(0x7f0000000000)
		all := make([]known, 0, n)
		for i := range n {
			step, v := c.next(i)
			a += procmem.Addr(max(step, 4))
			all = append(all, known{a, string(binary.LittleEndian.AppendUint32(nil, v))})
		}
		if each := float64(len(writeAll(t, info, all))) / n; each > c.most {
			t.Errorf("%s: %.2f bytes a candidate, want no more than %.2f", c.name, each, c.most)
		}
	}
}

// A writer takes what ascends, is aligned and has the size.
func TestWriterRefuses(t *testing.T) {
	w, err := NewWriter(io.Discard, Info{Type: search.U32, Align: 4, Word: 8})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(0x1000, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		a    procmem.Addr
		size int
	}{{0x1000, 4}, {0xffc, 4}, {0x2002, 4}, {0x2000, 8}, {math.MaxUint64 - 3, 4}} {
		if w.Add(c.a, make([]byte, c.size)) == nil {
			t.Errorf("%v with %d bytes is taken", c.a, c.size)
		}
	}
	for _, info := range []Info{{Type: search.U32, Align: 0, Word: 8}, {Type: search.U32, Align: 4, Word: 3}, {Align: 1, Word: 8, Origin: Origin{Core: strings.Repeat("x", maxHeadBytes)}}} {
		if _, err := NewWriter(io.Discard, info); err == nil {
			t.Errorf("%.200v is taken", info)
		}
	}
}

// sample is a file that has all kinds of pages.
func sample(t testing.TB) []byte {
	info := Info{Type: search.U16, Align: 2, Word: 8, Origin: Origin{PID: 1, Start: 2, Boot: "x"}}
	var all []known
	for i := range 2048 {
		all = append(all, known{procmem.Addr(0x10000 + 2*i), "ab"})
	}
	for i := range 64 {
		all = append(all, known{procmem.Addr(0x20000 + 34*i), string([]byte{byte(i) * byte(i&1), 0})})
	}
	for i := range 40 {
		all = append(all, known{procmem.Addr(0x30000 + i*i*8192), string([]byte{byte(i), 1})})
	}
	return writeAll(t, info, all)
}

// No byte can be changed, and nothing taken away or added, without notice.
func TestDamaged(t *testing.T) {
	file := sample(t)
	read := func(b []byte) error {
		r, err := Open(bytes.NewReader(b))
		if err != nil {
			return err
		}
		for _, err := range r.All() {
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := read(file); err != nil {
		t.Fatal(err)
	}
	for i := range file {
		b := slices.Clone(file)
		b[i] ^= 0x41
		if read(b) == nil {
			t.Fatalf("byte %d of %d can be changed", i, len(file))
		}
		if err := read(file[:i]); err == nil || i > len(fileMagic) && !strings.Contains(err.Error(), "cut off") {
			t.Fatalf("cut off at %d of %d: %v", i, len(file), err)
		}
	}
	if err := read(append(slices.Clone(file), 0)); err == nil || !strings.Contains(err.Error(), "follows the end") {
		t.Errorf("more behind the end: %v", err)
	}
	for text, want := range map[string]string{
		"":                         "not a file of candidates",
		"\x7fELF":                  "not a file of candidates",
		strings.Repeat("x", 10000): "not a file of candidates",
		strings.Replace(fileMagic, "1", "2", 1) + "abc": "another version",
		fileMagic:                          "cut off",
		fileMagic + "\xff\xff\xff\xff____": "a head of",
	} {
		if err := read([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
	failing := errors.New("the disk is broken")
	if _, err := Open(io.MultiReader(strings.NewReader(fileMagic[:4]), iotestErr{failing})); !errors.Is(err, failing) {
		t.Errorf("%v, want %v", err, failing)
	}
}

type iotestErr struct{ err error }

func (r iotestErr) Read([]byte) (int, error) { return 0, r.err }

// rewrite makes a file with other frames, all checksums right.
func rewrite(t testing.TB, head []byte, total uint64, frames ...[]byte) []byte {
	t.Helper()
	out := slices.Clone(head)
	for _, f := range frames {
		e := frameEncoder{out: append(make([]byte, 8), f...), open: true}
		e.seal()
		out = append(out, e.out...)
	}
	var end bytes.Buffer
	w := Writer{w: &end, total: total, enc: frameEncoder{size: 1, unit: 1}}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return append(out, end.Bytes()...)
}

// Frames that make no sense are refused although their checksums are right.
func TestHostile(t *testing.T) {
	var head bytes.Buffer
	if _, err := NewWriter(&head, Info{Type: search.U32, Align: 4, Word: 8}); err != nil {
		t.Fatal(err)
	}
	const same, list = valuesSame << 2, placesList
	one := []byte{5, list | same, 1, 9, 1, 2, 3, 4}
	far := binary.AppendUvarint(nil, lastPage)
	cat := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	everything := bytes.Repeat([]byte{0, placesAll | same, 1, 2, 3, 4}, maxFramePages)
	for name, c := range map[string]struct {
		total  uint64
		frames [][]byte
		ok     bool
	}{
		"right":                    {1, [][]byte{one}, true},
		"two frames":               {2, [][]byte{one, {6, list | same, 1, 9, 1, 2, 3, 4}}, true},
		"the same page again":      {2, [][]byte{one, one}, false},
		"a lower page":             {2, [][]byte{one, {4, list | same, 1, 9, 1, 2, 3, 4}}, false},
		"another number of them":   {2, [][]byte{one}, false},
		"kind of places":           {1, [][]byte{{5, 3 | same, 1, 9, 1, 2, 3, 4}}, false},
		"kind of values":           {1, [][]byte{{5, list | 3<<2, 1, 9, 1, 2, 3, 4}}, false},
		"more bits of the kind":    {1, [][]byte{{5, list | same | 16, 1, 9, 1, 2, 3, 4}}, false},
		"no place":                 {0, [][]byte{{5, list | same, 0, 1, 2, 3, 4}}, false},
		"too many places":          {1025, [][]byte{cat([]byte{5, list | same, 0x81, 8}, make([]byte, 1025+4))}, false},
		"a place beyond the page":  {1, [][]byte{{5, list | same, 1, 0x80, 8, 1, 2, 3, 4}}, false},
		"places beyond the page":   {2, [][]byte{{5, list | same, 2, 0xff, 7, 0, 1, 2, 3, 4}}, false},
		"a huge gap":               {2, [][]byte{cat([]byte{5, list | same, 2, 1}, binary.AppendUvarint(nil, math.MaxUint64), one[4:])}, false},
		"an empty bitmap":          {0, [][]byte{cat([]byte{5, placesBitmap | same}, make([]byte, 128), one[4:])}, false},
		"half a bitmap":            {1, [][]byte{{5, placesBitmap | same, 1, 2, 3, 4}}, false},
		"half a value":             {1, [][]byte{one[:7]}, false},
		"values cut off":           {2, [][]byte{{5, list, 2, 1, 1, 1, 2, 3, 4, 5, 6, 7}}, false},
		"sparse values cut off":    {2, [][]byte{{5, list | valuesSparse<<2, 2, 1, 1, 3, 1, 2, 3, 4, 5}}, false},
		"spare bits":               {2, [][]byte{{5, list | valuesSparse<<2, 2, 1, 1, 4}}, false},
		"a page without a kind":    {1, [][]byte{cat(one, []byte{0})}, false},
		"a page without an end":    {1, [][]byte{cat(one, []byte{0x80})}, false},
		"beyond all addresses":     {1, [][]byte{cat(far, []byte{list | same, 2, 0, 0xfe, 7, 1, 2, 3, 4})}, false},
		"a page beyond the last":   {2, [][]byte{cat(far, []byte{list | same, 1}, one[3:], []byte{0}, one[1:])}, false},
		"far beyond the last page": {1, [][]byte{cat(binary.AppendUvarint(nil, math.MaxUint64), one[1:])}, false},
		"more than a frame holds":  {1024 * maxFramePages, [][]byte{everything}, false},
	} {
		r, err := Open(bytes.NewReader(rewrite(t, head.Bytes(), c.total, c.frames...)))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range r.All() {
			err = errors.Join(err, e)
		}
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// oldValues takes what there is as candidates, in the simplest way.
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

func randomMemory(rnd *rand.Rand) *pagedMemory {
	m := newPagedMemory()
	a := procmem.Addr(0x10000)
	for range 1 + rnd.IntN(4) {
		pages := 1 + rnd.IntN(12)
		kind := rnd.IntN(3)
		m.add(a, pages, func(b []byte) bool {
			if kind > 0 {
				for i := range b {
					b[i] = byte(rnd.IntN(256) * (1 - min(1, rnd.IntN(2*kind))))
				}
			}
			return rnd.IntN(6) != 0
		})
		a += procmem.Addr((pages + rnd.IntN(3)*rnd.IntN(80)) * page)
	}
	for b := range m.pages {
		switch rnd.IntN(12) {
		case 0:
			m.swapped[b] = true
		case 1:
			m.broken[b] = procmem.ErrUnreadable
		}
	}
	return m
}

func randomRanges(rnd *rand.Rand) []procmem.Range {
	if rnd.IntN(2) == 0 {
		return nil
	}
	var out []procmem.Range
	a := procmem.Addr(0x10000)
	for range rnd.IntN(6) {
		a += procmem.Addr(rnd.IntN(3000))
		b := a + 1 + procmem.Addr(rnd.IntN(20000))
		out = append(out, procmem.Range{Start: a, End: b})
		a = b + 1
	}
	return append(out, procmem.Range{Start: a, End: a + 1})
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

// Narrowing keeps what a naive reader keeps.
func TestNarrow(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 5))
	for round := range 50 {
		m, info := randomMemory(rnd), randomInfo(rnd)
		old := naivePositions(m, info, search.Options{Swapped: true})
		some := old[:0]
		for _, c := range old {
			if round%3 > 0 || rnd.IntN(30) == 0 {
				some = append(some, c)
			}
		}
		old = some
		for a, b := range m.pages {
			if rnd.IntN(3) == 0 {
				rngReader{rnd}.Read(b[:rnd.IntN(page)])
			}
			switch rnd.IntN(20) {
			case 0:
				m.broken[a] = procmem.ErrUnreadable
			case 1:
				m.pages[a] = nil // dropped, so zeros
			}
		}
		if rnd.IntN(4) == 0 {
			m.maps = m.maps[1:]
		}
		n := Narrowing{Change: Change(rnd.IntN(5)), In: randomRanges(rnd), Swapped: rnd.IntN(2) == 0}
		text := ""
		if rnd.IntN(2) == 0 {
			text = "1..100"
			p, err := search.ParseValue(info.Type, text, info.Options())
			if err != nil {
				t.Fatal(err)
			}
			n.Value = p.Holds
		}
		checkNarrow(t, fmt.Sprintf("round %d: %v %v %v", round, info, n.Change, text), m, info, old, n)
	}
}

func checkNarrow(t *testing.T, name string, m *pagedMemory, info Info, old []known, n Narrowing) {
	t.Helper()
	var want, read []known
	wants := Narrowed{Before: uint64(len(old))}
	less := info.Type.Less(info.Options())
	for _, c := range old {
		if n.In != nil && !slices.ContainsFunc(n.In, func(r procmem.Range) bool { return r.Contains(c.addr) }) {
			continue
		}
		first, last := c.addr.PageDown(), (c.addr + procmem.Addr(info.size()-1)).PageDown()
		now, err := m.value(c.addr, info.size())
		out := func(a procmem.Addr) bool { return m.mapped(a) && m.pages[a] != nil && m.swapped[a] && !n.Swapped }
		switch {
		case out(first) || out(last) && m.readable(first):
			wants.Swapped++
			want = append(want, c)
			continue
		case err != nil:
			wants.Lost++
			continue
		}
		keep := [...]bool{true, c.value != string(now), c.value == string(now), less([]byte(c.value), now), less(now, []byte(c.value))}[n.Change]
		if keep && (n.Value == nil || n.Value(now)) {
			want = append(want, known{c.addr, string(now)})
			read = append(read, known{c.addr, c.value + " " + string(now)})
		}
	}
	clear(m.touched)
	wants.Kept = uint64(len(want))
	var file bytes.Buffer
	var err error
	if n.Save, err = NewWriter(&file, info); err != nil {
		t.Fatal(err)
	}
	var got []known
	n.Each = func(c Candidate) bool {
		got = append(got, known{c.Addr, string(c.Value) + " " + string(c.Now)})
		return true
	}
	r, err := Open(bytes.NewReader(writeAll(t, info, old)))
	if err != nil {
		t.Fatal(err)
	}
	stats, err := Narrow(t.Context(), m, r, n)
	if err != nil {
		t.Fatal(name, err)
	}
	if err := n.Save.Close(); err != nil {
		t.Fatal(err)
	}
	if stats != wants || !slices.Equal(got, read) {
		t.Fatalf("%s: %+v, want %+v; %d of %d as they should be", name, stats, wants, len(got), len(read))
	}
	if _, saved := readAll(t, file.Bytes()); !slices.Equal(saved, want) {
		t.Fatalf("%s: %d saved, want %d", name, len(saved), len(want))
	}
	if len(m.touched) > 0 && !n.Swapped {
		t.Fatal("memory was read that is swapped out")
	}
}

// What is greater and what has changed, of each type.
func TestChange(t *testing.T) {
	nan, negZero := math.Float32bits(float32(math.NaN())), uint32(1<<31)
	f := func(v float32) uint32 { return math.Float32bits(v) }
	for _, c := range []struct {
		typ                           search.Type
		old, now                      uint32
		changed, increased, decreased bool
	}{
		{search.U32, 1, 2, true, true, false},
		{search.U32, 1, 1 << 31, true, true, false},
		{search.I32, 1, 1 << 31, true, false, true},
		{search.I32, 5, 5, false, false, false},
		{search.I32, math.MaxUint32, 0, true, true, false},
		{search.F32, f(1), f(2), true, true, false},
		{search.F32, f(-1), f(-2), true, false, true},
		{search.F32, f(-1), f(1), true, true, false},
		{search.F32, nan, nan, false, false, false},
		{search.F32, nan, f(1), true, false, false},
		{search.F32, f(1), nan, true, false, false},
		{search.F32, 0, negZero, true, false, false},
		{search.F32, f(1), f(float32(math.Inf(1))), true, true, false},
	} {
		for _, big := range []bool{false, true} {
			info := Info{Type: c.typ, Align: 4, Word: 8, BigEndian: big}
			old, now := binary.LittleEndian.AppendUint32(nil, c.old), binary.LittleEndian.AppendUint32(nil, c.now)
			if big {
				slices.Reverse(old)
				slices.Reverse(now)
			}
			for change, want := range map[Change]bool{AnyChange: true, Changed: c.changed, Unchanged: !c.changed, Increased: c.increased, Decreased: c.decreased} {
				n := Narrowing{Change: change}
				if n.condition(&info)(old, now) != want {
					t.Errorf("%v from %#x to %#x, big endian %v: change %d is %v", c.typ, c.old, c.now, big, change, !want)
				}
			}
		}
	}
}

// A process that ends while it is looked at, a file that is damaged behind its
// first frame, a context that ends, a disk that is full: all end it.
func TestNarrowFails(t *testing.T) {
	m := newPagedMemory()
	m.add(0x100000, 2000, func(b []byte) bool { b[5] = 1; return true })
	info := Info{Type: search.U32, Align: 4, Word: 8}
	var file bytes.Buffer
	w, _ := NewWriter(&file, info)
	if _, err := EveryPosition(t.Context(), m, search.Options{}, w); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	narrow := func(ctx context.Context, b []byte, n Narrowing) error {
		r, err := Open(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		_, err = Narrow(ctx, m, r, n)
		return err
	}
	if err := narrow(t.Context(), file.Bytes(), Narrowing{}); err != nil {
		t.Fatal(err)
	}
	if err := narrow(t.Context(), file.Bytes()[:file.Len()-30], Narrowing{}); err == nil {
		t.Error("a file that is cut off is taken")
	}
	full := errors.New("no space")
	if err := narrow(t.Context(), file.Bytes(), Narrowing{Save: &Writer{w: failingWriter{full}}}); !errors.Is(err, full) {
		t.Errorf("%v, want %v", err, full)
	}
	ended := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	seen := 0
	err := narrow(ctx, file.Bytes(), Narrowing{Each: func(Candidate) bool {
		seen++
		cancel(ended)
		return true
	}})
	if !errors.Is(err, ended) || seen == 0 || seen > 2*maxFrameCandidates {
		t.Errorf("%v after %d candidates, want %v", err, seen, ended)
	}
	m.broken[0x100000+1500*page] = procmem.ErrGone
	if err := narrow(t.Context(), file.Bytes(), Narrowing{}); !errors.Is(err, procmem.ErrGone) {
		t.Errorf("%v, want %v", err, procmem.ErrGone)
	}
	if _, err := EveryPosition(t.Context(), m, search.Options{}, w); !errors.Is(err, procmem.ErrGone) {
		t.Errorf("%v, want %v", err, procmem.ErrGone)
	}
}

type failingWriter struct{ err error }

func (f failingWriter) Write([]byte) (int, error) { return 0, f.err }

// endless is memory of which each page differs, and none is kept.
type endless struct{ procmem.Range }

func (m endless) Mappings() ([]procmem.Mapping, error) {
	return []procmem.Mapping{{Range: m.Range}}, nil
}

func (m endless) ReadAt(p []byte, a procmem.Addr) (int, error) {
	for i := range p {
		p[i] = byte(uint64(a)+uint64(i)) * 31
	}
	return len(p), nil
}

// Ten million candidates take no more memory than some.
func TestMemory(t *testing.T) {
	const n, most = 10 << 20, 24 << 20
	info := Info{Type: search.U32, Align: 4, Word: 8}
	m := endless{procmem.Range{Start: 0x10000000, End: 0x10000000 + 4*n}}
	path := t.TempDir() + "/candidates"
	peak := func(f func(w io.Writer)) int64 {
		t.Helper()
		out, err := os.Create(path + ".new")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
			t.Skip("the peak cannot be measured: ", err)
		}
		before := status(t, "VmRSS")
		f(out)
		grown := status(t, "VmHWM") - before
		if err := errors.Join(out.Close(), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
		return grown
	}
	grown := peak(func(out io.Writer) {
		w, _ := NewWriter(out, info)
		if _, err := EveryPosition(t.Context(), m, search.Options{}, w); err != nil || w.Count() != n {
			t.Fatal(err, w.Count())
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	})
	if grown > most {
		t.Errorf("%d MiB to begin with", grown>>20)
	}
	grown = peak(func(out io.Writer) {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r, err := Open(f)
		if err != nil {
			t.Fatal(err)
		}
		w, _ := NewWriter(out, info)
		got, err := Narrow(t.Context(), m, r, Narrowing{Change: Unchanged, Save: w})
		if err != nil || got != (Narrowed{Before: n, Kept: n}) {
			t.Fatal(err, got)
		}
	})
	if grown > most {
		t.Errorf("%d MiB to narrow", grown>>20)
	}
}

// status returns a size in /proc/self/status, in bytes.
func status(t *testing.T, name string) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var kib int64
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			if _, err := fmt.Sscan(rest, &kib); err == nil {
				return kib << 10
			}
		}
	}
	t.Fatalf("no %s", name)
	return 0
}

// FuzzOpen: any file is refused or yields ascending candidates, which
// make the same file again in another writer's eyes.
func FuzzOpen(f *testing.F) {
	file := sample(f)
	f.Add(file)
	f.Add(file[:len(file)/2])
	f.Add([]byte(fileMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Open(bytes.NewReader(fixSums(b)))
		if err != nil {
			return
		}
		info := r.Info()
		w, err := NewWriter(io.Discard, info)
		if err != nil {
			t.Fatalf("%+v can be read and not be written: %v", info, err)
		}
		for c, err := range r.All() {
			if err != nil {
				return
			}
			if err := w.Add(c.Addr, c.Value); err != nil {
				t.Fatal(err)
			}
		}
		if w.Count() != r.total {
			t.Fatalf("%d candidates, and %d are announced", w.Count(), r.total)
		}
	})
}

// fixSums makes all checksums right, so that what they guard is reached.
func fixSums(b []byte) []byte {
	b = slices.Clone(b)
	for at := len(fileMagic); at+8 <= len(b); {
		n := int(binary.LittleEndian.Uint32(b[at:]))
		size := n
		if n == 0 {
			size = 8
		}
		if size < 0 || size > len(b)-at-8 {
			break
		}
		p := b[at+8:][:size]
		binary.LittleEndian.PutUint32(b[at+4:], checksum(p))
		at += 8 + size
	}
	return b
}

func checksum(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

func BenchmarkNarrow(b *testing.B) {
	const n = 16 << 20
	info := Info{Type: search.U32, Align: 4, Word: 8}
	m := newPagedMemory()
	m.add(0x10000000, 4*n/page, func(p []byte) bool { rngReader{rand.New(rand.NewPCG(1, 2))}.Read(p); return true })
	var file bytes.Buffer
	w, _ := NewWriter(&file, info)
	if _, err := EveryPosition(b.Context(), m, search.Options{}, w); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(4 * n)
	b.Run("all", func(b *testing.B) {
		b.SetBytes(4 * n)
		for b.Loop() {
			w, _ := NewWriter(io.Discard, info)
			if _, err := EveryPosition(b.Context(), m, search.Options{}, w); err != nil {
				b.Fatal(err)
			}
		}
	})
	for name, c := range map[string]Change{"unchanged": Unchanged, "changed": Changed, "increased": Increased} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(4 * n)
			for b.Loop() {
				r, _ := Open(bytes.NewReader(file.Bytes()))
				w, _ := NewWriter(io.Discard, info)
				if _, err := Narrow(b.Context(), m, r, Narrowing{Change: c, Save: w}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
