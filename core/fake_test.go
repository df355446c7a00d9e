package core

import (
	"encoding/binary"
	"io"
	"iter"
	"slices"
	"sync"
	"testing"

	"github.com/procmem/procmem"
)

const page = procmem.PageSize

// fakeMemory is a process in a few maps: pages that hold data, and pages that
// fault. All other pages of its mappings are zeros.
type fakeMemory struct {
	maps   []procmem.Mapping
	pages  map[procmem.Addr][]byte
	faults map[procmem.Addr]error

	mu   sync.Mutex
	read map[procmem.Addr]int // how often each page was read
}

func (m *fakeMemory) Mappings() ([]procmem.Mapping, error) { return m.maps, nil }

func (m *fakeMemory) ReadAt(p []byte, addr procmem.Addr) (int, error) {
	n := 0
	for n < len(p) {
		a := addr + procmem.Addr(n)
		base := a.PageDown()
		i := procmem.FindMapping(m.maps, a)
		if i == len(m.maps) || !m.maps[i].Contains(a) {
			return n, &procmem.FaultError{Addr: a, Err: procmem.ErrNotMapped}
		}
		if err := m.faults[base]; err != nil {
			return n, &procmem.FaultError{Addr: a, Err: err}
		}
		m.mu.Lock()
		if m.read == nil {
			m.read = map[procmem.Addr]int{}
		}
		m.read[base]++
		m.mu.Unlock()
		chunk := p[n:min(len(p), n+int(base+page-a))]
		clear(chunk)
		if data := m.pages[base]; data != nil {
			copy(chunk, data[a-base:])
		}
		n += len(chunk)
	}
	return n, nil
}

// sparseMemory is a fakeMemory that tells where its pages are.
type sparseMemory struct{ *fakeMemory }

func (m sparseMemory) Data(r procmem.Range) iter.Seq2[procmem.Range, error] {
	return func(yield func(procmem.Range, error) bool) {
		var at []procmem.Addr
		for a := range m.pages {
			at = append(at, a)
		}
		for a := range m.faults {
			at = append(at, a)
		}
		slices.Sort(at)
		for _, a := range at {
			if x := (procmem.Range{Start: a, End: a + page}).Intersect(r); !x.Empty() && !yield(x, nil) {
				return
			}
		}
	}
}

// pattern returns a page whose words all tell the address.
func pattern(a procmem.Addr) []byte {
	b := make([]byte, page)
	for i := 0; i < page; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], uint64(a)+uint64(i)+1)
	}
	return b
}

func newFake(maps ...procmem.Mapping) *fakeMemory {
	return &fakeMemory{maps: maps, pages: map[procmem.Addr][]byte{}, faults: map[procmem.Addr]error{}}
}

// fill puts patterns into all pages of r.
func (m *fakeMemory) fill(r procmem.Range) {
	for a := r.Start; a < r.End; a += page {
		m.pages[a] = pattern(a)
	}
}

func rng(start, end procmem.Addr) procmem.Range { return procmem.Range{Start: start, End: end} }

func anon(start, end procmem.Addr, perm procmem.Perm, path string) procmem.Mapping {
	return procmem.Mapping{Range: rng(start, end), Perm: perm, Path: path}
}

const rw = procmem.PermRead | procmem.PermWrite

func mustFile(t testing.TB, dst io.WriterAt, img *procmem.Image, segs []Segment) *Writer {
	t.Helper()
	w, err := NewFileWriter(dst, img.Arch, segs)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func mustStream(t testing.TB, dst io.Writer, img *procmem.Image, segs []Segment) *Writer {
	t.Helper()
	w, err := NewStreamWriter(dst, img, segs)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// fakeImage is a process of two threads on the given architecture.
func fakeImage(a procmem.Arch, maps []procmem.Mapping) *procmem.Image {
	gpr := func(seed byte) []byte {
		b := make([]byte, a.GPRSize())
		for i := range b {
			b[i] = seed + byte(i)
		}
		return b
	}
	fp := map[procmem.Arch]int{procmem.AMD64: 512, procmem.I386: 108, procmem.ARM64: 528}[a]
	word := func(b []byte, v uint64) []byte {
		if a.WordSize() == 4 {
			return binary.LittleEndian.AppendUint32(b, uint32(v))
		}
		return binary.LittleEndian.AppendUint64(b, v)
	}
	auxv := word(word(word(word(nil, 6), 4096), 0), 0)
	return &procmem.Image{
		Arch: a, Exe: "/bin/fake", Auxv: auxv, Mappings: maps,
		Process: procmem.ProcessInfo{PID: 41, PPID: 1, PGRP: 41, SID: 40, UID: 1000, GID: 1001, State: 'S', Nice: -3,
			Flags: 0x400000, Name: "fake", Args: "fake --now"},
		Threads: []procmem.Thread{
			{TID: 41, Name: "fake main", State: 'S', PPID: 1, PGRP: 41, SID: 40, Blocked: 1 << 14, Pending: 1 << 9, UserTime: 1500e6, SystemTime: 25e6,
				Regsets: []procmem.Regset{{Type: procmem.NTPRStatus, Data: gpr(1)}, {Type: procmem.NTX86XState, Data: make([]byte, 832)},
					{Type: procmem.NTFPRegset, Data: make([]byte, fp)}}},
			{TID: 42, Name: "odd\nname ", State: 'R', PPID: 1, PGRP: 41, SID: 40, Signal: 11,
				Regsets: []procmem.Regset{{Type: procmem.NTPRStatus, Data: gpr(100)}, {Type: procmem.NTFPRegset, Data: make([]byte, fp)}}},
		},
	}
}

// memFile is an io.WriterAt and io.ReaderAt in memory.
type memFile struct {
	mu     sync.Mutex
	b      []byte
	pieces []procmem.Range // what was written, as offsets
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if need := int(off) + len(p); need > len(f.b) {
		f.b = append(f.b, make([]byte, need-len(f.b))...)
	}
	copy(f.b[off:], p)
	f.pieces = append(f.pieces, rng(procmem.Addr(off), procmem.Addr(off)+procmem.Addr(len(p))))
	return len(p), nil
}

func (f *memFile) Truncate(n int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if int(n) <= len(f.b) {
		f.b = f.b[:n]
	} else {
		f.b = append(f.b, make([]byte, int(n)-len(f.b))...)
	}
	return nil
}
