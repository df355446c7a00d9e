package packed_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"iter"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/packed"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/sink"
	"github.com/procmem/procmem/internal/zenc"
)

const page = procmem.PageSize

// changing is a process that is copied while it goes on. It has what each page of its mappings
// holds now, nil for one that does not exist.
type changing struct {
	maps  []procmem.Mapping
	pages map[procmem.Addr][]byte

	log  *packed.Log
	kept pageset.Set // pages of the moment that the log has, as precopy knows it
}

func pagesAt(start procmem.Addr, pages int) procmem.Range {
	return procmem.Range{Start: start, End: start + procmem.Addr(pages*page)}
}

func (c *changing) Mappings() ([]procmem.Mapping, error) { return c.maps, nil }

func (c *changing) Data(r procmem.Range) iter.Seq2[procmem.Range, error] {
	return func(yield func(procmem.Range, error) bool) {
		for a := r.Start; a < r.End; a += page {
			if c.pages[a] != nil && !yield(pagesAt(a, 1), nil) {
				return
			}
		}
	}
}

// ReadAt reads of what was put what the log has of it.
func (c *changing) ReadAt(p []byte, addr procmem.Addr) (int, error) {
	for done := 0; done < len(p); {
		a := addr + procmem.Addr(done)
		n := min(len(p)-done, int(a.PageDown()+page-a))
		clear(p[done : done+n])
		if c.kept.Has(a.PageDown()) {
			if _, err := c.log.ReadAt(p[done:done+n], a); err != nil {
				return done, err
			}
		} else if data := c.pages[a.PageDown()]; data != nil {
			copy(p[done:done+n], data[a-a.PageDown():])
		}
		done += n
	}
	return len(p), nil
}

// write changes a page: to noise, text or zeros.
func (c *changing) write(random *rand.Rand, a procmem.Addr) {
	b := make([]byte, page)
	switch random.IntN(3) {
	case 0:
		for i := 0; i < page; i += 8 {
			binary.LittleEndian.PutUint64(b[i:], random.Uint64())
		}
	case 1:
		copy(b, bytes.Repeat(binary.LittleEndian.AppendUint64(nil, uint64(a)^random.Uint64()), page/8))
	}
	c.pages[a] = b
}

// put puts the pages of r that exist, as they are.
func (c *changing) put(t *testing.T, w *core.Writer, r procmem.Range) {
	t.Helper()
	for a := r.Start; a < r.End; a += page {
		var run []byte
		begin := a
		for ; a < r.End && c.pages[a] != nil && len(run) < 64*page; a += page {
			run = append(run, c.pages[a]...)
		}
		if len(run) == 0 {
			continue
		}
		if err := w.Put(begin, run); err != nil {
			t.Fatal(err)
		}
		c.kept.Add(procmem.Range{Start: begin, End: a})
		a -= page
	}
}

// newChanging is a process with a dense mapping, a sparse one, and one that is
// not there at first.
func newChanging(random *rand.Rand) *changing {
	c := &changing{pages: map[procmem.Addr][]byte{}}
	for _, r := range []procmem.Range{pagesAt(0x1000000, 700), pagesAt(0x2000000, 1500), pagesAt(0x2000000+1500*page, 3), pagesAt(0x40000000, 300)} {
		c.maps = append(c.maps, procmem.Mapping{Range: r, Perm: procmem.PermRead | procmem.PermWrite, Usage: &procmem.Usage{Anonymous: page}})
	}
	for i, dense := range []int{100, 40, 100} {
		for a := c.maps[i].Start; a < c.maps[i].End; a += page {
			if random.IntN(100) < dense {
				c.write(random, a)
			}
		}
	}
	return c
}

// logged is a log into a file, and what ends it.
func logged(t *testing.T, path string) (l *packed.Log, finish func()) {
	t.Helper()
	f, err := sink.Create(path, false)
	if err != nil {
		t.Fatal(err)
	}
	spool, err := sink.NewSpool(filepath.Dir(path), true)
	if err != nil {
		t.Fatal(err)
	}
	stream := sink.NewStream(f)
	l = packed.NewLog(stream, spool.Store, func(head int64) *packed.Writer {
		return packed.NewWriter(stream, packed.Options{Workers: 2, Head: head})
	})
	t.Cleanup(func() {
		l.Abort()
		f.Abort()
		spool.Close()
	})
	return l, func() {
		t.Helper()
		if err := errors.Join(l.Close(), stream.Flush(), f.Commit()); err != nil {
			t.Fatal(err)
		}
	}
}

// checkReadBack compares what the log has with what was put.
func (c *changing) checkReadBack(t *testing.T) {
	t.Helper()
	for i := range c.maps {
		for r := range c.kept.Ranges(c.maps[i].Range) {
			var want []byte
			for a := r.Start; a < r.End; a += page {
				want = append(want, c.pages[a]...)
			}
			got := make([]byte, len(want)-10)
			if _, err := c.log.ReadAt(got, r.Start+5); err != nil || !bytes.Equal(got, want[5:len(want)-5]) {
				t.Errorf("read back, %v differs: %v", r, err)
			}
		}
	}
	if _, err := c.log.ReadAt(make([]byte, 1), 0x100000); !errors.Is(err, procmem.ErrNotMapped) {
		t.Errorf("what was never put: %v", err)
	}
}

// checkCore compares a core with the memory of the moment, and returns its
// program headers.
func (c *changing) checkCore(t *testing.T, path string) []*elf.Prog {
	t.Helper()
	f, err := core.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, page)
	zeros := make([]byte, page)
	for i := range c.maps {
		for a := c.maps[i].Start; a < c.maps[i].End; a += page {
			want := c.pages[a]
			if want == nil {
				want = zeros
			}
			if _, err := f.ReadAt(got, a); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%v differs: %v", a, err)
			}
		}
	}
	bad, err := f.Verify(t.Context(), nil)
	if err != nil || len(bad.Damaged) > 0 || !bad.Checked {
		t.Errorf("verify: %+v, %v", bad, err)
	}
	// As everybody else sees it.
	plain := path + ".plain"
	if msg, err := exec.Command("zstd", "-dq", path, "-o", plain).CombinedOutput(); err != nil {
		t.Fatalf("zstd -d: %v\n%s", err, msg)
	}
	defer os.Remove(plain)
	e, err := elf.Open(plain)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for _, p := range e.Progs {
		if p.Type != elf.PT_LOAD || p.Filesz == 0 {
			continue
		}
		b := make([]byte, p.Filesz)
		if _, err := p.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		for off := 0; off < len(b); off += page {
			want := c.pages[procmem.Addr(p.Vaddr)+procmem.Addr(off)]
			if want == nil {
				want = zeros
			}
			if !bytes.Equal(b[off:off+page], want) {
				t.Fatalf("%#x differs in the plain core", p.Vaddr+uint64(off))
			}
		}
	}
	return e.Progs
}

// finish takes the core of the moment.
func (c *changing) finish(t *testing.T, w *core.Writer) {
	t.Helper()
	img := &procmem.Image{Arch: procmem.AMD64, Process: procmem.ProcessInfo{PID: 42, State: 'S', Name: "fake"},
		Mappings: c.maps, Threads: []procmem.Thread{{TID: 42}}}
	c.log.Confirm(c)
	for range 2 { // the second time makes no difference
		if err := w.Settle(core.Select(img, c, core.FilterDefault)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Copy(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(img, &core.Report{Method: "precopy", Consistent: true}); err != nil {
		t.Fatal(err)
	}
}

// Whatever a process does while it is copied ahead, the core has what it holds
// in the end.
func TestLog(t *testing.T) {
	for seed := range uint64(9) {
		random := rand.New(rand.NewPCG(seed, 1))
		c := newChanging(random)
		path := filepath.Join(t.TempDir(), "core.zst")
		var finish func()
		c.log, finish = logged(t, path)
		first := []core.Segment{{Range: c.maps[0].Range, Perm: c.maps[0].Perm, Dumped: true}}
		w, err := core.NewLogWriter(c.log, procmem.AMD64, first)
		if err != nil {
			t.Fatal(err)
		}
		if !w.Ahead(true) {
			t.Fatal("a log does not work ahead")
		}
		if seed%3 == 2 { // what was put too early to be worked on
			w.Ahead(false)
			c.put(t, w, c.maps[0].Range)
			w.Ahead(true)
			for a := c.maps[0].Start; a < c.maps[0].Start+100*page; a += page {
				c.write(random, a)
			}
		}
		if seed%3 == 1 { // an attempt in vain
			c.put(t, w, c.maps[0].Range)
			if err := w.Forget(procmem.Range{End: 1 << 47}); err != nil {
				t.Fatal(err)
			}
			c.kept.Clear()
			if n := c.log.Len(); n != page {
				t.Errorf("%d bytes are left of an attempt in vain", n)
			}
		}
		for i := range 3 {
			c.put(t, w, c.maps[i].Range)
		}
		if n := c.log.Len(); n < 1000*page {
			t.Errorf("%d bytes are in the log", n)
		}
		w.Ahead(false)
		// Rounds: pages are written, come and go.
		anywhere := func() procmem.Addr {
			m := &c.maps[random.IntN(len(c.maps))]
			return m.Start + procmem.Addr(random.IntN(int(m.Size()/page))*page)
		}
		changes := []int{0, 5, 300}[random.IntN(3)]
		for range changes {
			a := anywhere()
			switch random.IntN(5) {
			case 0: // dropped
				delete(c.pages, a)
				c.kept.Remove(pagesAt(a, 1))
				if err := w.Forget(pagesAt(a, 1)); err != nil {
					t.Fatal(err)
				}
			case 1: // written in the pause: the moment has it from elsewhere
				c.write(random, a)
				c.kept.Remove(pagesAt(a, 1))
				if err := w.Forget(pagesAt(a, 1)); err != nil {
					t.Fatal(err)
				}
			default:
				c.write(random, a)
				c.put(t, w, pagesAt(a, 1))
			}
		}
		// What was never put needs not be forgotten.
		for range changes / 10 {
			if a := anywhere(); c.pages[a] == nil {
				c.write(random, a)
			}
		}
		for a := c.maps[3].Start; a < c.maps[3].Start+50*page; a += page {
			if c.pages[a] == nil { // a mapping that came late
				c.write(random, a)
			}
		}
		c.checkReadBack(t)
		c.finish(t, w)
		if n := (c.log.End() - c.log.Len()) / page; changes == 0 && n > 400 { // the mapping that came late
			t.Errorf("nothing has changed, and %d pages are appended", n)
		}
		finish()
		c.checkCore(t, path)
	}
}

// What changes everywhere does not make a program header for each page.
func TestLogInPieces(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	c := &changing{pages: map[procmem.Addr][]byte{}}
	m := pagesAt(0x1000000, 6*packed.MaxPieces+3)
	c.maps = []procmem.Mapping{{Range: m, Perm: procmem.PermRead | procmem.PermWrite, Usage: &procmem.Usage{Anonymous: page}}}
	content := func(a procmem.Addr, n byte) {
		c.pages[a] = bytes.Repeat([]byte{byte(a >> 12), byte(a >> 20), n, 1}, page/4)
	}
	for a := m.Start; a < m.End; a += page {
		content(a, 0)
	}
	path := filepath.Join(t.TempDir(), "core.zst")
	var finish func()
	c.log, finish = logged(t, path)
	w, err := core.NewLogWriter(c.log, procmem.AMD64, []core.Segment{{Range: m, Perm: c.maps[0].Perm, Dumped: true}})
	if err != nil {
		t.Fatal(err)
	}
	w.Ahead(true)
	c.put(t, w, m)
	w.Ahead(false)
	c.checkReadBack(t)
	for a := m.Start; a < m.Start+2*2*packed.MaxPieces*page; a += 2 * page {
		content(a, byte(1+random.IntN(200)))
		c.put(t, w, pagesAt(a, 1))
	}
	c.finish(t, w)
	finish()
	progs := c.checkCore(t, path)
	if len(progs) > packed.MaxPieces+10 {
		t.Errorf("%d program headers", len(progs))
	}
	// What is far from all changes stays where it is.
	if last := progs[len(progs)-2]; last.Vaddr+last.Memsz != uint64(m.End) || last.Memsz < packed.MaxPieces*page || last.Off > uint64(m.Size()) {
		t.Errorf("the last piece: %+v", last.ProgHeader)
	}
}

// Nor does memory of which little exists.
func TestLogSparse(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	c := &changing{pages: map[procmem.Addr][]byte{}}
	m := pagesAt(0x1000000, (packed.MaxPieces+100)*(packed.MaxGap/page+10))
	c.maps = []procmem.Mapping{{Range: m, Perm: procmem.PermRead | procmem.PermWrite, Usage: &procmem.Usage{Anonymous: page}}}
	for a := m.Start + 5*page; a < m.End; a += packed.MaxGap + 10*page {
		c.write(random, a)
	}
	l, _ := logged(t, filepath.Join(t.TempDir(), "core.zst"))
	l.Begin(page)
	l.Ahead(true)
	for a := range c.pages {
		if err := l.Put(a, c.pages[a]); err != nil {
			t.Fatal(err)
		}
	}
	places, err := l.Settle([]procmem.Range{m})
	if err != nil || len(places) > packed.MaxPieces+2 {
		t.Errorf("%d places, %v", len(places), err)
	}
	var at procmem.Addr = m.Start
	for _, p := range places {
		if p.Start != at || p.Empty() {
			t.Fatalf("%v does not follow %v", p.Range, at)
		}
		at = p.End
	}
	if at != m.End {
		t.Errorf("the places end at %v", at)
	}
}

// Memory without data is bridged, if there is not too much of it.
func TestLogGaps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "core.zst")
	l, _ := logged(t, path)
	l.Begin(page)
	l.Ahead(true)
	data := bytes.Repeat([]byte{1}, page)
	at := []procmem.Addr{0x1000000, 0x1000000 + page + packed.MaxGap, 0x1000000 + 3*page + 2*packed.MaxGap, 0x500000, 0x1000000 + 4*page + 2*packed.MaxGap}
	for _, a := range at {
		if err := l.Put(a, data); err != nil {
			t.Fatal(err)
		}
	}
	got, err := l.Settle([]procmem.Range{{Start: 0x100000, End: 0x2000000}})
	if err != nil {
		t.Fatal(err)
	}
	got = slices.DeleteFunc(got, func(p pageset.Place) bool { return int64(p.Start)+p.Delta >= l.Len() })
	want := []pageset.Place{
		{Range: pagesAt(at[3], 1), Delta: 3*page + packed.MaxGap + page - int64(at[3])},
		{Range: procmem.Range{Start: at[0], End: at[1] + page}, Delta: page - int64(at[0])},
		{Range: pagesAt(at[2], 1), Delta: 3*page + packed.MaxGap - int64(at[2])},
		{Range: pagesAt(at[4], 1), Delta: 3*page + packed.MaxGap + 2*page - int64(at[4])},
	}
	if !slices.Equal(got, want) {
		t.Errorf("places\n got %v\nwant %v", got, want)
	}
	if n := l.Bytes(); n != 5*page {
		t.Errorf("%d bytes", n)
	}
}

// A file that fails fails the log, and its core.
func TestLogFails(t *testing.T) {
	spool, err := sink.NewSpool(t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	full := errors.New("no room")
	file := failing{err: full}
	l := packed.NewLog(file, spool.Store, func(head int64) *packed.Writer { return packed.NewWriter(file, packed.Options{Workers: 1, Head: head}) })
	defer l.Abort()
	l.Begin(page)
	l.Ahead(true)
	data := bytes.Repeat([]byte{7}, 1<<20)
	for a := procmem.Addr(0x1000000); err == nil; a += 1 << 20 {
		err = l.Put(a, data)
	}
	if !errors.Is(err, full) {
		t.Error(err)
	}
	if _, err := l.Settle([]procmem.Range{{Start: 0x1000000, End: 0x2000000}}); !errors.Is(err, full) {
		t.Errorf("settle: %v", err)
	}
}

type failing struct {
	packed.LogFile
	err error
}

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// A head may be as long as one likes, and is replaced by one of its length.
func TestHead(t *testing.T) {
	for _, n := range []int{page, zenc.MaxBlock, zenc.MaxBlock + page, packed.FrameSize, 2*packed.FrameSize + 5*page} {
		var out bytes.Buffer
		w := packed.NewWriter(&out, packed.Options{Head: int64(n)})
		body := bytes.Repeat([]byte("body"), 100_000)
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		b := out.Bytes()
		head := bytes.Repeat([]byte{'h', byte(n >> 12)}, n/2)
		copy(b, packed.EncodeHead(head))
		want := append(head, body...)
		got := make([]byte, len(want))
		r := mustRead(t, b)
		if _, err := r.ReadAt(got, 0); err != nil || r.Size() != int64(len(want)) || !bytes.Equal(got, want) {
			t.Errorf("a head of %d bytes: %d of %d bytes, %v", n, r.Size(), len(want), err)
		}
		checkZstd(t, b, want)
	}
}

// checkZstd unpacks with the command zstd.
func checkZstd(t *testing.T, packed, want []byte) {
	t.Helper()
	cmd := exec.Command("zstd", "-dcq")
	cmd.Stdin = bytes.NewReader(packed)
	got, err := cmd.Output()
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("zstd -d: %d of %d bytes, %v", len(got), len(want), err)
	}
}

func mustRead(t *testing.T, b []byte) *packed.Reader {
	t.Helper()
	r, err := packed.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}
