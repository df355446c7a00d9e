package candidates

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/search"
)

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
