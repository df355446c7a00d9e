package sink

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/sys"
)

const page = procmem.PageSize

// pages is what keeps memory by address, in whatever order it comes.
type pages interface {
	Put(addr procmem.Addr, p []byte) error
	Forget(r procmem.Range) error
	ReadAt(p []byte, addr procmem.Addr) (int, error)
	Held(r procmem.Range) iter.Seq[procmem.Range]
}

func rng(start, end procmem.Addr) procmem.Range { return procmem.Range{Start: start, End: end} }

// noHoles is a file that cannot make holes.
type noHoles struct {
	io.WriterAt
	io.ReaderAt
}

func newSpool(t *testing.T, dir string) *Spool {
	t.Helper()
	s, err := NewSpool(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// newFile returns a file of which all goes around the page cache that can.
func newFile(t *testing.T, dir string) *File {
	t.Helper()
	f, err := Create(filepath.Join(dir, "out"), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Abort)
	return f
}

const (
	area     = procmem.Addr(0x7f0000000000) - 300*page
	areaSize = 2000 // pages, in and around the segments of the writer
)

func newWriter(t *testing.T, dst io.WriterAt) *core.Writer {
	t.Helper()
	rw := procmem.PermRead | procmem.PermWrite
	w, err := core.NewFileWriter(dst, procmem.AMD64, []core.Segment{
		{Range: rng(0x10000, 0x20000), Perm: rw, Dumped: true},
		{Range: rng(area+100*page, area+400*page), Perm: rw, Dumped: true},
		{Range: rng(area+400*page, area+500*page), Perm: rw},
		{Range: rng(area+500*page, area+600*page), Perm: rw, Dumped: true},
		{Range: rng(area+1000*page, area+1700*page), Perm: rw, Dumped: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// sharedMemory is a folder on a memory file system.
func sharedMemory(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "procmem-sink-")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func forEachStore(t *testing.T, f func(t *testing.T, s pages)) {
	for name, open := range map[string]func(t *testing.T) pages{
		"spool": func(t *testing.T) pages { return newSpool(t, t.TempDir()) },
		"spool, half of it in the page cache": func(t *testing.T) pages {
			s := newSpool(t, t.TempDir())
			s.file.cached = areaSize*page/2 + 3*page
			return s
		},
		"spool around the page cache": func(t *testing.T) pages {
			s := newSpool(t, t.TempDir())
			s.file.cached = 0
			return s
		},
		"spool through the page cache": func(t *testing.T) pages {
			s := newSpool(t, t.TempDir())
			noDirect(s.file)
			return s
		},
		"spool in shared memory": func(t *testing.T) pages { return newSpool(t, sharedMemory(t)) },
		"core":                   func(t *testing.T) pages { return newWriter(t, newFile(t, t.TempDir())) },
		"core in shared memory":  func(t *testing.T) pages { return newWriter(t, newFile(t, sharedMemory(t))) },
		"core without holes": func(t *testing.T) pages {
			f := newFile(t, t.TempDir())
			return newWriter(t, noHoles{f, f})
		},
	} {
		t.Run(name, func(t *testing.T) { f(t, open(t)) })
	}
}

// model is a store together with what it should hold: pages first, first+step,
// and so on, of the area.
type model struct {
	pages
	first, step int
	want        map[int][]byte
	random      *rand.Rand
	buf         []byte
}

func newModel(s pages, first, step int) *model {
	return &model{s, first, step, map[int][]byte{}, rand.New(rand.NewPCG(uint64(first), 3)), sys.Aligned(32 * page)}
}

func at(i int) procmem.Addr { return area + procmem.Addr(i)*page }

// change puts or forgets something.
func (m *model) change() error {
	i, n := m.random.IntN(areaSize), 1
	if m.step == 1 {
		n += m.random.IntN(min(32, areaSize-i))
	} else {
		i = i/m.step*m.step + m.first
	}
	if m.random.IntN(4) == 0 {
		for k := i; k < i+n; k++ {
			delete(m.want, k)
		}
		return m.Forget(rng(at(i), at(i+n)))
	}
	p := m.buf[:n*page]
	for k := range n {
		one := p[k*page : (k+1)*page]
		clear(one)
		if m.random.IntN(3) > 0 {
			copy(one, fmt.Sprint("page ", i+k, " ", m.random.Uint64()))
			one[page-1] = 0xff
		}
		m.want[i+k] = bytes.Clone(one)
	}
	return m.Put(at(i), p)
}

// check compares all that the store says with what it should hold.
func (m *model) check(t *testing.T) {
	t.Helper()
	var held int
	for r := range m.Held(rng(at(0), at(areaSize+m.step))) {
		held += int(r.Size() / page)
	}
	if m.step == 1 && held != len(m.want) {
		t.Fatalf("%d pages held, want %d", held, len(m.want))
	}
	for i := m.first; i < areaSize; i += m.step {
		got := bytes.Repeat([]byte{0xaa}, page)
		n, err := m.ReadAt(got, at(i))
		want := m.want[i]
		if want == nil {
			if fe, ok := errors.AsType[*procmem.FaultError](err); n != 0 || !ok || fe.Addr != at(i) || fe.Err != procmem.ErrNotMapped {
				t.Fatalf("page %d is not held: read %d, %v", i, n, err)
			}
		} else if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("page %d differs: %v", i, err)
		}
	}
}

func TestPages(t *testing.T) {
	forEachStore(t, func(t *testing.T, s pages) {
		m := newModel(s, 0, 1)
		for step := range 600 {
			if err := m.change(); err != nil {
				t.Fatal(err)
			}
			if step%100 == 99 {
				m.check(t)
			}
		}
		// Across the borders of pages and runs, at any address.
		for range 200 {
			start := at(0) + procmem.Addr(m.random.IntN(areaSize*page))
			got := make([]byte, m.random.IntN(20*page))
			n, err := m.ReadAt(got, start)
			for k := range got {
				a := start + procmem.Addr(k)
				p := m.want[int((a-at(0))/page)]
				if (p != nil) != (k < n) {
					t.Fatalf("read %d bytes at %v: %d, %v", len(got), start, n, err)
				}
				if p == nil {
					break
				}
				if got[k] != p[a%page] {
					t.Fatalf("read %d bytes at %v: byte %d differs", len(got), start, k)
				}
			}
			if (err == nil) != (n == len(got)) {
				t.Fatalf("read %d bytes at %v: %d, %v", len(got), start, n, err)
			}
		}
		if err := s.Put(at(0)+1, make([]byte, page)); err == nil {
			t.Error("no error for an address inside a page")
		}
		if err := s.Put(at(0), make([]byte, page+1)); err == nil {
			t.Error("no error for a part of a page")
		}
		if err := s.Put(^procmem.Addr(0)&^(page-1), make([]byte, page)); err == nil {
			t.Error("no error behind the last address")
		}
	})
}

func TestPagesAtOnce(t *testing.T) {
	forEachStore(t, func(t *testing.T, s pages) {
		models := make([]*model, 4)
		var wg sync.WaitGroup
		for i := range models {
			models[i] = newModel(s, i, len(models))
			wg.Go(func() {
				for range 250 {
					if err := models[i].change(); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		for _, m := range models {
			m.check(t)
		}
	})
}

// What is forgotten takes no room any more, and no byte of it is left.
func TestForgetLeavesNothing(t *testing.T) {
	s := newSpool(t, t.TempDir())
	p := bytes.Repeat([]byte("secret!!"), 4<<20/8)
	for i := range procmem.Addr(4) {
		if err := s.Put(area+i*4<<20, p); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.Bytes(); n != 16<<20 {
		t.Errorf("%d bytes", n)
	}
	if err := s.Forget(rng(0, 1<<47)); err != nil {
		t.Fatal(err)
	}
	if n, disk := s.Bytes(), s.file.DiskBytes(); n != 0 || disk > 1<<20 {
		t.Errorf("%d bytes, %d on disk", n, disk)
	}
	all, err := io.ReadAll(io.NewSectionReader(s.file, 0, 1<<30))
	if err != nil || bytes.Contains(all, []byte("secret")) {
		t.Errorf("the file still holds what was forgotten, %v", err)
	}
}

// Nobody else can get at a spool, and it ends with its process.
// A spool stays in memory up to a part of what the machine has.
func TestSpoolIsCached(t *testing.T) {
	s := newSpool(t, t.TempDir())
	if s.file.direct == nil {
		t.Skip("no direct I/O here")
	}
	if c := s.file.cached; c < 1<<20 || c > 1<<50 {
		t.Errorf("%d bytes may be cached", c)
	}
	p := make([]byte, directMin)
	for off, around := range map[int64]bool{0: false, s.file.cached - page: false, s.file.cached&^(page-1) + page: true} {
		if s.file.around(p, off) != around {
			t.Errorf("at %#x of %#x: around the page cache: %v", off, s.file.cached, !around)
		}
	}
}

func TestSpoolHasNoName(t *testing.T) {
	dir := t.TempDir()
	s := newSpool(t, dir)
	var st unix.Stat_t
	if err := unix.Fstat(int(s.file.f.Fd()), &st); err != nil || st.Mode&0o7777 != 0o600 || st.Nlink != 0 {
		t.Errorf("mode %o, %d names, %v", st.Mode, st.Nlink, err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Errorf("%v, %v", names, err)
	}
	if _, err := NewSpool(filepath.Join(dir, "absent"), true); !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "create spool: ") {
		t.Error(err)
	}
}

// Writes, holes and reads see each other, whether they go through the page
// cache or around it.
func TestHoles(t *testing.T) {
	for _, dir := range []string{t.TempDir(), sharedMemory(t)} {
		f := newFile(t, dir)
		random := rand.New(rand.NewPCG(1, 1))
		m := newModel(nil, 0, 1)
		want := make([]byte, 8<<20)
		for step := range 600 {
			off := random.IntN(len(want)/page-32) * page
			n := (1 + random.IntN(32)) * page
			var err error
			if random.IntN(3) == 0 {
				err = f.PunchHole(int64(off), int64(n))
				clear(want[off : off+n])
			} else {
				p := m.buf[:n]
				for i := range p {
					p[i] = byte(step + i>>12)
				}
				_, err = f.WriteAt(p, int64(off))
				copy(want[off:], p)
			}
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, n)
			if m, err := f.ReadAt(got, int64(off)); err != nil && err != io.EOF || !bytes.Equal(got[:m], want[off:off+m]) || !slices.Equal(want[off+m:off+n], make([]byte, n-m)) {
				t.Fatalf("%s: step %d: %d bytes at %d differ, %v", dir, step, n, off, err)
			}
		}
		// Where a file system knows no holes.
		if err := f.writeZeros(page+1, 3<<20); err != nil {
			t.Fatal(err)
		}
		clear(want[page+1 : page+1+3<<20])
		got := make([]byte, len(want))
		if _, err := f.ReadAt(got, 0); err != nil && err != io.EOF || !bytes.Equal(got, want) {
			t.Errorf("%s: zeros were not written: %v", dir, err)
		}
	}
}
