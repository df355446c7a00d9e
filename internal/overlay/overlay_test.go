package overlay

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
)

// fake is a memory whose pages are told by a function: their first byte, or
// why they cannot be read. It also is an oracle.
type fake struct {
	of func(page procmem.Addr) (byte, error)
}

func (f fake) Mappings() ([]procmem.Mapping, error) { return nil, nil }

func (f fake) ReadAt(p []byte, addr procmem.Addr) (int, error) {
	for i := range p {
		a := addr + procmem.Addr(i)
		b, err := f.of(a.PageDown())
		if err != nil {
			return i, &procmem.FaultError{Addr: a, Err: err}
		}
		if b != 0 {
			b += byte(a) // so that a byte at the wrong place shows
		}
		p[i] = b
	}
	return len(p), nil
}

func (f fake) Data(r procmem.Range) iter.Seq2[procmem.Range, error] {
	return func(yield func(procmem.Range, error) bool) {
		for a := r.Start; a < r.End; {
			end := min(a.PageDown()+page, r.End)
			if b, err := f.of(a.PageDown()); b != 0 || err != nil {
				if !yield(procmem.Range{Start: a, End: end}, nil) {
					return
				}
			}
			a = end
		}
	}
}

const page = procmem.PageSize

var errTest = errors.New("a fault of the test")

// layout is a random overlay and what it must read as.
type layout struct {
	*Memory
	first  procmem.Addr
	pages  int
	oracle fake
	under  fake // the base
}

// newLayout builds an overlay of n pages as fork and precopy do. It has runs that are kept and
// runs that are not, of data, zeros and faults. The arena has too little room, with and without
// a store.
func newLayout(random *rand.Rand, withStore bool) layout {
	const first = procmem.Addr(0x7f0000000000)
	n := 1 + random.IntN(60)
	l := layout{first: first, pages: n}
	content := make([]byte, n) // 0 is zeros
	fault := make([]bool, n)
	for i := range n {
		content[i] = byte(random.IntN(4) * 50)
		fault[i] = random.IntN(8) == 0
	}
	at := func(of procmem.Addr) (byte, error) {
		i := int((of - first) / page)
		if of < first || i >= n {
			return 0, procmem.ErrNotMapped
		}
		if fault[i] {
			return 0, errTest
		}
		return content[i], nil
	}
	l.oracle = fake{of: at}
	own := make([]bool, n)
	for i := 0; i < n; {
		run := 1 + random.IntN(8)
		kept := random.IntN(2) == 0
		for ; run > 0 && i < n; i, run = i+1, run-1 {
			own[i] = kept
		}
	}
	// What is not own is had from base, which has nothing else.
	l.under = fake{of: func(of procmem.Addr) (byte, error) {
		b, err := at(of)
		if i := int((of - first) / page); err == nil && own[i] {
			return 0, errors.New("base was asked for what is own")
		}
		return b, err
	}}
	var store Store
	if withStore {
		store = testproc.NewPages()
	}
	l.Memory, _ = New(uint64(random.IntN(n+1))*page, store)
	// The runs come in any order.
	type run struct{ lo, hi int }
	var runs []run
	for i := 0; i < n; {
		j := i
		for j < n && own[j] == own[i] && j-i < 1+random.IntN(5) {
			j++
		}
		if own[i] {
			runs = append(runs, run{i, j})
		}
		i = j
	}
	random.Shuffle(len(runs), func(i, j int) { runs[i], runs[j] = runs[j], runs[i] })
	for _, r := range runs {
		rng := procmem.Range{Start: first + procmem.Addr(r.lo)*page, End: first + procmem.Addr(r.hi)*page}
		if random.IntN(2) == 0 {
			// As what is copied whole: a run of data at once, faults and all.
			l.Own(rng)
			l.Copy(l.oracle, rng)
			continue
		}
		// As a moment does: zeros are told, some of the data is in the store.
		l.Own(rng)
		for i := r.lo; i < r.hi; i++ {
			one := procmem.Range{Start: first + procmem.Addr(i)*page, End: first + procmem.Addr(i+1)*page}
			switch {
			case fault[i]:
				l.Miss(one, errTest)
			case content[i] == 0:
			case withStore && random.IntN(2) == 0:
				b := make([]byte, page)
				l.oracle.ReadAt(b, one.Start)
				store.Put(one.Start, b)
				l.MarkStored(one)
			default:
				l.Copy(l.oracle, one)
			}
		}
	}
	return l
}

// An overlay reads as what it was made of, at any address and of any length,
// and tells where there is data.
func TestOverlay(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	spilled, faults, several := 0, 0, 0
	for i := range 400 {
		l := newLayout(random, i%2 == 0)
		if err := l.Seal(nil, l.under); err != nil {
			t.Fatal(err)
		}
		if l.arena.spilled.Len() > 0 {
			spilled++
		}
		if len(l.own) > 1 {
			several++
		}
		size := l.pages * page
		for range 20 {
			off := random.IntN(size)
			p, q := make([]byte, 1+random.IntN(size-off)), make([]byte, size)
			q = q[:len(p)]
			for i := range p {
				p[i] = 0xee // is to be overwritten, by zeros too
			}
			a := l.first + procmem.Addr(off)
			n, err := l.ReadAt(p, a)
			m, want := l.oracle.ReadAt(q, a)
			if n != m || !bytes.Equal(p[:n], q[:n]) || procmem.Cause(err) != procmem.Cause(want) {
				t.Fatalf("layout %d: %d bytes at page %d: %d, %v; want %d, %v", i, len(p), off/page, n, err, m, want)
			}
			if err != nil {
				faults++
				var f *procmem.FaultError
				if !errors.As(err, &f) || f.Addr != a+procmem.Addr(n) {
					t.Fatalf("layout %d: after %d bytes at %v: %v", i, n, a, err)
				}
				if f.Until != 0 && f.Until <= f.Addr {
					t.Fatalf("layout %d: a fault until %v at %v", i, f.Until, f.Addr)
				}
			}
		}
		checkData(t, fmt.Sprint("layout ", i), l)
		l.Close()
	}
	if spilled == 0 || faults == 0 || several == 0 {
		t.Errorf("%d layouts were spilled, %d faults, %d of several ranges", spilled, faults, several)
	}
}

// checkData requires that all that is not zero is data, in ascending order.
func checkData(t testing.TB, what string, l layout) {
	t.Helper()
	all := procmem.Range{Start: l.first + 100, End: l.first + procmem.Addr(l.pages)*page - 100}
	at := all.Start
	inData := map[procmem.Addr]bool{}
	for d, err := range l.Data(all) {
		if err != nil {
			t.Fatal(err)
		}
		if d.Start < at || d.End > all.End || d.Empty() {
			t.Fatalf("%s: data %v after %v", what, d, at)
		}
		at = d.End
		for a := d.Start.PageDown(); a < d.End; a += page {
			inData[a] = true
		}
	}
	for a := all.Start.PageDown(); a < all.End; a += page {
		if b, err := l.oracle.of(a); (b != 0 || err != nil) && !inData[a] {
			t.Fatalf("%s: page %v holds %d, %v, and is no data", what, a, b, err)
		}
	}
	for range l.Data(all) { // may be left at any time
		break
	}
}

// A store that fails is told.
func TestArenaStoreFails(t *testing.T) {
	full := errors.New("full")
	s := testproc.NewPages()
	s.Err = full
	o, err := New(2*page, s)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	mem := fake{of: func(procmem.Addr) (byte, error) { return 7, nil }}
	o.Copy(mem, procmem.Range{Start: 0x10000, End: 0x10000 + 5*page})
	if err := o.Seal(nil, nil); err != full || o.Err() != full {
		t.Errorf("%v, %v; want %v", err, o.Err(), full)
	}
}

// Without a store an arena grows; it never takes more than it is allowed to
// beforehand.
func TestArenaGrows(t *testing.T) {
	mem := fake{of: func(procmem.Addr) (byte, error) { return 7, nil }}
	for _, size := range []uint64{0, 1, page, maxArena + 1} {
		o, err := New(size, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(o.arena.mapped); n > maxArena || uint64(n) < min(size, maxArena) || n%page != 0 {
			t.Errorf("%d bytes for %d", n, size)
		}
		r := procmem.Range{Start: 0x10000, End: 0x10000 + 600*page}
		o.Own(r)
		o.Copy(mem, r)
		if err := o.Seal(nil, mem); err != nil {
			t.Fatal(err)
		}
		got, want := make([]byte, r.Size()), make([]byte, r.Size())
		mem.ReadAt(want, r.Start)
		if _, err := o.ReadAt(got, r.Start); err != nil || !bytes.Equal(got, want) {
			t.Errorf("size %d: %v", size, err)
		}
		o.Close()
		o.Close()
	}
}

// Ranges are copied, whatever of them can be read at once.
func TestArenaGathers(t *testing.T) {
	mem := fake{of: func(a procmem.Addr) (byte, error) { return byte(a / page), nil }}
	var ranges []procmem.Range
	var all uint64
	for i := range procmem.Addr(20) {
		r := procmem.Range{Start: 0x10000 + i*4*page}
		r.End = r.Start + (1+i%3)*page
		ranges = append(ranges, r)
		all += r.Size()
	}
	for _, room := range []uint64{0, page, 5 * page, all, 2 * all} {
		for _, atOnce := range []int{0, page, 2*page + 100, 7 * page, int(all)} {
			o, err := New(room, testproc.NewPages())
			if err != nil {
				t.Fatal(err)
			}
			calls := 0
			o.Gather(func(p []byte, some []procmem.Range) (done int) {
				calls++
				for _, r := range some {
					if done+int(r.Size()) > atOnce {
						if part := p[done:][:r.Size()]; done < atOnce { // some pages of it
							return done + copy(part[:atOnce-done], make([]byte, page))
						}
						break
					}
					mem.ReadAt(p[done:][:r.Size()], r.Start)
					done += int(r.Size())
				}
				return done
			}, mem, ranges)
			for _, r := range ranges {
				o.Own(r)
			}
			if err := o.Seal(nil, nil); err != nil || len(o.arena.faults) > 0 {
				t.Errorf("%v, %v", err, o.arena.faults)
			}
			if calls > len(ranges)+1 {
				t.Errorf("room %d, %d at once: %d calls", room, atOnce, calls)
			}
			for _, r := range ranges {
				got, want := make([]byte, r.Size()), make([]byte, r.Size())
				mem.ReadAt(want, r.Start)
				if _, err := o.ReadAt(got, r.Start); err != nil || !bytes.Equal(got, want) {
					t.Errorf("room %d, %d at once, %v: differs, %v", room, atOnce, r, err)
				}
			}
			o.Close()
		}
	}
}
