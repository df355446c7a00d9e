package core

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/procmem/procmem"
)

// scene is a process with data, zeros, untouched memory, a fault in the
// middle of a block, and an excluded mapping, all below 4 GiB.
func scene(a procmem.Arch) (*procmem.Image, *fakeMemory) {
	text := procmem.Mapping{Range: rng(0x400000, 0x404000), Perm: procmem.PermRead | procmem.PermExec, Path: "/bin/fake\nx", Inode: 9, Major: 8, Minor: 1, Usage: &procmem.Usage{}}
	heap := anon(0x1000000, 0x1000000+5<<20, rw, "[heap]")
	hole := anon(0x2000000, 0x2000000+1<<20, rw, "")
	hole.Usage = &procmem.Usage{}
	shared := anon(0x3000000, 0x3003000, rw|procmem.PermShared, "/dev/shm/x (deleted)")
	shared.Inode = 3
	stack := anon(0x7f000000, 0x7f010000, rw, "[stack]")
	m := newFake(text, heap, hole, shared, stack)
	m.fill(text.Range)
	copy(m.pages[text.Start], "\x7fELF\x02\x01\x01")
	m.fill(rng(heap.Start, heap.Start+3<<20))
	for a := heap.Start + 1<<20; a < heap.Start+1<<20+8*page; a += page {
		m.pages[a] = make([]byte, page) // present, and zero
	}
	m.faults[heap.Start+2<<20+3*page] = syscall.EIO
	m.faults[heap.Start+2<<20+4*page] = syscall.EIO
	m.faults[stack.Start] = procmem.ErrUnreadable
	m.fill(shared.Range)
	m.fill(rng(stack.Start+8*page, stack.End))
	return fakeImage(a, m.maps), m
}

func writeCore(t *testing.T, img *procmem.Image, mem procmem.Memory, segs []Segment, stream bool, r *Report) ([]byte, *Writer) {
	t.Helper()
	var file memFile
	var buf bytes.Buffer
	w := mustFile(t, &file, img, segs)
	if stream {
		w = mustStream(t, &buf, img, segs)
	}
	if err := w.Copy(t.Context(), mem); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(img, r); err != nil {
		t.Fatal(err)
	}
	if !stream {
		buf = *bytes.NewBuffer(file.b)
		for _, p := range file.pieces {
			if p.Start != 0 && p.Start < procmem.Addr(w.l.memEnd) && bytes.Contains(file.b[p.Start:p.End], make([]byte, 2*page-1)) {
				t.Errorf("the file writer wrote zeros in %v", p)
			}
		}
	}
	if stream && int64(buf.Len()) != w.stream.size {
		t.Errorf("the stream has %d bytes, predicted %d", buf.Len(), w.stream.size)
	}
	if r.FileBytes != int64(buf.Len()) {
		t.Errorf("report: file_bytes %d, the core has %d", r.FileBytes, buf.Len())
	}
	return buf.Bytes(), w
}

func TestRoundTrip(t *testing.T) {
	for _, arch := range []procmem.Arch{procmem.AMD64, procmem.I386, procmem.ARM64} {
		for _, kind := range []string{"file", "stream", "file from sparse", "stream from sparse"} {
			t.Run(arch.String()+" "+kind, func(t *testing.T) {
				img, fake := scene(arch)
				img.Threads[1].Err = errors.New("registers torn")
				var mem procmem.Memory = fake
				if strings.Contains(kind, "sparse") {
					mem = sparseMemory{fake}
				}
				segs := Select(img, mem, FilterDefault)
				rep := &Report{Version: "1", Method: "stop", PID: 7, Time: time.Unix(1e9, 0).UTC()}
				b, w := writeCore(t, img, mem, segs, strings.HasPrefix(kind, "stream"), rep)
				if _, sparse := mem.(procmem.Sparse); sparse == (fake.read[0x2000000] > 0) {
					t.Errorf("sparse %v: a page that holds nothing was read %d times", sparse, fake.read[0x2000000])
				}
				checkScene(t, img, fake, segs, b, w, rep)
			})
		}
	}
}

func checkScene(t *testing.T, img *procmem.Image, fake *fakeMemory, segs []Segment, b []byte, w *Writer, rep *Report) {
	t.Helper()
	f, err := NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	// Permissions in program headers do not tell shared from private.
	want := make([]Segment, len(segs))
	for i, s := range segs {
		want[i] = s
		want[i].Perm &^= procmem.PermShared
	}
	if got := f.Segments(); !reflect.DeepEqual(got, want) {
		t.Errorf("segments\n got %v\nwant %v", got, want)
	}
	var held uint64
	got, exp := make([]byte, page), make([]byte, page)
	for _, s := range segs {
		for a := s.Start; a < s.End; a += page {
			n, err := f.ReadAt(got, a)
			_, cause := fake.ReadAt(exp, a)
			switch {
			case !s.Dumped:
				if n != 0 || procmem.Cause(err) != procmem.ErrNotDumped {
					t.Fatalf("%v is not dumped: read %d, %v", a, n, err)
				}
			case cause != nil:
				if n != 0 || !errors.Is(err, procmem.ErrNotDumped) || !strings.Contains(err.Error(), procmem.Cause(cause).Error()) {
					t.Fatalf("%v could not be read: read %d, %v", a, n, err)
				}
			case err != nil || !bytes.Equal(got, exp):
				t.Fatalf("%v differs: %v", a, err)
			}
		}
		if s.Dumped {
			held += s.Size()
		}
	}
	maps, _ := f.Mappings()
	for i, m := range img.Mappings {
		if maps[i].String() != m.String() {
			t.Errorf("mapping %d\n got %v\nwant %v", i, maps[i].String(), m.String())
		}
	}
	if len(maps) != len(img.Mappings) {
		t.Errorf("%d mappings, want %d", len(maps), len(img.Mappings))
	}
	back := f.Image()
	if back.Process != img.Process || back.Arch != img.Arch || !bytes.Equal(back.Auxv, img.Auxv) {
		t.Errorf("image\n got %+v\nwant %+v", back.Process, img.Process)
	}
	for i := range img.Threads {
		x, y := back.Threads[i], img.Threads[i]
		if (x.Err == nil) != (y.Err == nil) {
			t.Errorf("thread %d: error %v, want %v", i, x.Err, y.Err)
		}
		for _, s := range y.Regsets {
			if !bytes.Equal(x.Regset(s.Type), s.Data) {
				t.Errorf("thread %d: register set %#x differs", i, s.Type)
			}
		}
		if len(x.Regsets) != len(y.Regsets) {
			t.Errorf("thread %d: %d register sets, want %d", i, len(x.Regsets), len(y.Regsets))
		}
		x.Regsets, y.Regsets, x.Err, y.Err = nil, nil, nil, nil
		if !reflect.DeepEqual(x, y) {
			t.Errorf("thread %d\n got %+v\nwant %+v", i, x, y)
		}
	}
	wantFaults := []procmem.Fault{
		{Range: rng(0x1203000, 0x1205000), Err: syscall.EIO},
		{Range: rng(0x7f000000, 0x7f001000), Err: procmem.ErrUnreadable},
	}
	if got := w.Faults(); !reflect.DeepEqual(got, wantFaults) {
		t.Errorf("faults %v, want %v", got, wantFaults)
	}
	if !reflect.DeepEqual(f.Report(), rep) {
		t.Errorf("report\n got %+v\nwant %+v", f.Report(), rep)
	}
	if rep.MemoryBytes != held || rep.Threads != 2 || rep.Mappings != 5 || len(rep.Missing) != 2 || len(rep.ThreadsMissing) != 1 || rep.ThreadsMissing[0].TID != 42 {
		t.Errorf("report: %+v", rep)
	}
	if missing := f.Truncated(); missing != nil {
		t.Errorf("truncated: %v", missing)
	}
	if _, err := f.ReadAt(got, 0x5000000); procmem.Cause(err) != procmem.ErrNotMapped {
		t.Errorf("unmapped: %v", err)
	}
	// Across the fault: what lies before it, and where it is.
	long := make([]byte, 16*page)
	n, err := f.ReadAt(long, 0x1200000)
	if fe, ok := errors.AsType[*procmem.FaultError](err); n != 3*page || !ok || fe.Addr != 0x1203000 {
		t.Errorf("across a fault: %d, %v", n, err)
	}
}

// Every cut of a core must open or give an error, and what is said to be
// truncated must be what faults.
func TestTruncated(t *testing.T) {
	img, fake := scene(procmem.AMD64)
	segs := Select(img, fake, FilterDefault)
	b, _ := writeCore(t, img, fake, segs, true, &Report{})
	whole, err := NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	first := whole.segs[0].off
	for _, size := range []int64{0, 1, 4, 20, 63, 64, 100, 500, first - 2000, first, first + 100, first + page, first + 2<<20 + 1, int64(len(b)) - 70000, int64(len(b)) - 1} {
		f, err := NewReader(bytes.NewReader(b[:size]), size)
		if err != nil {
			if _, ok := errors.AsType[*FormatError](err); !ok || size >= first-2000 {
				t.Errorf("cut to %d: %v", size, err)
			}
			continue
		}
		if size >= first && (len(f.img.Threads) != 2 || f.img.Process.PID != 41) {
			t.Errorf("cut to %d: %d threads", size, len(f.img.Threads))
		}
		if f.Report() != nil && size < int64(len(b))-1 { // behind it are checksums
			t.Errorf("cut to %d: a report", size)
		}
		missing := f.Truncated()
		buf := make([]byte, 1)
		for _, s := range f.segs {
			for _, a := range []procmem.Addr{s.Start, s.dumped - 1} {
				cut := false
				for _, m := range missing {
					cut = cut || m.Contains(a)
				}
				_, err := f.ReadAt(buf, a)
				if s.dumped > s.Start && cut != (procmem.Cause(err) == procmem.ErrTruncated) {
					t.Errorf("cut to %d: %v: truncated %v, read gives %v", size, a, cut, err)
				}
			}
		}
		if size == first && len(missing) == 0 {
			t.Error("nothing is missing of a core without memory")
		}
		if size == int64(len(b))-1 && len(missing) > 0 {
			t.Errorf("cut behind the memory: %v is missing", missing)
		}
	}
}

// A core may have more segments than e_phnum can say.
func TestManySegments(t *testing.T) {
	const n = 70_000
	for arch, stream := range map[procmem.Arch]bool{procmem.AMD64: true, procmem.I386: false} {
		m := newFake()
		for i := range procmem.Addr(n) {
			perm := rw
			if i%2 == 1 {
				perm = procmem.PermRead
			}
			at := 0x100000 + i*page
			m.maps = append(m.maps, anon(at, at+page, perm, ""))
			if i%1000 == 0 {
				m.pages[at] = pattern(at)
			}
		}
		img := fakeImage(arch, m.maps)
		segs := Select(img, m, FilterDefault)
		if len(segs) != n {
			t.Fatalf("%d segments, want %d", len(segs), n)
		}
		b, _ := writeCore(t, img, m, segs, stream, &Report{})
		f, err := NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if len(f.segs) != n || len(f.img.Mappings) != n || len(f.img.Threads) != 2 || f.Report() == nil {
			t.Errorf("%v: %d segments, %d mappings, %d threads", arch, len(f.segs), len(f.img.Mappings), len(f.img.Threads))
		}
		got := make([]byte, page)
		if _, err := f.ReadAt(got, 0x100000+69_000*page); err != nil || !bytes.Equal(got, pattern(0x100000+69_000*page)) {
			t.Errorf("%v: segment 69000 differs: %v", arch, err)
		}
	}
}

// Reading a file with holes must tell data from holes, from what is lost, and
// from what the file ends before.
func TestDataOfFile(t *testing.T) {
	img, fake := scene(procmem.AMD64)
	segs := Select(img, sparseMemory{fake}, FilterDefault)
	path := filepath.Join(t.TempDir(), "core")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w := mustFile(t, out, img, segs)
	if err := w.Copy(t.Context(), sparseMemory{fake}); err != nil {
		t.Fatal(err)
	}
	rep := &Report{}
	if err := w.Finish(img, rep); err != nil {
		t.Fatal(err)
	}
	_, predicted, err := Predict(segs, sparseMemory{fake})
	if err != nil {
		t.Fatal(err)
	}
	if most := int64(predicted) + w.l.headRoom + rep.FileBytes - w.l.memEnd; w.Written() > most {
		t.Errorf("wrote %d, predicted at most %d", w.Written(), most)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	covered := func(f *File, a procmem.Addr) bool {
		for r, err := range f.Data(rng(0, 1<<40)) {
			if err != nil {
				t.Fatal(err)
			}
			if r.Contains(a) {
				return true
			}
		}
		return false
	}
	for a := range fake.pages {
		i := f.find(a)
		if a < f.segs[i].dumped && !bytes.Equal(fake.pages[a], make([]byte, page)) && !covered(f, a) {
			t.Fatalf("%v holds data, and Data leaves it out", a)
		}
	}
	for a := range fake.faults {
		if !covered(f, a) {
			t.Errorf("%v faults, and Data leaves it out", a)
		}
	}
	var last procmem.Addr
	var total uint64
	for r := range f.Data(rng(0, 1<<40)) {
		if r.Empty() || r.Start < last {
			t.Errorf("%v is empty or overlaps the one before", r)
		}
		last = r.End
		total += r.Size()
	}
	if total >= rep.MemoryBytes {
		t.Errorf("Data yields %d bytes of %d: no hole", total, rep.MemoryBytes)
	}
	if covered(f, 0x402000) {
		t.Error("Data yields memory that is not dumped")
	}
	if err := os.Truncate(path, f.segs[2].off+page); err != nil {
		t.Fatal(err)
	}
	cut, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer cut.Close()
	for _, m := range cut.Truncated() {
		if !covered(cut, m.Start) || !covered(cut, m.End-1) {
			t.Errorf("%v is cut off, and Data leaves it out", m.Range)
		}
	}
	// The file shrank under f, which was opened before.
	if _, err := f.ReadAt(make([]byte, page), 0x7f00f000); procmem.Cause(err) != procmem.ErrTruncated {
		t.Errorf("reading beyond the end of a file that shrank: %v", err)
	}
}
