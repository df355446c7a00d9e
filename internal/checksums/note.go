package checksums

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"math"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
)

// The descriptor of the note of checksums, little-endian (docs/core-file.md):
//
//	u32 page size, u32 number of spans, u64 number of extents
//	for each span: u64 file offset, u64 length, u32 checksum, u32 zero
//	for each extent: u64 address, u32 number of pages, u32 zero, and a u32
//	  checksum for each page
//	u32 checksum of all that precedes it in the note
//
// A span is a part of the file that is not memory. Pages of dumped segments that no extent
// holds are zeros.
const (
	headSize   = 16
	spanSize   = 24
	extentSize = 16
)

// MinSize is the size, in bytes, of the smallest descriptor.
const MinSize = headSize + 4

// Extent has the checksums of consecutive pages.
type Extent struct {
	Addr  procmem.Addr // of the first page
	Pages int          // number of pages
	sums  []uint32     // each less zeroSum; nil if the pages are zeros
}

// Extents yields the checksums of places, at most a chunk at a time. zeros says whether pages
// of zeros are included.
func (s *Pages) Extents(places iter.Seq[pageset.Place], zeros bool) iter.Seq[Extent] {
	return func(yield func(Extent) bool) {
		for x := range places {
			for r, values := range s.pieces(x.Range) {
				if zeros {
					if !yield(Extent{r.Start, int(r.Size() / procmem.PageSize), values}) {
						return
					}
					continue
				}
				for i := 0; i < len(values); i++ {
					n := 0
					for i+n < len(values) && values[i+n] != 0 {
						n++
					}
					if n > 0 && !yield(Extent{r.Start + procmem.Addr(i*procmem.PageSize), n, values[i : i+n]}) {
						return
					}
					i += n
				}
			}
		}
	}
}

// MaxSummed is up to how many bytes of memory always have checksums, however they are divided.
const MaxSummed = 1 << 39

// Size returns the size of the descriptor in bytes, and the number of extents. Both are 0 if it
// would be too large for a note, so about 4 TiB of memory have no checksums.
func Size(spans int, extents iter.Seq[Extent]) (size int64, n uint64) {
	size = MinSize + spanSize*int64(spans)
	for x := range extents {
		size += extentSize + 4*int64(x.Pages)
		n++
		if size > math.MaxUint32 {
			return 0, 0
		}
	}
	return size, n
}

// Write writes the descriptor in small parts, because that of a large process is long. n is the
// number of extents, as Size returns it for the same extents. Write fails with the error of
// put.
func Write(n uint64, spans []Span, extents iter.Seq[Extent], put func([]byte) error) error {
	le := binary.LittleEndian
	b := make([]byte, 0, 64<<10)
	sum := uint32(0)
	flush := func() error {
		sum = crc32.Update(sum, castagnoli, b)
		err := put(b)
		b = b[:0]
		return err
	}
	b = le.AppendUint32(b, procmem.PageSize)
	b = le.AppendUint32(b, uint32(len(spans)))
	b = le.AppendUint64(b, n)
	for _, s := range spans {
		b = le.AppendUint64(b, uint64(s.Off))
		b = le.AppendUint64(b, uint64(s.Size))
		b = le.AppendUint64(b, uint64(s.sum))
	}
	for x := range extents {
		if len(b)+extentSize+4*x.Pages > cap(b) {
			if err := flush(); err != nil {
				return err
			}
		}
		b = le.AppendUint64(b, uint64(x.Addr))
		b = le.AppendUint64(b, uint64(x.Pages))
		for i := range x.Pages {
			v := zeroSum
			if x.sums != nil {
				v ^= x.sums[i]
			}
			b = le.AppendUint32(b, v)
		}
	}
	if err := flush(); err != nil {
		return err
	}
	return put(le.AppendUint32(b, sum))
}

// errDamaged reports that the checksums themselves are damaged.
var errDamaged = errors.New("the checksums are damaged")

// Read reads the descriptor of size bytes at off. It fails if it is damaged, extents do not
// ascend, or within does not hold for one.
func Read(r io.ReaderAt, off, size int64, within func(procmem.Range) bool) (spans []Span, s *Pages, err error) {
	le := binary.LittleEndian
	in := &sumsReader{r: io.NewSectionReader(r, off, size-4)}
	spans, extents, err := in.begin()
	if err != nil {
		return nil, nil, err
	}
	s = NewPages()
	var last procmem.Addr
	for i := uint64(0); i < extents && in.err == nil; i++ {
		b := in.next(extentSize)
		a, pages := procmem.Addr(le.Uint64(b)), le.Uint32(b[8:])
		end, err := a.Add(uint64(pages) * procmem.PageSize)
		if err != nil || pages == 0 || pages > chunkPages || a != a.PageDown() || a < last || !within(procmem.Range{Start: a, End: end}) {
			return nil, nil, errDamaged
		}
		last = end
		values := in.next(4 * int(pages))
		for k := range int(pages) {
			s.put(a+procmem.Addr(k*procmem.PageSize), le.Uint32(values[4*k:])^zeroSum)
		}
	}
	var tail [4]byte
	if _, err := r.ReadAt(tail[:], off+size-4); err != nil && err != io.EOF {
		return nil, nil, err
	}
	if in.err != nil || le.Uint32(tail[:]) != in.sum {
		return nil, nil, errDamaged
	}
	return spans, s, nil
}

// maxSpans bounds the number of spans: headers at the front and at the end, and notes.
const maxSpans = 16

// ReadSpans reads the spans alone of the descriptor of size bytes at off.
func ReadSpans(r io.ReaderAt, off, size int64) ([]Span, error) {
	in := &sumsReader{r: io.NewSectionReader(r, off, size)}
	spans, _, err := in.begin()
	return spans, err
}

// begin reads the spans, and returns how many extents follow.
func (in *sumsReader) begin() (spans []Span, extents uint64, err error) {
	le := binary.LittleEndian
	head := in.next(headSize)
	nspans, extents := le.Uint32(head[4:]), le.Uint64(head[8:])
	switch {
	case in.err != nil || nspans > maxSpans:
		return nil, 0, errDamaged
	case le.Uint32(head) != procmem.PageSize:
		return nil, 0, fmt.Errorf("%w: of pages of %d bytes", errDamaged, le.Uint32(head))
	}
	for range nspans {
		b := in.next(spanSize)
		spans = append(spans, Span{int64(le.Uint64(b)), int64(le.Uint64(b[8:])), le.Uint32(b[16:])})
	}
	if in.err != nil {
		return nil, 0, errDamaged
	}
	return spans, extents, nil
}

// sumsReader reads the descriptor in parts and keeps their checksum.
type sumsReader struct {
	r   io.Reader
	buf []byte // what was read ahead
	mem []byte
	sum uint32
	err error
}

// next returns the next n bytes, which are valid until the next call. Once there is an error,
// it returns zeros.
func (in *sumsReader) next(n int) []byte {
	if in.mem == nil {
		in.mem = make([]byte, 256<<10)
	}
	if len(in.buf) < n && in.err == nil {
		have := copy(in.mem, in.buf)
		more, err := io.ReadAtLeast(in.r, in.mem[have:], n-have)
		in.buf = in.mem[:have+more]
		in.err = err
	}
	if in.err != nil {
		return make([]byte, n)
	}
	p := in.buf[:n]
	in.buf = in.buf[n:]
	in.sum = crc32.Update(in.sum, castagnoli, p)
	return p
}
