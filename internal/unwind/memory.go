package unwind

import (
	"encoding/binary"

	"github.com/procmem/procmem"
)

// stack reads words of memory that lie near each other.
type stack struct {
	mem   procmem.Memory
	pages [16]page // by the number of the page
}

// page is a page of memory, or its beginning.
type page struct {
	at   uint64
	data []byte
	err  error // of the byte behind data
}

// word reads a word of size bytes, 1 to 8.
func (s *stack) word(addr uint64, size int) (uint64, error) {
	var b [8]byte
	at := addr &^ (procmem.PageSize - 1)
	off := addr - at
	p := &s.pages[at/procmem.PageSize%uint64(len(s.pages))]
	if p.data == nil || p.at != at {
		if p.data == nil {
			p.data = make([]byte, procmem.PageSize)
		}
		var n int
		n, p.err = s.mem.ReadAt(p.data[:procmem.PageSize], procmem.Addr(at))
		p.at, p.data = at, p.data[:n]
	}
	if off+uint64(size) <= uint64(len(p.data)) {
		copy(b[:size], p.data[off:])
	} else if _, err := s.mem.ReadAt(b[:size], procmem.Addr(addr)); err != nil {
		return 0, err // a word on two pages, or memory that begins in the middle of one
	}
	return binary.LittleEndian.Uint64(b[:]), nil
}
