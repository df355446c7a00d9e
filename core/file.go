package core

import (
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/elfcore"
	"github.com/procmem/procmem/internal/packed"
)

// FormatError reports that a file is no core file, or contradicts itself.
type FormatError struct {
	Off int64 // offset in the file, in bytes
	Msg string
}

func (e *FormatError) Error() string { return fmt.Sprintf("offset %#x: %s", e.Off, e.Msg) }

// formatError returns err as a *FormatError if it is one of package elfcore.
func formatError(err error) error {
	if e, ok := errors.AsType[*elfcore.FormatError](err); ok {
		return (*FormatError)(e)
	}
	return err
}

// HoleReaderAt is an io.ReaderAt that knows where its file holds only zeros. NewReader uses it
// if its reader is one.
type HoleReaderAt interface {
	io.ReaderAt

	// NextData returns the first run of bytes at or after off that may hold anything else, as
	// offsets. Both are the size of the file where there is none. It is safe for concurrent
	// use.
	NextData(off int64) (start, end int64)
}

// File is a core file. It is a procmem.Sparse, and is safe for concurrent use.
type File struct {
	r     io.ReaderAt // the plain bytes
	size  int64
	src   *packed.Source // what they are in
	owned io.Closer      // nil for nothing

	segs   []segment   // ascending, disjoint
	notes  []fileRange // the PT_NOTE segments, in the order of the program headers
	lost   []procmem.Fault
	img    procmem.Image
	report *Report
	sums   fileRange // the descriptor with the checksums; empty if there is none
	broken []Damage  // damaged parts that opening the file has shown
}

// segment is a PT_LOAD: memory at Range. The file holds the part of it below dumped, from file
// offset off.
type segment struct {
	procmem.Range
	dumped procmem.Addr
	off    int64
	perm   procmem.Perm
}

// fileRange is the interval [off, end) of the file, which may be cut off.
type fileRange struct{ off, end int64 }

// Owns has Close close c, too, which is usually what the core is read from.
func (f *File) Owns(c io.Closer) { f.owned = c }

// Close closes the file that Open opened, and what the File owns. It removes what was unpacked.
func (f *File) Close() error {
	err := f.src.Close()
	if f.owned != nil {
		err = errors.Join(err, f.owned.Close())
	}
	return err
}

// Intact reports whether the compressed file that the core was opened from was whole, as far as
// opening it has shown. It is true for a plain core, where Damaged and Truncated tell of
// damage.
func (f *File) Intact() bool { return f.src.Intact() }

// Image returns what the core tells of the process. The caller must not change it.
func (f *File) Image() *procmem.Image { return &f.img }

// Damaged returns damaged parts of the file that should tell of the process, or of where memory
// lies. They are those that opening the file has shown. Verify compares the whole file.
func (f *File) Damaged() []Damage { return f.broken }

// Report returns the report of a core that procmem wrote. It is nil for other cores, and for
// one that is cut off before its report.
func (f *File) Report() *Report { return f.report }

// Segments returns the memory that the core names, ascending. A segment of which the core holds
// only the beginning comes as two.
func (f *File) Segments() []Segment {
	segs := make([]Segment, 0, len(f.segs))
	for _, s := range f.segs {
		for _, part := range [2]Segment{
			{procmem.Range{Start: s.Start, End: s.dumped}, s.perm, true},
			{procmem.Range{Start: s.dumped, End: s.End}, s.perm, false},
		} {
			if !part.Empty() {
				segs = append(segs, part)
			}
		}
	}
	return segs
}

// Truncated returns the memory that the core promises, but that the file ends before,
// ascending.
func (f *File) Truncated() []procmem.Fault {
	var missing []procmem.Fault
	for _, s := range f.segs {
		if have := s.inFile(f.size); have < s.dumped {
			missing = procmem.AppendFault(missing, procmem.Fault{
				Range: procmem.Range{Start: have, End: s.dumped}, Err: procmem.ErrTruncated})
		}
	}
	return missing
}

// inFile returns the end of the part of the segment that a file of this size holds.
func (s *segment) inFile(size int64) procmem.Addr {
	left := max(0, size-s.off)
	return s.Start + procmem.Addr(min(uint64(left), uint64(s.dumped-s.Start)))
}

// NoteInfo says what a note is and where its descriptor lies in the file.
type NoteInfo struct {
	Name   string `json:"name"`   // the owner
	Type   uint32 `json:"type"`   // NT_*
	Size   int64  `json:"size"`   // of the descriptor, in bytes
	Offset int64  `json:"offset"` // of the descriptor in the file, in bytes
}

// Notes yields the notes in the order of the file.
func (f *File) Notes() iter.Seq[NoteInfo] {
	return func(yield func(NoteInfo) bool) {
		more := true
		for _, s := range f.notes {
			// Opening the file has shown which notes cannot be read.
			_ = elfcore.ScanNotes(f.r, s.off, s.end, f.size, func(n elfcore.NoteInfo) bool {
				more = yield(NoteInfo(n))
				return more
			})
			if !more {
				return
			}
		}
	}
}

// readFull fills p from the file at off.
func (f *File) readFull(p []byte, off int64) error {
	n, err := f.r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}
