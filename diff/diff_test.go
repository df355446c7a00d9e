package diff

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pipe"
	"github.com/procmem/procmem/internal/testproc"
)

// all collects what a comparison yields, with copies of the bytes.
func all(t *testing.T, a, b procmem.Memory, o Options) ([]Change, *Diff) {
	t.Helper()
	d, err := New(a, b, o)
	if err != nil {
		t.Fatal(err)
	}
	var out []Change
	for c, err := range d.Changes(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		c.A, c.B = bytes.Clone(c.A), bytes.Clone(c.B)
		out = append(out, c)
	}
	return out, d
}

// ranges returns what Join makes of changes, in words.
func ranges(t *testing.T, changes []Change) (out []string) {
	t.Helper()
	for c, err := range Join(func(yield func(Change, error) bool) {
		for _, c := range changes {
			if !yield(c, nil) {
				return
			}
		}
	}) {
		if err != nil || c.A != nil || c.B != nil {
			t.Errorf("%v, %v", c, err)
		}
		out = append(out, fmt.Sprintf("%v:%d", c.Range, c.Bytes))
	}
	return out
}

func TestSame(t *testing.T) {
	m := newMemory(mapping(0x10000, 0x10000+3*pipe.BlockSize, "rw-p", ""))
	m.fill(rng(0x10000, 0x10000+2*pipe.BlockSize), rand.New(rand.NewPCG(1, 1)))
	m.set(0x10000 + 3*pipe.BlockSize - page) // there, and zeros
	changes, d := all(t, m, m.clone(), Options{})
	s := d.Stats()
	if len(changes)+len(d.Mappings())+len(s.Heat)+len(s.Missing) > 0 || s.Compared != 3*pipe.BlockSize || s.Changed != 0 {
		t.Errorf("%v, %+v", changes, s)
	}
}

// Changes where something begins or ends: pages, blocks, mappings, memory.
func TestEdges(t *testing.T) {
	const base = procmem.Addr(0x10000)
	const end = base + 2*pipe.BlockSize
	const mid = base + pipe.BlockSize
	for _, c := range []struct {
		name string
		at   []procmem.Addr
		want []string
	}{
		{"the first and the last byte", []procmem.Addr{base, end - 1}, []string{"0x10000-0x10001:1", "0x40ffff-0x410000:1"}},
		{"across pages", []procmem.Addr{base + page - 1, base + page}, []string{"0x10fff-0x11001:2"}},
		{"across pages, with a gap", []procmem.Addr{base + page - 2, base + page + 14}, []string{"0x10ffe-0x1100f:2"}},
		{"across pages, with too large a gap", []procmem.Addr{base + page - 2, base + page + 15}, []string{"0x10ffe-0x10fff:1", "0x1100f-0x11010:1"}},
		{"across blocks", []procmem.Addr{mid - 8, mid + 7}, []string{"0x20fff8-0x210008:2"}},
		{"a gap", []procmem.Addr{base + 100, base + 116, base + 133, base + 134}, []string{"0x10064-0x10075:2", "0x10085-0x10087:2"}},
		{"the border of the mappings", []procmem.Addr{0x17fff, 0x18000}, []string{"0x17fff-0x18000:1", "0x18000-0x18001:1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newMemory(mapping(base, 0x18000, "rw-p", ""), mapping(0x18000, end, "r--p", "/f"))
			a.fill(rng(base, end), rand.New(rand.NewPCG(1, 2)))
			b := a.clone()
			for _, at := range c.at {
				b.pages[at.PageDown()][at%page] ^= 0x40
			}
			changes, d := all(t, a, b, Options{})
			if got := ranges(t, changes); !slices.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
			if s := d.Stats(); s.Changed != uint64(len(c.at)) || s.Changes != uint64(len(c.want)) {
				t.Errorf("%+v", s)
			}
			for _, x := range changes {
				if x.Start/page != (x.End-1)/page || uint64(len(x.A)) != x.Size() || uint64(len(x.B)) != x.Size() || x.A[0]^x.B[0] != 0x40 {
					t.Errorf("%v: %x, %x", x.Range, x.A, x.B)
				}
			}
		})
	}
}

// oracle looks at each byte by itself.
func oracle(a, b *memory, o Options, isLive bool) (changes []Change, s Stats) {
	var cur Change
	flush := func() {
		if cur.Bytes > 0 {
			changes = append(changes, cur)
		}
		cur = Change{}
	}
	for i, m := range a.maps {
		for _, n := range b.maps {
			flush()
			x := m.Intersect(n.Range)
			for at := x.Start; at < x.End; {
				flush()
				end := min(x.End, at.PageDown()+page)
				p, q := make([]byte, end-at), make([]byte, end-at)
				base := at.PageDown()
				swapped := isLive && !o.Swapped && (a.swapped[base] && a.pages[base] != nil || b.swapped[base] && b.pages[base] != nil)
				_, errA := a.ReadAt(p, at)
				_, errB := b.ReadAt(q, at)
				for k := range p {
					a := at + procmem.Addr(k)
					switch {
					case o.In != nil && !slices.ContainsFunc(o.In, func(r procmem.Range) bool { return r.Contains(a) }):
						continue
					case swapped:
						s.Swapped++
						continue
					case errA != nil || errB != nil:
						s.MissingBytes++
						continue
					}
					s.Compared++
					if p[k] == q[k] {
						continue
					}
					s.Changed++
					if cur.Bytes > 0 && a-cur.End >= Gap {
						flush()
					}
					if cur.Bytes == 0 {
						cur.Start, cur.Mapping = a, i
					}
					cur.End = a + 1
					cur.Bytes++
				}
				at = end
			}
		}
	}
	flush()
	return changes, s
}

// randomMaps returns mappings between two addresses.
func randomMaps(random *rand.Rand, start, end procmem.Addr) (ms []procmem.Mapping) {
	paths := []string{"", "", "[heap]", "/f"}
	for at := start; at < end; {
		size := procmem.Addr(1+random.IntN(40)) * page
		if random.IntN(8) == 0 {
			size += procmem.Addr(random.IntN(600)) * page
		}
		size = min(size, end-at)
		if random.IntN(4) > 0 {
			ms = append(ms, mapping(at, at+size, []string{"rw-p", "r--p"}[random.IntN(2)], paths[random.IntN(len(paths))]))
		}
		at += size
	}
	return ms
}

// change makes another memory of one: mappings, pages, bytes.
func change(random *rand.Rand, m *memory, start, end procmem.Addr) *memory {
	c := m.clone()
	if random.IntN(2) == 0 {
		c.maps = randomMaps(random, start, end)
	}
	odds := []int{0, 2, 10, 100}[random.IntN(4)]
	for a := start; a < end; a += page {
		if odds == 0 || random.IntN(odds) > 0 {
			continue
		}
		switch random.IntN(4) {
		case 0:
			delete(c.pages, a)
		case 1:
			c.fill(rng(a, a+page), random)
		default:
			for range 1 + random.IntN(6) {
				at := a + procmem.Addr(random.IntN(page))
				if random.IntN(3) == 0 {
					at = a + []procmem.Addr{0, page - 1, page - 8, 7}[random.IntN(4)]
				}
				c.set(at, byte(random.Uint32()))
			}
		}
	}
	return c
}

// spoil takes pages out of what can be read, or is in memory.
func spoil(random *rand.Rand, m *memory, start, end procmem.Addr) {
	m.until = random.IntN(2) == 0
	odds := []int{2, 20, 300}[random.IntN(3)]
	for a := start; a < end; a += page {
		if random.IntN(odds) == 0 {
			m.swapped[a] = true
		}
		// Of what is not there a whole mapping is missing, as in a core, or
		// nothing is.
		if random.IntN(odds) == 0 && m.pages[a] != nil {
			m.faults[a] = []error{errFake, procmem.ErrNotDumped}[random.IntN(2)]
		}
	}
	if len(m.maps) > 0 {
		x := m.maps[random.IntN(len(m.maps))]
		for a := x.Start; a < x.End; a += page {
			delete(m.pages, a)
			m.faults[a] = procmem.ErrNotDumped
		}
	}
}

// What is found in random memories is what is found one byte at a time.
func TestOracle(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for step := range 40 {
		start := []procmem.Addr{page, 0x7f0000000000 + page, ^procmem.Addr(page-1) - 900*page}[random.IntN(3)]
		end := start + procmem.Addr(50+random.IntN(800))*page
		a := newMemory(randomMaps(random, start, end)...)
		for at := start; at < end; at += page {
			if random.IntN(3) > 0 {
				a.fill(rng(at, at+page), random)
			}
		}
		b := change(random, a, start, end)
		if random.IntN(2) == 0 {
			spoil(random, a, start, end)
			spoil(random, b, start, end)
		}
		o := Options{Swapped: random.IntN(3) == 0}
		if random.IntN(3) == 0 {
			for range 1 + random.IntN(5) {
				from := start + procmem.Addr(random.Uint64N(uint64(end-start)))
				o.In = append(o.In, rng(from, min(end, from+procmem.Addr(random.IntN(20*page)))))
			}
		}
		isLive := random.IntN(2) == 0
		var ma, mb procmem.Memory = a, b
		if isLive {
			ma, mb = live{a}, live{b}
		}
		changes, d := all(t, ma, mb, o)
		want, sum := oracle(a, b, o, isLive)
		for i := range changes {
			changes[i].A, changes[i].B = nil, nil
		}
		if !slices.EqualFunc(changes, want, func(x, y Change) bool { return x.Range == y.Range && x.Bytes == y.Bytes && x.Mapping == y.Mapping }) {
			t.Fatalf("step %d: %d changes, want %d: %v\nwant %v", step, len(changes), len(want), ranges(t, changes), ranges(t, want))
		}
		s := d.Stats()
		if s.Compared != sum.Compared || s.Changed != sum.Changed || s.MissingBytes != sum.MissingBytes || s.Swapped != sum.Swapped {
			t.Fatalf("step %d: compared %d, changed %d, missing %d, swapped %d; want %d, %d, %d, %d", step,
				s.Compared, s.Changed, s.MissingBytes, s.Swapped, sum.Compared, sum.Changed, sum.MissingBytes, sum.Swapped)
		}
		checkStats(t, &s, want, a.maps)
		if got := uint64(len(ranges(t, changes))); got != s.Changes {
			t.Errorf("step %d: Join yields %d, Stats tells of %d", step, got, s.Changes)
		}
	}
}

// checkStats compares the sums with the changes.
func checkStats(t *testing.T, s *Stats, changes []Change, ms []procmem.Mapping) {
	t.Helper()
	pages := map[procmem.Addr]bool{}
	heat := map[int]*Heat{}
	for _, c := range changes {
		h := heat[c.Mapping]
		if h == nil {
			h = &Heat{}
			heat[c.Mapping] = h
		}
		h.Changed += c.Bytes
		if base := c.Start.PageDown(); !pages[base] {
			pages[base] = true
			h.Pages++
		}
	}
	var compared, listed uint64
	for _, m := range s.Missing {
		listed += m.Size()
	}
	if s.Pages != uint64(len(pages)) || len(s.Heat) != len(heat) || listed != s.MissingBytes || s.MissingRanges != uint64(len(s.Missing)) {
		t.Fatalf("%d pages, want %d; %d mappings, want %d; %d missing, %d listed", s.Pages, len(pages), len(s.Heat), len(heat), s.MissingBytes, listed)
	}
	for k, i := range slices.Sorted(maps.Keys(heat)) {
		got, want := &s.Heat[k], heat[i]
		spots := uint64(0)
		for _, n := range got.Spots {
			spots += n
			if n > got.SpotPages() {
				t.Errorf("%v: %d of %d pages changed", got.Mapping.Range, n, got.SpotPages())
			}
		}
		compared += got.Compared
		if got.Mapping.Range != ms[i].Range || got.Changed != want.Changed || got.Pages != want.Pages || spots != want.Pages || len(got.Spots) > MaxSpots {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	if compared > s.Compared {
		t.Errorf("compared %d, in mappings %d", s.Compared, compared)
	}
}

// What is absent in both is not read, nor what a core promises and lacks.
func TestNothingToRead(t *testing.T) {
	huge := rng(1<<20, 1<<60)
	a, b := newMemory(mapping(huge.Start, huge.End, "rw-p", "")), newMemory(mapping(huge.Start, huge.End, "rw-p", ""))
	quiet := func(m *memory) procmem.Memory { return sparse{m} }
	b.set(huge.End-1, 7)
	changes, d := all(t, quiet(a), quiet(b), Options{})
	if s := d.Stats(); len(changes) != 1 || changes[0].Start != huge.End-1 || s.Compared != huge.Size() || d.Done() != page {
		t.Errorf("%v, %+v, %d bytes were read", changes, s, d.Done())
	}
	if h := d.Stats().Heat; len(h) != 1 || h[0].Compared != huge.Size() || len(h[0].Spots) != MaxSpots || h[0].Spots[MaxSpots-1] != 1 {
		t.Errorf("%+v", h)
	}
	// All of it is promised, and the file ends behind the first page.
	changes, d = all(t, cutOff{a}, quiet(b), Options{})
	s := d.Stats()
	want := Missing{procmem.Fault{Range: rng(huge.Start+page, huge.End), Err: procmem.ErrTruncated}, A}
	if len(changes) != 0 || len(s.Missing) != 1 || s.Missing[0] != want || s.Compared != page {
		t.Errorf("%v, %+v", changes, s)
	}
	changes, d = all(t, quiet(b), cutOff{a}, Options{})
	want.Side = B
	if s := d.Stats(); len(changes) != 0 || len(s.Missing) != 1 || s.Missing[0] != want {
		t.Errorf("%v, %+v", changes, s)
	}
}

// What a core lacks may follow upon zeros that it holds.
func TestMissingBehindZeros(t *testing.T) {
	for _, until := range []bool{false, true} {
		m := newMemory(mapping(0x10000, 0x20000, "rw-p", ""))
		m.until = until
		for a := procmem.Addr(0x15000); a < 0x20000; a += page {
			m.faults[a] = procmem.ErrNotDumped
		}
		for side, pair := range map[Side][2]*memory{A: {m, newMemory(m.maps...)}, B: {newMemory(m.maps...), m}} {
			_, d := all(t, pair[0], pair[1], Options{})
			want := Missing{procmem.Fault{Range: rng(0x15000, 0x20000), Err: procmem.ErrNotDumped}, side}
			if s := d.Stats(); len(s.Missing) != 1 || s.Missing[0] != want || s.Compared != 5*page || d.Done() != 0 {
				t.Errorf("%+v, %d bytes were read", s, d.Done())
			}
		}
	}
}

// What guards a stack is in no core, and nothing is lost with it; unless there
// is something, or it may be used.
func TestGuards(t *testing.T) {
	at := rng(0x10000, 0x12000)
	for _, c := range []struct {
		perm  [2]string
		data  bool
		lacks bool
	}{{[2]string{"---p", "---p"}, false, false}, {[2]string{"---p", "---p"}, true, true}, {[2]string{"---p", "rw-p"}, false, true}, {[2]string{"r--p", "r--p"}, false, true}} {
		core, live := newMemory(mapping(at.Start, at.End, c.perm[0], "")), newMemory(mapping(at.Start, at.End, c.perm[1], ""))
		core.faults[at.Start], core.faults[at.Start+page] = procmem.ErrNotDumped, procmem.ErrNotDumped
		if c.data {
			live.set(at.Start, 1)
			live.set(at.Start+page, 1)
		}
		for _, pair := range [][2]*memory{{core, live}, {live, core}} {
			if _, d := all(t, pair[0], pair[1], Options{}); (len(d.Stats().Missing) > 0) != c.lacks {
				t.Errorf("%+v: %+v", c, d.Stats().Missing)
			}
		}
	}
}

// sparse is a memory of few pages, however large.
type sparse struct{ *memory }

func (m sparse) Data(r procmem.Range) seq {
	return func(yield func(procmem.Range, error) bool) {
		for _, a := range slices.Sorted(maps.Keys(m.pages)) {
			if x := rng(a, a+page).Intersect(r); !x.Empty() && !yield(x, nil) {
				return
			}
		}
	}
}

// cutOff holds the first page of what it promises.
type cutOff struct{ *memory }

type seq = iter.Seq2[procmem.Range, error]

func (m cutOff) Data(r procmem.Range) seq {
	return func(yield func(procmem.Range, error) bool) {
		first := m.maps[0].Start + page
		_ = yield(rng(r.Start, first).Intersect(r), nil) && yield(rng(first, r.End), nil)
	}
}

func (m cutOff) ReadAt(p []byte, a procmem.Addr) (int, error) {
	end := m.maps[0].Start + page
	if a >= end {
		return 0, &procmem.FaultError{Addr: a, Err: procmem.ErrTruncated, Until: m.maps[0].End}
	}
	n := min(len(p), int(end-a))
	clear(p[:n])
	if n < len(p) {
		return n, &procmem.FaultError{Addr: end, Err: procmem.ErrTruncated, Until: m.maps[0].End}
	}
	return n, nil
}

// What is swapped out is not read unless that is asked for.
func TestSwapped(t *testing.T) {
	a := newMemory(mapping(0x10000, 0x20000, "rw-p", ""))
	a.fill(rng(0x10000, 0x20000), rand.New(rand.NewPCG(3, 3)))
	b := a.clone()
	b.set(0x12000, ^b.pages[0x12000][0])
	b.set(0x15000, ^b.pages[0x15000][0])
	b.swapped[0x12000] = true
	a.reads = func(r procmem.Range) {
		if r.Contains(0x12000) {
			t.Errorf("%v is read", r)
		}
	}
	b.reads = a.reads
	changes, d := all(t, live{a}, live{b}, Options{})
	if s := d.Stats(); len(changes) != 1 || changes[0].Start != 0x15000 || s.Swapped != page || s.Compared != 15*page {
		t.Errorf("%v, %+v", changes, s)
	}
	a.reads, b.reads = nil, nil
	changes, d = all(t, live{a}, live{b}, Options{Swapped: true})
	if s := d.Stats(); len(changes) != 2 || s.Swapped != 0 || s.Compared != 16*page {
		t.Errorf("%v, %+v", changes, s)
	}
}

func TestMappings(t *testing.T) {
	type ms = []procmem.Mapping
	for _, c := range []struct {
		name string
		a, b ms
		want []string
	}{
		{"none", nil, nil, nil},
		{"the same", ms{mapping(0x1000, 0x3000, "rw-p", "")}, ms{mapping(0x1000, 0x3000, "rw-p", "")}, nil},
		{"came", nil, ms{mapping(0x1000, 0x3000, "rw-p", "")}, []string{"came 0x1000-0x3000"}},
		{"went", ms{mapping(0x1000, 0x3000, "rw-p", "")}, nil, []string{"went 0x1000-0x3000"}},
		{"grew up", ms{mapping(0x1000, 0x3000, "rw-p", "[heap]")}, ms{mapping(0x1000, 0x4000, "rw-p", "[heap]")}, []string{"grew 0x3000-0x4000"}},
		{"grew down", ms{mapping(0x1000, 0x3000, "rw-p", "[stack]")}, ms{mapping(0, 0x3000, "rw-p", "[stack]")}, []string{"grew 0x0-0x1000"}},
		{"shrank on both sides", ms{mapping(0x1000, 0x5000, "rw-p", "")}, ms{mapping(0x2000, 0x4000, "rw-p", "")},
			[]string{"shrank 0x1000-0x2000", "shrank 0x4000-0x5000"}},
		{"a hole", ms{mapping(0x1000, 0x5000, "rw-p", "")}, ms{mapping(0x1000, 0x2000, "rw-p", ""), mapping(0x4000, 0x5000, "rw-p", "")},
			[]string{"shrank 0x2000-0x4000"}},
		{"two became one", ms{mapping(0x1000, 0x2000, "rw-p", ""), mapping(0x4000, 0x5000, "rw-p", "")}, ms{mapping(0x1000, 0x5000, "rw-p", "")},
			[]string{"grew 0x2000-0x4000"}},
		{"protected in the middle", ms{mapping(0x1000, 0x4000, "rw-p", "")},
			ms{mapping(0x1000, 0x2000, "rw-p", ""), mapping(0x2000, 0x3000, "r--p", ""), mapping(0x3000, 0x4000, "rw-p", "")},
			[]string{"altered 0x2000-0x3000"}},
		{"another file", ms{mapping(0x1000, 0x2000, "r--p", "/a")}, ms{mapping(0x1000, 0x2000, "r--p", "/a (deleted)")}, []string{"altered 0x1000-0x2000"}},
		{"a name that a core lacks", ms{mapping(0x1000, 0x2000, "rw-p", "")}, ms{mapping(0x1000, 0x2000, "rw-p", "[heap]")}, nil},
		{"replaced by a larger one", ms{mapping(0x2000, 0x3000, "rw-p", "")}, ms{mapping(0x1000, 0x4000, "r-xp", "/a")},
			[]string{"came 0x1000-0x2000", "altered 0x2000-0x3000", "came 0x3000-0x4000"}},
		{"neighbours", ms{mapping(0x1000, 0x2000, "rw-p", ""), mapping(0x2000, 0x3000, "r--p", "")}, ms{mapping(0x2000, 0x3000, "r--p", "")},
			[]string{"went 0x1000-0x2000"}},
		{"in the end", ms{mapping(^procmem.Addr(0xfff), ^procmem.Addr(0), "rw-p", "")}, nil, []string{"went 0xfffffffffffff000-0xffffffffffffffff"}},
	} {
		d, err := New(newMemory(c.a...), newMemory(c.b...), Options{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range d.Mappings() {
			got = append(got, fmt.Sprintf("%v %v", m.Kind, m.Range))
			if (m.A == nil) != (m.Kind == Came) || (m.B == nil) != (m.Kind == Went) {
				t.Errorf("%s: %+v", c.name, m)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	d, err := New(newMemory(mapping(0x1000, 0x2000, "rw-p", ""), mapping(0x5000, 0x6000, "rw-p", "")), newMemory(), Options{In: []procmem.Range{rng(0x4000, 0x5001)}})
	if err != nil || len(d.Mappings()) != 1 || d.Mappings()[0].Start != 0x5000 {
		t.Errorf("%v, %v", d.Mappings(), err)
	}
	if d, err = New(newMemory(mapping(0x1000, 0x2000, "rw-p", "")), newMemory(), Options{In: []procmem.Range{}}); err != nil || len(d.Mappings()) != 0 {
		t.Errorf("in nothing: %v, %v", d.Mappings(), err)
	}
}

// The kernel's own mappings cannot be read, and are not missed.
func TestHidden(t *testing.T) {
	a := newMemory(mapping(0x1000, 0x2000, "r--p", "[vvar]"), mapping(0x2000, 0x3000, "r-xp", "[vdso]"))
	a.faults[0x1000] = procmem.ErrUnreadable
	b := a.clone()
	b.set(0x2010, 1)
	b.faults[0x1000] = procmem.ErrUnreadable
	changes, d := all(t, a, b, Options{})
	if s := d.Stats(); len(changes) != 1 || s.MissingBytes != 0 || s.Compared != page {
		t.Errorf("%v, %+v", changes, s)
	}
}

// The loop may be left, its context may end, and a memory may be gone. Nothing
// goes on then.
func TestEnds(t *testing.T) {
	a := newMemory(mapping(0x10000, 0x10000+16*pipe.BlockSize, "rw-p", ""))
	b := a.clone()
	for at := procmem.Addr(0x10000); at < a.maps[0].End; at += page {
		b.set(at, 1)
	}
	d, err := New(a, b, Options{})
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	n := 0
	for range d.Changes(t.Context()) {
		if n++; n == 700 {
			break
		}
	}
	if d.Done() >= 16*pipe.BlockSize {
		t.Error("all of it was read")
	}
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	n = 0
	for _, err = range d.Changes(ctx) {
		if n++; n == 700 {
			cancel(why)
		}
	}
	if err != why {
		t.Errorf("%v after %d changes, want %v", err, n, why)
	}
	func() {
		defer func() { recover() }()
		for range d.Changes(t.Context()) {
			panic("the loop")
		}
	}()
	testproc.Until(t, "the last goroutine to end", func() bool { return runtime.NumGoroutine() <= before })
	for name, gone := range map[string]func(*memory){
		"Data":   func(m *memory) { m.shown = procmem.ErrGone },
		"ReadAt": func(m *memory) { m.faults[0x10000+5*pipe.BlockSize] = procmem.ErrGone },
		"absent": func(m *memory) {
			delete(m.pages, 0x10000+5*pipe.BlockSize)
			m.faults[0x10000+5*pipe.BlockSize] = procmem.ErrGone
		},
	} {
		for side, first := range map[Side]bool{A: true, B: false} {
			x, y := b.clone(), b.clone()
			if gone(y); first {
				x, y = y, x
			}
			d, err := New(x, y, Options{})
			if err != nil {
				t.Fatal(err)
			}
			for _, err = range d.Changes(t.Context()) {
			}
			if e, ok := errors.AsType[*Error](err); !ok || e.Side != side || !errors.Is(err, procmem.ErrGone) {
				t.Errorf("%s of %s: %v", name, side, err)
			}
		}
	}
	// And all is well again.
	changes, d := all(t, a, b, Options{})
	if len(changes) != 16*pipe.BlockSize/page || d.Stats().Heat[0].Spots[63] != 128 {
		t.Errorf("%d changes, %+v", len(changes), d.Stats())
	}
}

// What is listed as missing is bounded, what is counted is not.
func TestManyMissing(t *testing.T) {
	const n = MaxMissing + 5
	a := newMemory(mapping(0x10000, 0x10000+2*n*page, "rw-p", ""))
	shared := make([]byte, page)
	for i := range procmem.Addr(n) {
		at := 0x10000 + 2*i*page
		a.pages[at], a.faults[at] = shared, errFake
	}
	b := newMemory(a.maps...)
	for _, x := range [][2]*memory{{a, b}, {b, a}} {
		_, d := all(t, x[0], x[1], Options{})
		if s := d.Stats(); len(s.Missing) != MaxMissing || s.MissingRanges != n || s.MissingBytes != n*page || s.Compared != n*page {
			t.Errorf("%d missing, %d listed, %d bytes", s.MissingRanges, len(s.Missing), s.MissingBytes)
		}
	}
}

func FuzzRuns(f *testing.F) {
	f.Add(uint16(0), []byte("abcdefghijklmnopqrstuvwxyz"), []byte("abcdefghijklmnopqrstuvwxyZ"))
	f.Fuzz(func(t *testing.T, addr uint16, a, b []byte) {
		n := min(len(a), len(b))
		a, b = a[:n], b[:n]
		if n == 0 || n > 1<<19 {
			return
		}
		whole := mapping(procmem.Addr(addr), procmem.Addr(addr)+procmem.Addr(n), "rw-p", "")
		x, y := newMemory(whole), newMemory(whole)
		x.set(whole.Start, a...)
		y.set(whole.Start, b...)
		want, _ := oracle(x, y, Options{}, false)
		got := appendRuns(nil, procmem.Addr(addr), a, b)
		if !slices.EqualFunc(got, want, func(g run, w Change) bool {
			return procmem.Addr(g.start)+procmem.Addr(addr) == w.Start && procmem.Addr(g.end)+procmem.Addr(addr) == w.End && uint64(g.differ) == w.Bytes
		}) {
			t.Errorf("%v, want %v", got, want)
		}
	})
}
