package core

import (
	"bytes"
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/elfcore"
	"github.com/procmem/procmem/internal/sink"
)

// heldMemory fails the test if what is held in the core already is read.
type heldMemory struct {
	procmem.Memory
	t *testing.T
	w *Writer
}

func (m heldMemory) ReadAt(p []byte, addr procmem.Addr) (int, error) {
	for r := range m.w.Held(rng(addr, addr+procmem.Addr(len(p)))) {
		m.t.Errorf("%v was put, and is read again", r)
	}
	return m.Memory.ReadAt(p, addr)
}

// stale is what a page held when it was put, before it changed.
func stale(a procmem.Addr) []byte {
	return bytes.Repeat([]byte("staleXYZ"), page/8)
}

// grown is a process while it runs: its segments at first, and its memory in the end. The heap
// has grown and lost a page. A mapping has gone, one has come, and one has other permissions in
// its middle.
func grown(a procmem.Arch) (first []Segment, img *procmem.Image, m *fakeMemory) {
	r := procmem.PermRead
	first = []Segment{
		{rng(0x1000000, 0x1400000), rw, true},
		{rng(0x2000000, 0x2010000), rw, true},
		{rng(0x2010000, 0x2020000), r, false},
		{rng(0x3000000, 0x3040000), rw, true},
		{rng(0x7f000000, 0x7f010000), rw, true},
	}
	m = newFake(
		anon(0x1000000, 0x1200000, rw, "[heap]"), anon(0x1201000, 0x1a00000, rw, "[heap]"),
		anon(0x2010000, 0x2020000, rw, ""),
		anon(0x3000000, 0x3010000, rw, ""), anon(0x3010000, 0x3020000, r, ""), anon(0x3020000, 0x3040000, rw, ""),
		anon(0x5000000, 0x5900000, rw, ""),
		anon(0x7efff000, 0x7f010000, rw, "[stack]"))
	for i := range m.maps {
		m.fill(m.maps[i].Range)
		m.maps[i].Usage = &procmem.Usage{Anonymous: page}
	}
	for a := procmem.Addr(0x1300000); a < 0x1400000; a += page { // present, and zero
		delete(m.pages, a)
	}
	return first, fakeImage(a, m.maps), m
}

// precopy puts pages of m here and there, first as they were and then, most
// of them, as they are; forgets some; and finishes the core.
func precopy(t *testing.T, w *Writer, img *procmem.Image, m *fakeMemory) *Report {
	t.Helper()
	everywhere := rng(0x1000000, 0x80000000)
	put := func(a procmem.Addr, n int, content func(procmem.Addr) []byte) {
		var p []byte
		for i := range n {
			p = append(p, content(a+procmem.Addr(i)*page)...)
		}
		if err := w.Put(a, p); err != nil {
			t.Error(err)
		}
	}
	now := func(a procmem.Addr) []byte {
		if p := m.pages[a]; p != nil {
			return p
		}
		return make([]byte, page)
	}
	areas := []procmem.Range{rng(0x1000000, 0x1800000), rng(0x2000000, 0x2020000), rng(0x3000000, 0x3040000),
		rng(0x4000000, 0x4400000), rng(0x5000000, 0x5800000), rng(0x7efff000, 0x7f010000)}
	var wg sync.WaitGroup
	for i, area := range areas {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			anywhere := func() (procmem.Addr, int) {
				k := random.IntN(int(area.Size() / page))
				return area.Start + procmem.Addr(k*page), 1 + random.IntN(min(64, int(area.Size()/page)-k))
			}
			for range 50 {
				a, n := anywhere()
				put(a, n, stale)
			}
			for r := range w.Held(area) {
				for ; !r.Empty(); r.Start += page {
					if random.IntN(3) > 0 {
						put(r.Start, 1, now)
					} else if err := w.Forget(rng(r.Start, r.Start+page)); err != nil {
						t.Error(err)
					}
				}
			}
			for range 50 {
				a, n := anywhere()
				put(a, n, now)
			}
		})
	}
	wg.Wait()
	segs := Select(img, sparseMemory{m}, FilterDefault)
	var before []procmem.Range
	for _, s := range segs {
		before = slices.AppendSeq(before, w.Held(s.Range))
	}
	if err := w.Settle(segs); err != nil {
		t.Fatal(err)
	}
	var after []procmem.Range
	for _, s := range segs {
		after = slices.AppendSeq(after, w.Held(s.Range))
	}
	if !slices.Equal(before, after) || len(after) < 100 {
		t.Errorf("held in segments\n got %v\nwant %v", after, before)
	}
	for r := range w.Held(everywhere) {
		for a := r.Start; a < r.End; a += page {
			if i := procmem.FindMapping(m.maps, a); i == len(m.maps) || !m.maps[i].Contains(a) {
				t.Fatalf("%v is held, and in no segment", a)
			}
		}
	}
	if err := w.Copy(t.Context(), heldMemory{sparseMemory{m}, t, w}); err != nil {
		t.Fatal(err)
	}
	rep := &Report{Version: "test", Method: "precopy", Rounds: 3}
	if err := w.Finish(img, rep); err != nil {
		t.Fatal(err)
	}
	return rep
}

// checkWhole compares a core with the memory that it should hold.
func checkWhole(t *testing.T, f *File, m *fakeMemory) {
	t.Helper()
	got, want := make([]byte, page), make([]byte, page)
	for i := range m.maps {
		for a := m.maps[i].Start; a < m.maps[i].End; a += page {
			if _, err := m.ReadAt(want, a); err != nil {
				t.Fatal(err)
			}
			if _, err := f.ReadAt(got, a); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%v differs: %v", a, err)
			}
		}
	}
}

// checkNothingStale makes sure that the file holds nothing but what its
// headers refer to.
func checkNothingStale(t *testing.T, b []byte) {
	t.Helper()
	if bytes.Contains(b, []byte("staleXYZ")) {
		t.Error("stale bytes are left in the file")
	}
	h, err := elfcore.DecodeHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	rest := bytes.Clone(b)
	clear(rest[:elfcore.HeaderSize(h.Class)])
	clear(rest[h.Phoff:][:int(h.Phnum)*int(h.Phsize)])
	for i := range int(h.Phnum) {
		p := elfcore.DecodeProgHeader(h.Class, b[int(h.Phoff)+i*int(h.Phsize):])
		clear(rest[p.Off : p.Off+p.Filesz])
	}
	for i, c := range rest {
		if c != 0 {
			t.Fatalf("the byte at offset %#x belongs to nothing", i)
		}
	}
}

func TestPut(t *testing.T) {
	for _, arch := range []procmem.Arch{procmem.AMD64, procmem.I386} {
		for _, holes := range []bool{true, false} {
			t.Run(fmt.Sprint(arch, " holes ", holes), func(t *testing.T) {
				first, img, m := grown(arch)
				path := filepath.Join(t.TempDir(), "core")
				out, err := sink.Create(path, false)
				if err != nil {
					t.Fatal(err)
				}
				defer out.Abort()
				w := mustFile(t, out, img, first)
				if !holes {
					w = mustFile(t, struct{ io.WriterAt }{out}, img, first)
				}
				rep := precopy(t, w, img, m)
				written := w.Written()
				if err := out.Commit(); err != nil {
					t.Fatal(err)
				}
				f, err := Open(path)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				checkWhole(t, f, m)
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				checkNothingStale(t, b)
				data := int64(len(m.pages) * page)
				if most := data + 64<<10; rep.FileBytes < data || rep.DiskBytes < data || rep.DiskBytes > most || written < data || written > most {
					t.Errorf("file of %d bytes, %d on disk, %d written, %d of data", rep.FileBytes, rep.DiskBytes, written, data)
				}
				if n := len(f.segs); n > 20 {
					t.Errorf("%d segments of %d mappings", n, len(m.maps))
				}
			})
		}
	}
}

// Put ahead of Copy without Settle: the segments are as they were, and what
// was put outside of them is gone.
func TestPutWithoutSettle(t *testing.T) {
	m := newFake(anon(0x10000, 0x20000, rw, ""))
	m.fill(m.maps[0].Range)
	img := fakeImage(procmem.AMD64, m.maps)
	var file memFile
	w := mustFile(t, &file, img, Select(img, m, FilterDefault))
	for _, a := range []procmem.Addr{0x8000, 0x40000} {
		if err := w.Put(a, stale(a)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Put(0x11000, m.pages[0x11000]); err != nil {
		t.Fatal(err)
	}
	if err := w.Copy(t.Context(), heldMemory{m, t, w}); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(img, &Report{}); err != nil {
		t.Fatal(err)
	}
	f, err := NewReader(bytes.NewReader(file.b), int64(len(file.b)))
	if err != nil {
		t.Fatal(err)
	}
	checkWhole(t, f, m)
	checkNothingStale(t, file.b)
}

func TestPutErrors(t *testing.T) {
	img, fake := scene(procmem.AMD64)
	segs := Select(img, fake, FilterDefault)
	w := mustStream(t, io.Discard, img, segs)
	_, err := w.ReadAt(make([]byte, 1), 0x400000)
	for _, err := range []error{err, w.Put(0x400000, make([]byte, page)), w.Forget(rng(0, page)), w.Settle(segs)} {
		if !errors.Is(err, errStream) {
			t.Errorf("stream: %v", err)
		}
	}
	for r := range w.Held(rng(0, 1<<47)) {
		t.Errorf("a stream holds %v", r)
	}
	w = mustFile(t, &failingAt{limit: 1 << 20}, img, segs)
	if err := w.Put(0x7f00f000, stale(0)); !errors.Is(err, errFull) || !strings.HasPrefix(err.Error(), "put 0x7f00f000 into core: ") {
		t.Error(err)
	}
	w = mustFile(t, &memFile{}, img, segs)
	if err := w.Settle([]Segment{{rng(0x1001, 0x2000), rw, true}}); err == nil || !strings.HasPrefix(err.Error(), "lay out core: ") {
		t.Error(err)
	}
	img, _ = scene(procmem.I386)
	w = mustFile(t, &memFile{}, img, segs)
	if err := w.Settle([]Segment{{rng(0, 1<<32), rw, true}}); err == nil || !strings.Contains(err.Error(), "beyond the limit of 0xffffffff") {
		t.Error(err)
	}
}

// crowded is a core whose headers are sized for one segment and come to n.
func crowded(t *testing.T, arch procmem.Arch, n int) (path string, img *procmem.Image, m *fakeMemory) {
	t.Helper()
	m = newFake()
	for i := range procmem.Addr(n) {
		perm := rw
		if i%2 == 1 {
			perm = procmem.PermRead
		}
		at := 0x100000 + i*page
		m.maps = append(m.maps, anon(at, at+page, perm, ""))
		m.pages[at] = pattern(at)
	}
	img = fakeImage(arch, m.maps)
	path = filepath.Join(t.TempDir(), "core")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w := mustFile(t, out, img, []Segment{{rng(0x100000, 0x180000), rw, true}})
	for a := procmem.Addr(0x110000); a < 0x190000; a += page {
		if err := w.Put(a, m.pages[a]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Settle(Select(img, m, FilterDefault)); err != nil {
		t.Fatal(err)
	}
	if err := w.Copy(t.Context(), heldMemory{m, t, w}); err != nil {
		t.Fatal(err)
	}
	rep := &Report{}
	if err := w.Finish(img, rep); err != nil {
		t.Fatal(err)
	}
	if st, err := out.Stat(); err != nil || st.Size() != rep.FileBytes || w.l.tableOff < w.l.ownOff || w.l.tableOff%8 != 0 {
		t.Errorf("%d bytes, report says %d; headers at %#x, %v", st.Size(), rep.FileBytes, w.l.tableOff, err)
	}
	return path, img, m
}

// The program headers may outgrow the room in front, and lie at the end then.
func TestHeadersAtEnd(t *testing.T) {
	for arch, sizes := range map[procmem.Arch][]int{procmem.AMD64: {500, 70_000}, procmem.I386: {500}} {
		for _, n := range sizes {
			path, _, m := crowded(t, arch, n)
			f, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if len(f.segs) != n || len(f.img.Mappings) != n || len(f.img.Threads) != 2 || f.Report() == nil {
				t.Errorf("%v: %d segments, %d mappings, %d threads", arch, len(f.segs), len(f.img.Mappings), len(f.img.Threads))
			}
			checkWhole(t, f, m)
			if n == 500 {
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				checkNothingStale(t, b)
				if _, err := elf.NewFile(bytes.NewReader(b)); err != nil { // as delve reads it
					t.Error(err)
				}
			}
		}
	}
}

func TestToolsReadHeadersAtEnd(t *testing.T) {
	for _, n := range []int{500, 70_000} {
		path, _, m := crowded(t, procmem.AMD64, n)
		last := m.maps[n-1].Start
		word := fmt.Sprintf("0x%016x", uint64(last)+1)
		for _, c := range []struct {
			name string
			args []string
			want []string
		}{
			{"readelf", []string{"-W", "-h", "-l", "-n", path}, []string{"NT_PRSTATUS", strings.TrimPrefix(last.String(), "0x"), fmt.Sprint(n + 2)}},
			{"eu-readelf", []string{"-l", path}, []string{strings.TrimPrefix(last.String(), "0x")}},
			{"gdb", []string{"-nx", "-batch", "-ex", "x/1xg " + last.String(), "-ex", "info threads", "-c", path}, []string{word, "LWP 42"}},
			{"lldb", []string{"-b", "-o", "memory read -s8 -fx -c1 " + last.String(), "-o", "thread list", "-c", path}, []string{word, "thread #2"}},
		} {
			t.Run(fmt.Sprint(c.name, c.args[:1], n), func(t *testing.T) {
				out := tool(t, c.name, c.args...)
				for _, want := range c.want {
					if !strings.Contains(out, want) {
						t.Errorf("no %q in\n%.3000s", want, out)
					}
				}
				if c.name != "gdb" && c.name != "lldb" && (strings.Contains(out, "arning") || strings.Contains(out, "invalid")) {
					t.Errorf("%.3000s", out)
				}
			})
		}
	}
}

// What gdb says of its own core it says of one that was put together in
// pieces, with its program headers at the end.
func TestToolsReadPieces(t *testing.T) {
	_, theirs, _ := gcore(t)
	f, err := Open(theirs)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	path := filepath.Join(t.TempDir(), "ours")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	segs := slices.DeleteFunc(f.Segments(), func(s Segment) bool { return !s.Dumped })
	w := mustFile(t, out, f.Image(), nil)
	for i, s := range segs {
		p := make([]byte, page)
		for a := s.Start; a < s.End; a += page * procmem.Addr(1+i%3) {
			if _, err := f.ReadAt(p, a); err != nil {
				t.Fatal(err)
			}
			if err := w.Put(a, p); err != nil {
				t.Fatal(err)
			}
		}
	}
	// More headers than the room of a page takes.
	for i := range procmem.Addr(100) {
		a := 0x10000 + i*2*page
		segs = append(segs, Segment{rng(a, a+page), procmem.PermRead, true})
	}
	slices.SortFunc(segs, func(a, b Segment) int { return cmp.Compare(a.Start, b.Start) })
	if err := w.Settle(segs); err != nil {
		t.Fatal(err)
	}
	if err := w.Copy(t.Context(), heldMemory{f, t, w}); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(f.Image(), &Report{}); err != nil {
		t.Fatal(err)
	}
	if w.l.tableOff < w.l.memEnd {
		t.Errorf("the headers of %d segments are in front", len(segs))
	}
	questions := func(path string) []string {
		return []string{"-nx", "-batch", "-ex", "bt", "-ex", "info registers", "-ex", "x/64gx $sp", "-ex", "info sharedlibrary", f.Image().Exe, path}
	}
	skip := func(s string) string {
		i := strings.Index(s, "#0")
		return s[max(i, 0):]
	}
	got, want := tool(t, "gdb", questions(path)...), tool(t, "gdb", questions(theirs)...)
	if got, want = skip(got), skip(want); got != want || !strings.Contains(got, "rip") {
		t.Errorf("of ours:\n%s\nof its own:\n%s", got, want)
	}
	if out := tool(t, "eu-readelf", "-n", path); !strings.Contains(out, "PRSTATUS") || !strings.Contains(out, "procmem") {
		t.Error(out)
	}
	if out := tool(t, "readelf", "-W", "-l", "-n", path); strings.Contains(out, "arning") || strings.Contains(out, "rror") {
		t.Error(out)
	}
	if out := tool(t, "lldb", "-b", "-o", "bt", "-c", path, f.Image().Exe); !strings.Contains(out, "frame #0") || strings.Contains(out, "error:") {
		t.Error(out)
	}
}

// The segments are settled in the pause: with tens of thousands of them, and
// gigabytes that have been put, it must not cost seconds.
func BenchmarkSettle(b *testing.B) {
	const n = 60_000
	var segs, others []Segment
	for i := range procmem.Addr(n) {
		at := 0x100000000 + i*32*page
		segs = append(segs, Segment{rng(at, at+16*page), rw, true})
		others = append(others, Segment{rng(at+8*page, at+24*page), rw, true})
	}
	w, err := NewFileWriter(discardAt{}, procmem.AMD64, segs)
	if err != nil {
		b.Fatal(err)
	}
	block := bytes.Repeat([]byte{1}, 16*page)
	for _, s := range segs {
		if err := w.Put(s.Start, block); err != nil {
			b.Fatal(err)
		}
	}
	for i := 0; b.Loop(); i++ {
		if err := w.Settle([][]Segment{others, segs}[i%2]); err != nil {
			b.Fatal(err)
		}
	}
}
