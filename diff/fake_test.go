package diff

import (
	"bytes"
	"encoding/binary"
	"errors"
	"iter"
	"math/rand/v2"

	"github.com/procmem/procmem"
)

const page = procmem.PageSize

var errFake = errors.New("a page that cannot be read")

func rng(start, end procmem.Addr) procmem.Range { return procmem.Range{Start: start, End: end} }

func mapping(start, end procmem.Addr, perm, path string) procmem.Mapping {
	p, err := procmem.ParsePerm(perm)
	if err != nil {
		panic(err)
	}
	return procmem.Mapping{Range: rng(start, end), Perm: p, Path: path}
}

// memory is a Memory in pages. Those that are not there are zeros.
type memory struct {
	maps    []procmem.Mapping
	pages   map[procmem.Addr][]byte
	faults  map[procmem.Addr]error // of pages, which are not among Data where they are not in pages
	until   bool                   // faults tell where they end
	swapped map[procmem.Addr]bool
	reads   func(procmem.Range) // each read, of more than a byte
	shown   error               // ends Data
}

func newMemory(maps ...procmem.Mapping) *memory {
	return &memory{maps: maps, pages: map[procmem.Addr][]byte{}, faults: map[procmem.Addr]error{}, swapped: map[procmem.Addr]bool{}}
}

// set writes bytes, to pages that then are there.
func (m *memory) set(a procmem.Addr, b ...byte) {
	for i := range b {
		at := a + procmem.Addr(i)
		base := at.PageDown()
		if m.pages[base] == nil {
			m.pages[base] = make([]byte, page)
		}
		m.pages[base][at-base] = b[i]
	}
}

// fill has pages of a range hold random bytes.
func (m *memory) fill(r procmem.Range, random *rand.Rand) {
	for a := r.Start.PageDown(); a < r.End; a += page {
		b := make([]byte, page)
		for i := 0; i < page; i += 8 {
			binary.LittleEndian.PutUint64(b[i:], random.Uint64())
		}
		m.pages[a] = b
	}
}

// clone returns a memory that holds the same.
func (m *memory) clone() *memory {
	c := newMemory(append([]procmem.Mapping(nil), m.maps...)...)
	for a, b := range m.pages {
		c.pages[a] = bytes.Clone(b)
	}
	return c
}

func (m *memory) Mappings() ([]procmem.Mapping, error) { return m.maps, nil }

func (m *memory) ReadAt(p []byte, addr procmem.Addr) (int, error) {
	if m.reads != nil && len(p) > 1 {
		m.reads(rng(addr, addr+procmem.Addr(len(p))))
	}
	for n := 0; n < len(p); {
		a := addr + procmem.Addr(n)
		base := a.PageDown()
		if err := m.fault(a); err != nil {
			return n, err
		}
		end := min(len(p), n+int(base+page-a))
		clear(p[n:end])
		if b := m.pages[base]; b != nil {
			copy(p[n:end], b[a-base:])
		}
		n = end
	}
	return len(p), nil
}

func (m *memory) fault(a procmem.Addr) error {
	i := procmem.FindMapping(m.maps, a)
	if i == len(m.maps) || !m.maps[i].Contains(a) {
		return &procmem.FaultError{Addr: a, Err: procmem.ErrNotMapped}
	}
	err := m.faults[a.PageDown()]
	if err == nil {
		return nil
	}
	f := &procmem.FaultError{Addr: a, Err: err}
	if m.until {
		for f.Until = a.PageDown() + page; m.faults[f.Until] == err && f.Until < m.maps[i].End; f.Until += page {
		}
	}
	return f
}

// runs yields the runs of pages that are so.
func (m *memory) runs(r procmem.Range, is func(procmem.Addr) bool) iter.Seq2[procmem.Range, error] {
	return func(yield func(procmem.Range, error) bool) {
		if m.shown != nil {
			yield(procmem.Range{}, m.shown)
			return
		}
		var cur procmem.Range
		for _, x := range m.maps {
			for a := x.Start.PageDown(); a < x.End; a += page {
				part := rng(a, a+page).Intersect(x.Range).Intersect(r)
				if part.Empty() || !is(a) {
					continue
				}
				if cur.End == part.Start {
					cur.End = part.End
					continue
				}
				if !cur.Empty() && !yield(cur, nil) {
					return
				}
				cur = part
			}
		}
		if !cur.Empty() {
			yield(cur, nil)
		}
	}
}

func (m *memory) Data(r procmem.Range) iter.Seq2[procmem.Range, error] {
	return m.runs(r, func(a procmem.Addr) bool { return m.pages[a] != nil })
}

// live is a memory that tells what is swapped out.
type live struct{ *memory }

func (m live) Resident(r procmem.Range) iter.Seq2[procmem.Range, error] {
	return m.runs(r, func(a procmem.Addr) bool { return m.pages[a] != nil && !m.swapped[a] })
}
