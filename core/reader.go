package core

import (
	"errors"
	"io"
	"iter"
	"math"
	"os"
	"sort"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
)

// Mappings returns the mappings of the process. In a core that procmem wrote, they are as they
// were in the process. In others, they come from program headers and file names. A mapping
// without a program header, as gdb leaves them, is shown without permissions, because they are
// unknown.
func (f *File) Mappings() ([]procmem.Mapping, error) { return f.img.Mappings, nil }

// ReadAt reads memory. It fails with procmem.ErrNotDumped for memory of a mapping that is not
// in the core, with the reason where the report has one. It fails with procmem.ErrTruncated for
// memory that the file ends before, and with procmem.ErrNotMapped for other addresses.
func (f *File) ReadAt(p []byte, addr procmem.Addr) (int, error) {
	n := 0
	for n < len(p) {
		// No segment reaches the last address, so this does not wrap.
		at := addr + procmem.Addr(n)
		m, until, err := f.readPiece(p[n:], at)
		n += m
		if err != nil {
			return n, &procmem.FaultError{Addr: at + procmem.Addr(m), Err: err, Until: until}
		}
	}
	return n, nil
}

// readPiece reads what one segment holds without a gap at a. until comes with an error: it is
// the end of the addresses that share it, or 0 if that is unknown.
func (f *File) readPiece(p []byte, a procmem.Addr) (n int, until procmem.Addr, err error) {
	i := f.find(a)
	if i == len(f.segs) || a < f.segs[i].Start {
		until, err := f.absent(a, i)
		return 0, until, err
	}
	s := &f.segs[i]
	if a >= s.dumped {
		return 0, s.End, procmem.ErrNotDumped
	}
	end := s.dumped
	if k := f.findLost(a); k < len(f.lost) {
		if l := &f.lost[k]; l.Contains(a) {
			return 0, min(end, l.End), l.Err
		}
		end = min(end, f.lost[k].Start)
	}
	have := s.inFile(f.size)
	if a >= have {
		return 0, end, procmem.ErrTruncated
	}
	p = p[:min(uint64(len(p)), uint64(min(end, have)-a))]
	n, err = f.r.ReadAt(p, s.off+int64(a-s.Start))
	if n == len(p) {
		return n, 0, nil
	}
	if err == nil || err == io.EOF { // the file has shrunk
		err = procmem.ErrTruncated
	}
	if part, ok := errors.AsType[lostPart](err); ok {
		if size := part.End() - s.off; size > 0 && size < int64(end-s.Start) {
			end = s.Start + procmem.Addr(size)
		}
		until = end.PageDown() // the rest of a page is lost with it
	}
	return n, until, err
}

// lostPart is an error of reading a file of which a part is lost, up to an offset. Without it,
// each page of that part would be tried again.
type lostPart interface {
	error
	End() int64
}

// absent returns why no segment holds a, which lies before segment i, and the address up to
// which that is so.
func (f *File) absent(a procmem.Addr, i int) (until procmem.Addr, err error) {
	until = math.MaxUint64
	if i < len(f.segs) {
		until = f.segs[i].Start
	}
	ms := f.img.Mappings
	switch k := procmem.FindMapping(ms, a); {
	case k == len(ms):
		return until, procmem.ErrNotMapped
	case ms[k].Contains(a):
		return min(until, ms[k].End), procmem.ErrNotDumped
	default:
		return min(until, ms[k].Start), procmem.ErrNotMapped
	}
}

// find returns the index of the first segment that ends above a.
func (f *File) find(a procmem.Addr) int {
	return sort.Search(len(f.segs), func(i int) bool { return f.segs[i].End > a })
}

// findLost returns the index of the first lost range that ends above a.
func (f *File) findLost(a procmem.Addr) int {
	return sort.Search(len(f.lost), func(i int) bool { return f.lost[i].End > a })
}

// Data implements procmem.Sparse. It yields the parts of the dumped segments inside r that are
// not holes of the file. It also yields the parts that fault, because the file ends before
// them, or they could not be read when the core was taken. It leaves out what the core omits on
// purpose, which Segments lists.
func (f *File) Data(r procmem.Range) iter.Seq2[procmem.Range, error] {
	return func(yield func(procmem.Range, error) bool) {
		for i := f.find(r.Start); i < len(f.segs) && f.segs[i].Start < r.End; i++ {
			s := &f.segs[i]
			part := r.Intersect(procmem.Range{Start: s.Start, End: s.dumped})
			if !part.Empty() && !f.dataIn(s, part, yield) {
				return
			}
		}
	}
}

// dataIn yields the data in a part of one segment, and reports whether to go on.
func (f *File) dataIn(s *segment, part procmem.Range, yield func(procmem.Range, error) bool) bool {
	have := min(s.inFile(f.size), part.End)
	at := part.Start
	for at < have {
		shift := s.off - int64(s.Start)
		from, to := f.dataRun(int64(at)+shift, int64(have)+shift)
		data := procmem.Range{Start: procmem.Addr(from - shift), End: procmem.Addr(to - shift)}
		if !f.lostIn(procmem.Range{Start: at, End: data.Start}, yield) {
			return false
		}
		if !data.Empty() && !yield(data, nil) {
			return false
		}
		at = data.End
	}
	if have = max(have, part.Start); have < part.End {
		return yield(procmem.Range{Start: have, End: part.End}, nil) // cut off
	}
	return true
}

// lostIn yields what is lost inside r, which is a hole of the file.
func (f *File) lostIn(r procmem.Range, yield func(procmem.Range, error) bool) bool {
	for k := f.findLost(r.Start); k < len(f.lost) && f.lost[k].Start < r.End; k++ {
		if x := f.lost[k].Intersect(r); !x.Empty() && !yield(x, nil) {
			return false
		}
	}
	return true
}

// dataRun returns the first run of data in the interval [off, end) of the file, or end, end. A
// reader that does not know its holes has data everywhere.
func (f *File) dataRun(off, end int64) (from, to int64) {
	switch r := f.r.(type) {
	case HoleReaderAt:
		from, to := r.NextData(off)
		return min(from, end), min(to, end)
	case *os.File:
		return pageset.FileData(r, off, end)
	}
	return off, end
}
