package core

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

// The note of checksums, little-endian (docs/core-file.md):
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
	sumsHead   = 16
	spanSize   = 24
	extentSize = 16
)

// pageSums are the checksums of consecutive pages, each less zeroSum. Where sums is nil, the
// pages are zeros.
type pageSums struct {
	addr  procmem.Addr
	pages int
	sums  []uint32
}

// extents yields the checksums of places, at most a chunk at a time. zeros says whether pages
// of zeros are included.
func (s *sums) extents(places iter.Seq[pageset.Place], zeros bool) iter.Seq[pageSums] {
	return func(yield func(pageSums) bool) {
		for x := range places {
			for r, values := range s.pieces(x.Range) {
				if zeros {
					if !yield(pageSums{r.Start, int(r.Size() / procmem.PageSize), values}) {
						return
					}
					continue
				}
				for i := 0; i < len(values); i++ {
					n := 0
					for i+n < len(values) && values[i+n] != 0 {
						n++
					}
					if n > 0 && !yield(pageSums{r.Start + procmem.Addr(i*procmem.PageSize), n, values[i : i+n]}) {
						return
					}
					i += n
				}
			}
		}
	}
}

// fileSpan is a part of the file with its checksum.
type fileSpan struct {
	off, size int64
	sum       uint32
}

func spanOf(off int64, p []byte) fileSpan {
	return fileSpan{off, int64(len(p)), crc32.Checksum(p, castagnoli)}
}

// maxSummed is up to how many bytes of memory always have checksums, however they are divided.
const maxSummed = 1 << 39

// sumsSize returns the size of the descriptor in bytes, and the number of extents. Both are 0
// where it would be too large for a note, so about 4 TiB of memory have no checksums.
func sumsSize(spans int, extents iter.Seq[pageSums]) (size int64, n uint64) {
	size = sumsHead + spanSize*int64(spans) + 4
	for x := range extents {
		size += extentSize + 4*int64(x.pages)
		n++
		if size > math.MaxUint32 {
			return 0, 0
		}
	}
	return size, n
}

// writeSums writes the note in small parts, because that of a large process is long. size and n
// are the results of sumsSize for the same extents.
func writeSums(size int64, n uint64, spans []fileSpan, extents iter.Seq[pageSums], put func([]byte) error) error {
	head := appendNote(nil, Note{ownerProcmem, ntSums, nil})
	binary.LittleEndian.PutUint32(head[4:], uint32(size))
	if err := put(head); err != nil {
		return err
	}
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
		b = le.AppendUint64(b, uint64(s.off))
		b = le.AppendUint64(b, uint64(s.size))
		b = le.AppendUint64(b, uint64(s.sum))
	}
	for x := range extents {
		if len(b)+extentSize+4*x.pages > cap(b) {
			if err := flush(); err != nil {
				return err
			}
		}
		b = le.AppendUint64(b, uint64(x.addr))
		b = le.AppendUint64(b, uint64(x.pages))
		for i := range x.pages {
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

// errSums reports that the checksums themselves are damaged.
var errSums = errors.New("the checksums are damaged")

// readSums reads the descriptor of the note at off. It fails with errSums where extents do not
// ascend, or within does not hold for one.
func readSums(r io.ReaderAt, off, size int64, within func(procmem.Range) bool) (spans []fileSpan, s *sums, err error) {
	le := binary.LittleEndian
	in := &sumsReader{r: io.NewSectionReader(r, off, size-4)}
	spans, extents, err := in.begin()
	if err != nil {
		return nil, nil, err
	}
	s = newSums()
	var last procmem.Addr
	for i := uint64(0); i < extents && in.err == nil; i++ {
		b := in.next(extentSize)
		a, pages := procmem.Addr(le.Uint64(b)), le.Uint32(b[8:])
		end, err := a.Add(uint64(pages) * procmem.PageSize)
		if err != nil || pages == 0 || pages > chunkPages || a != a.PageDown() || a < last || !within(procmem.Range{Start: a, End: end}) {
			return nil, nil, errSums
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
		return nil, nil, errSums
	}
	return spans, s, nil
}

// maxSpans bounds the number of spans: headers at the front and at the end, and notes.
const maxSpans = 16

// begin reads the spans, and returns how many extents follow.
func (in *sumsReader) begin() (spans []fileSpan, extents uint64, err error) {
	le := binary.LittleEndian
	head := in.next(sumsHead)
	nspans, extents := le.Uint32(head[4:]), le.Uint64(head[8:])
	switch {
	case in.err != nil || nspans > maxSpans:
		return nil, 0, errSums
	case le.Uint32(head) != procmem.PageSize:
		return nil, 0, fmt.Errorf("%w: of pages of %d bytes", errSums, le.Uint32(head))
	}
	for range nspans {
		b := in.next(spanSize)
		spans = append(spans, fileSpan{int64(le.Uint64(b)), int64(le.Uint64(b[8:])), le.Uint32(b[16:])})
	}
	if in.err != nil {
		return nil, 0, errSums
	}
	return spans, extents, nil
}

// damagedSpans returns those spans that are not as they were written. They do not overlap.
func (f *File) damagedSpans(spans []fileSpan) (out []Damage) {
	left := min(maxParts, f.size)
	for _, s := range spans {
		reason := ErrChecksum
		switch {
		case s.size < 0 || s.off < 0 || s.off > f.size-s.size:
			reason = procmem.ErrTruncated
		case s.size > left:
			reason = errSpan
		default:
			left -= s.size
			sum := crc32.New(castagnoli)
			if _, err := io.Copy(sum, io.NewSectionReader(f.r, s.off, s.size)); err != nil {
				reason = err
			} else if sum.Sum32() == s.sum {
				continue
			}
		}
		out = append(out, Damage{Offset: s.off, Size: s.size, Err: reason})
	}
	return out
}

// maxParts, in bytes, is more than headers and notes take in all: those of 150,000 threads. A
// file that is one large hole may claim any size.
const maxParts = 2 << 30

var errSpan = errors.New("larger than all headers and notes can be")

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
