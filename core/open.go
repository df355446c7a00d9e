package core

import (
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"slices"
	"syscall"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/checksums"
	"github.com/procmem/procmem/internal/elfcore"
	"github.com/procmem/procmem/internal/packed"
)

// File is a core file. It is a procmem.Sparse, and is safe for concurrent use.
type File struct {
	r      io.ReaderAt
	size   int64
	closer io.Closer

	unpacked *packed.Source // the file that Open has opened; nil without Open

	segs   []segment   // ascending, disjoint
	notes  []fileRange // the PT_NOTE segments, in the order of the program headers
	lost   []procmem.Fault
	img    procmem.Image
	report *Report
	sums   fileRange // the descriptor with the checksums; empty where there is none
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

// maxHeaders bounds the number of program headers. A process can have a few million mappings at
// most, and a sparse file can claim any number.
const maxHeaders = 1 << 24

// OpenOptions say what OpenWith does with a compressed core. The zero value is what Open does.
type OpenOptions struct {
	// TempDir is the folder of the unnamed file into which a core is unpacked that cannot be
	// read in place. "" means os.TempDir(). The file takes the room of all memory that is not
	// zero, until Close or the end of the process.
	TempDir string
	// Unpacking, if not nil, is called with the reason before a core is unpacked. done returns
	// how many of the total bytes of the compressed file have been read, and is safe for
	// concurrent use.
	Unpacking func(why string, done func() int64, total int64)
	// Notice, if not nil, is called with one line for each fault of a compressed file that is
	// opened all the same.
	Notice func(text string)
}

// PackedError reports that a compressed file cannot be opened because of its contents. It is
// cut off or damaged from its beginning, or unpacking it takes more memory than is allowed.
type PackedError struct{ Err error }

func (e *PackedError) Error() string { return e.Err.Error() }
func (e *PackedError) Unwrap() error { return e.Err }

// Open opens the core file at path, whatever its name: plain, or compressed with zstd or gzip.
// A core in the seekable format of zstd, which procmem writes, is read in place. Any other
// compressed core is first unpacked into an unnamed temporary file in os.TempDir(). OpenWith
// chooses another folder. Close must be called.
//
// Open fails with a *FormatError where the file is no core, and with a *PackedError where it
// cannot be unpacked. NewReader describes what becomes of a damaged core.
func Open(path string) (*File, error) { return OpenWith(path, OpenOptions{}) }

// OpenWith is Open with options.
func OpenWith(path string, o OpenOptions) (*File, error) {
	// Opening a device may have an effect, and opening a pipe waits for its writer.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open core %s: %s", path, kindOf(info.Mode()))
	}
	r, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		if better := packed.NotHere(path, err); !errors.Is(better, err) {
			return nil, better
		}
		return nil, fmt.Errorf("open core: %w", err)
	}
	f, err := openFile(r, o)
	if err != nil {
		return nil, fmt.Errorf("open core %s: %w", path, err)
	}
	return f, nil
}

// openFile opens a core that is in r. It closes r if it fails.
func openFile(r *os.File, o OpenOptions) (*File, error) {
	src, err := source(r, o)
	if err != nil {
		r.Close()
		return nil, err
	}
	f, err := newFile(src.ReaderAt, src.Size())
	if err != nil {
		src.Close()
		return nil, err
	}
	f.closer, f.unpacked = src, src
	return f, nil
}

func source(r *os.File, o OpenOptions) (*packed.Source, error) {
	info, err := r.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New(kindOf(info.Mode()))
	}
	src, err := packed.NewSource(r, packed.OpenOptions{TempDir: o.TempDir, Unpacking: o.Unpacking, Notice: o.Notice})
	if packed.IsDamaged(err) {
		err = &PackedError{err}
	}
	return src, err
}

// Intact reports whether the compressed file that the core was opened from was whole, as far as
// opening it has shown. It is true for a plain core, where Damaged and Truncated tell of
// damage.
func (f *File) Intact() bool { return f.unpacked == nil || f.unpacked.Intact() }

// kindOf says what a file is that is no regular file.
func kindOf(m os.FileMode) string {
	const not = "not a regular file"
	switch {
	case m.IsDir():
		return not + " but a directory"
	case m&os.ModeNamedPipe != 0:
		return not + " but a pipe: write the core into a file first"
	case m&os.ModeDevice != 0:
		return not + " but a device"
	case m&os.ModeSocket != 0:
		return not + " but a socket"
	}
	return not
}

// FormatError reports that a file is no core file, or contradicts itself.
type FormatError struct {
	Off int64 // offset in the file, in bytes
	Msg string
}

func (e *FormatError) Error() string { return fmt.Sprintf("offset %#x: %s", e.Off, e.Msg) }

// formatError returns err as a *FormatError, where it is one of package elfcore.
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

// NewReader reads a core of size bytes from r. It fails with a *FormatError where r is no core
// or contradicts itself, and with the error of r.
//
// A core with malformed notes is opened, and Damaged lists them. A core that is cut off after
// its program headers is opened, too, with the notes that it has. Truncated lists the memory
// that it lacks. Memory in two segments belongs to the one that starts lower, or comes first in
// the file.
func NewReader(r io.ReaderAt, size int64) (*File, error) {
	f, err := newFile(r, size)
	if err != nil {
		return nil, fmt.Errorf("read core: %w", err)
	}
	return f, nil
}

func newFile(r io.ReaderAt, size int64) (*File, error) {
	f := &File{r: r, size: size}
	h, err := f.readHeader()
	if err != nil {
		return nil, err
	}
	if err := f.readProgramHeaders(h); err != nil {
		return nil, err
	}
	f.sortSegments()
	f.readNotes(h.Shoff > 0)
	f.compareParts()
	return f, nil
}

// readHeader reads the ELF header. Its error says what the file is if it is no core.
func (f *File) readHeader() (elfcore.Header, error) {
	if f.size == 0 {
		return elfcore.Header{}, &FormatError{0, "not a core file: the file is empty"}
	}
	var b [64]byte
	n, err := f.r.ReadAt(b[:min(int64(len(b)), f.size)], 0)
	if n == 0 && err != nil {
		return elfcore.Header{}, fmt.Errorf("read ELF header: %w", err)
	}
	h, err := elfcore.DecodeHeader(b[:n])
	if err != nil {
		return h, formatError(err)
	}
	if h.Type != elf.ET_CORE {
		what := map[elf.Type]string{elf.ET_EXEC: "executable", elf.ET_DYN: "shared object or executable", elf.ET_REL: "object file"}[h.Type]
		return h, &FormatError{16, "not a core file: ELF " + cmp.Or(what, h.Type.String())}
	}
	if f.img.Arch, err = procmem.ArchOf(h.Class, h.Machine); err != nil {
		return h, &FormatError{18, err.Error()}
	}
	if want := elfcore.ProgHeaderSize(h.Class); int(h.Phsize) != want {
		return h, &FormatError{int64(elfcore.HeaderSize(h.Class)) - 10, fmt.Sprintf("program headers of %d bytes, want %d", h.Phsize, want)}
	}
	if h.Phnum == elfcore.MaxPlainHeaders {
		if err := f.readHeaderCount(&h); err != nil {
			return h, err
		}
	}
	return h, nil
}

// readHeaderCount finds the number of program headers where e_phnum cannot hold it.
func (f *File) readHeaderCount(h *elfcore.Header) error {
	step := elfcore.SectionHeaderSize(h.Class)
	if h.Shoff == 0 || h.Shoff > uint64(f.size) || uint64(f.size)-h.Shoff < uint64(step) {
		return &FormatError{int64(min(h.Shoff, math.MaxInt64)), "the section header with the number of program headers is not in the file"}
	}
	b := make([]byte, step)
	if err := f.readFull(b, int64(h.Shoff)); err != nil {
		return fmt.Errorf("read section header: %w", err)
	}
	h.Phnum = elfcore.DecodeCountHeader(h.Class, b)
	return nil
}

// readProgramHeaders keeps the segments and the places of the notes.
func (f *File) readProgramHeaders(h elfcore.Header) error {
	step := elfcore.ProgHeaderSize(h.Class)
	if h.Phnum == 0 {
		return &FormatError{int64(elfcore.HeaderSize(h.Class)) - 8, "no program headers"}
	}
	if h.Phnum > maxHeaders {
		return &FormatError{int64(elfcore.HeaderSize(h.Class)) - 8, fmt.Sprintf("%d program headers are more than a process can have mappings", h.Phnum)}
	}
	if table := uint64(h.Phnum) * uint64(step); h.Phoff > uint64(f.size) || table > uint64(f.size)-h.Phoff {
		return &FormatError{int64(min(h.Phoff, math.MaxInt64)), fmt.Sprintf("%d program headers do not fit the file of %d bytes", h.Phnum, f.size)}
	}
	chunk := make([]byte, min(int(h.Phnum), 4096)*step)
	off := int64(h.Phoff)
	var noteBytes int64
	for left := int(h.Phnum); left > 0; {
		b := chunk[:min(left*step, len(chunk))]
		if err := f.readFull(b, off); err != nil {
			return fmt.Errorf("read program headers at offset %#x: %w", off, err)
		}
		for ; len(b) > 0; b, off, left = b[step:], off+int64(step), left-1 {
			p := elfcore.DecodeProgHeader(h.Class, b)
			switch p.Type {
			case elf.PT_LOAD:
				if err := f.addSegment(p, off); err != nil {
					return err
				}
			case elf.PT_NOTE:
				if p.Off > math.MaxInt64 || p.Filesz > math.MaxInt64-p.Off {
					return &FormatError{off, fmt.Sprintf("notes at %#x+%#x: out of range", p.Off, p.Filesz)}
				}
				s := fileRange{int64(p.Off), int64(p.Off + p.Filesz)}
				// Many headers for the same notes would make a small file cost a lot.
				if noteBytes += max(0, min(s.end, f.size)-s.off); noteBytes > f.size {
					return &FormatError{off, "note segments overlap"}
				}
				f.notes = append(f.notes, s)
			}
		}
	}
	return nil
}

// addSegment keeps a PT_LOAD, whose header lies at off.
func (f *File) addSegment(p elf.ProgHeader, off int64) error {
	switch {
	case p.Filesz > p.Memsz:
		return &FormatError{off, fmt.Sprintf("segment at address %#x: %#x bytes in the file for %#x in memory", p.Vaddr, p.Filesz, p.Memsz)}
	case p.Vaddr > math.MaxUint64-p.Memsz:
		return &FormatError{off, fmt.Sprintf("segment at address %#x: %#x bytes leave the address space", p.Vaddr, p.Memsz)}
	case p.Off > math.MaxInt64 || p.Filesz > math.MaxInt64-p.Off:
		return &FormatError{off, fmt.Sprintf("segment at address %#x: file offset %#x+%#x is out of range", p.Vaddr, p.Off, p.Filesz)}
	case p.Memsz == 0:
		return nil
	}
	start := procmem.Addr(p.Vaddr)
	f.segs = append(f.segs, segment{
		Range:  procmem.Range{Start: start, End: start + procmem.Addr(p.Memsz)},
		dumped: start + procmem.Addr(p.Filesz),
		off:    int64(p.Off), perm: elfcore.FlagsPerm(p.Flags),
	})
	return nil
}

// sortSegments sorts the segments and makes them disjoint.
func (f *File) sortSegments() {
	slices.SortStableFunc(f.segs, func(a, b segment) int { return cmp.Compare(a.Start, b.Start) })
	kept := f.segs[:0]
	var end procmem.Addr
	for _, s := range f.segs {
		if s.End <= end {
			continue
		}
		if s.Start < end {
			s.off += int64(min(end, s.dumped) - min(s.Start, s.dumped))
			s.Start, s.dumped = end, max(end, s.dumped)
		}
		end = s.End
		kept = append(kept, s)
	}
	f.segs = kept
}

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

// compareParts compares with their checksums the parts that tell of the process and of where
// its memory lies. All that is read depends on these.
func (f *File) compareParts() {
	if f.sums == (fileRange{}) {
		return
	}
	if spans, err := checksums.ReadSpans(f.r, f.sums.off, f.sums.end-f.sums.off); err == nil { // Verify reports damage of the note itself
		f.broken = append(f.broken, f.damagedSpans(spans)...)
	}
}

// Owns has Close close c, which is usually what the core is read from.
func (f *File) Owns(c io.Closer) { f.closer = c }

// Close closes the file that Open opened, or what the File owns.
func (f *File) Close() error {
	if f.closer == nil {
		return nil
	}
	return f.closer.Close()
}

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
