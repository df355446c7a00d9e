// Package checksums takes the checksums of a core file, and compares with them. There is a
// CRC-32C of each page of memory, and of each span, which is a part of the file that is not
// memory.
//
// A core keeps them in a note, whose descriptor Write encodes and Read decodes. Its bytes are
// in docs/core-file.md. A descriptor to decode may be hostile. It gives an error, and never a
// panic.
package checksums

import (
	"bytes"
	"hash/crc32"
	"iter"
	"sync"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
)

// castagnoli is the table of CRC-32C, the checksum of a page. Processors have an instruction
// for it.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// zeroSum is the checksum of a page of zeros.
var zeroSum = crc32.Checksum(zeroPage[:], castagnoli)

// zeroPage is a page of zeros.
var zeroPage [procmem.PageSize]byte

// chunkPages is the number of pages whose checksums are allocated together.
const (
	chunkPages = 512
	chunkSize  = chunkPages * procmem.PageSize
)

// Pages holds the checksums of pages, each less (exclusive or) that of a page of zeros. So a
// page of which nothing is known is one of zeros. Since the CRC is linear, a page may be
// written in parts. Its value is the exclusive or of the parts' values, each with zeros around
// it. The methods may be called from several goroutines at once for different pages.
type Pages struct {
	mu     sync.Mutex
	chunks map[procmem.Addr]*sumChunk // by address
}

type sumChunk [chunkPages]uint32

// NewPages returns the checksums of memory that is zeros.
func NewPages() *Pages { return &Pages{chunks: make(map[procmem.Addr]*sumChunk)} }

// Set replaces the checksums of whole pages.
func (s *Pages) Set(a procmem.Addr, p []byte) {
	s.each(a, p, func(old, fresh uint32) uint32 { return fresh })
}

// Add adds the bytes at a to pages of which the rest is zeros or was added.
func (s *Pages) Add(a procmem.Addr, p []byte) {
	s.each(a, p, func(old, fresh uint32) uint32 { return old ^ fresh })
}

func (s *Pages) each(a procmem.Addr, p []byte, change func(old, fresh uint32) uint32) {
	var chunk *sumChunk
	var base procmem.Addr
	for len(p) > 0 {
		page := a.PageDown()
		n := min(procmem.PageSize-int(a-page), len(p))
		fresh := sumOf(int(a-page), p[:n])
		if at := page &^ (chunkSize - 1); chunk == nil || at != base {
			base, chunk = at, s.chunk(at, fresh != 0)
		}
		if chunk != nil {
			i := (page - base) / procmem.PageSize
			chunk[i] = change(chunk[i], fresh)
		}
		a, p = a+procmem.Addr(n), p[n:]
	}
}

// sumOf returns the checksum of a page that holds p at off and zeros elsewhere, less that of
// zeros alone.
func sumOf(off int, p []byte) uint32 {
	if len(p) == procmem.PageSize {
		if bytes.Equal(p, zeroPage[:]) { // comparing is faster than the checksum
			return 0
		}
		return crc32.Checksum(p, castagnoli) ^ zeroSum
	}
	sum := crc32.Update(0, castagnoli, zeroPage[:off])
	sum = crc32.Update(sum, castagnoli, p)
	return crc32.Update(sum, castagnoli, zeroPage[:procmem.PageSize-off-len(p)]) ^ zeroSum
}

// chunk returns the chunk that begins at a. If there is none, it returns a new one or nil.
func (s *Pages) chunk(a procmem.Addr, create bool) *sumChunk {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.chunks[a]
	if c == nil && create {
		c = new(sumChunk)
		s.chunks[a] = c
	}
	return c
}

// Forget makes zeros of the pages of r.
func (s *Pages) Forget(r procmem.Range) {
	s.mu.Lock()
	defer s.mu.Unlock()
	drop := func(base procmem.Addr, c *sumChunk) {
		if part := r.Intersect(procmem.Range{Start: base, End: base + chunkSize}); !part.Empty() {
			clear(c[(part.Start-base)/procmem.PageSize : (part.End-base)/procmem.PageSize])
		}
	}
	if r.Size()/chunkSize > uint64(len(s.chunks)) {
		for base, c := range s.chunks {
			drop(base, c)
		}
		return
	}
	for base := r.Start &^ (chunkSize - 1); base < r.End; base += chunkSize {
		if c := s.chunks[base]; c != nil {
			drop(base, c)
		}
	}
}

// Keep makes zeros of all pages outside ascending ranges.
func (s *Pages) Keep(ranges []procmem.Range) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for base, c := range s.chunks {
		at, end := base, base+chunkSize
		i := pageset.Index(ranges, base)
		for ; i < len(ranges) && ranges[i].Start < end; i++ {
			clear(c[(at-base)/procmem.PageSize : (max(at, ranges[i].Start)-base)/procmem.PageSize])
			at = min(end, ranges[i].End)
		}
		clear(c[(at-base)/procmem.PageSize:])
	}
}

// Match reports whether p is what the checksum of the page at a says.
func (s *Pages) Match(a procmem.Addr, p []byte) bool { return crc32.Checksum(p, castagnoli) == s.of(a) }

// of returns the checksum of a page.
func (s *Pages) of(page procmem.Addr) uint32 {
	base := page &^ (chunkSize - 1)
	if c := s.chunk(base, false); c != nil {
		return c[(page-base)/procmem.PageSize] ^ zeroSum
	}
	return zeroSum
}

// put sets the checksum of one page, less zeroSum.
func (s *Pages) put(page procmem.Addr, v uint32) {
	base := page &^ (chunkSize - 1)
	if c := s.chunk(base, v != 0); c != nil {
		c[(page-base)/procmem.PageSize] = v
	}
}

// pieces yields the parts of r that lie in one chunk each, ascending, with their checksums.
// Those are nil if all are of zeros.
func (s *Pages) pieces(r procmem.Range) iter.Seq2[procmem.Range, []uint32] {
	return func(yield func(procmem.Range, []uint32) bool) {
		for !r.Empty() {
			base := r.Start &^ (chunkSize - 1)
			part := r
			if end, err := base.Add(chunkSize); err == nil {
				part.End = min(r.End, end)
			}
			var values []uint32
			if c := s.chunk(base, false); c != nil {
				values = c[(part.Start-base)/procmem.PageSize:][:part.Size()/procmem.PageSize]
			}
			if !yield(part, values) {
				return
			}
			r.Start = part.End
		}
	}
}
