package candidates

import (
	"iter"
	"math/rand/v2"

	"github.com/procmem/procmem"
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

type rngReader struct{ rnd *rand.Rand }

func (r rngReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r.rnd.Uint32())
	}
	return len(p), nil
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
