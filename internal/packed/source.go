package packed

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/procmem/procmem/internal/pageset"
)

// OpenOptions say what Open does with a compressed file.
type OpenOptions struct {
	// TempDir is the folder of the unnamed file into which a file is unpacked that cannot be
	// read in place. "" means os.TempDir().
	TempDir string
	// Unpacking, if not nil, is called with the reason before a file is unpacked. done returns
	// how many of the total bytes of the compressed file have been read.
	Unpacking func(why string, done func() int64, total int64)
	// Notice, if not nil, is called with one line for each fault of a file that is opened all
	// the same.
	Notice func(text string)
}

// Source is the plain bytes of a file, compressed or not. It is safe for concurrent use, except
// for Close.
type Source struct {
	io.ReaderAt
	name   string
	size   int64
	packed bool
	bad    bool
	closer io.Closer // nil where nothing is to be closed
}

// Open opens a regular file of any content. It reads in place a plain file, and one in the
// seekable format. Another compressed file is unpacked as far as possible. If nothing of it can
// be unpacked, IsDamaged reports true for the error.
func Open(path string, o OpenOptions) (*Source, error) {
	// Opening a device may have an effect, and opening a pipe waits for its writer.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open %s: it is no regular file", path)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, NotHere(path, err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	s, err := NewSource(f, info.Size(), o)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	s.Owns(f)
	return s, nil
}

// NotHere returns err, the error of opening path, or a better error if path is a URL.
func NotHere(path string, err error) error {
	if errors.Is(err, os.ErrNotExist) && strings.Contains(path, "://") {
		return fmt.Errorf("open %s: %w: only files of this machine are read: download it first", path, os.ErrNotExist)
	}
	return err
}

// NewSource is Open for size bytes that can be read from r. Close does not close r.
func NewSource(r io.ReaderAt, size int64, o OpenOptions) (*Source, error) {
	s := &Source{ReaderAt: r, name: nameOf(r), size: size}
	head := make([]byte, 4)
	if _, err := r.ReadAt(head, 0); err != nil || !IsPacked(head) {
		return s, nil
	}
	s.packed = true
	seekable, err := inPlace(r, head, size)
	if err == nil {
		s.ReaderAt, s.size = seekable, seekable.Size()
		return s, nil
	}
	if !errors.Is(err, ErrNotSeekable) {
		return nil, err
	}
	s.bad = errors.Is(err, errTable)
	if err := s.unpack(head, reason(head, err), o); err != nil {
		return nil, err
	}
	return s, nil
}

// nameOf returns the name by which a file was opened.
func nameOf(r io.ReaderAt) string {
	if f, ok := r.(interface{ Name() string }); ok {
		return f.Name()
	}
	return "the core"
}

// Owns has Close close c, which the source reads from. If the file was unpacked, nothing more
// is read from c, and it is closed at once.
func (s *Source) Owns(c io.Closer) {
	if s.closer != nil {
		c.Close()
		return
	}
	s.closer = c
}

func (o OpenOptions) notice(text string) {
	if o.Notice != nil {
		o.Notice(text)
	}
}

// inPlace returns a Reader of a seekable file.
func inPlace(r io.ReaderAt, head []byte, size int64) (*Reader, error) {
	if !isZstd(head) {
		return nil, errNoTable
	}
	return NewReader(r, size)
}

// reason returns why a file is not read in place.
func reason(head []byte, err error) string {
	switch {
	case isGzip(head):
		return "is compressed with gzip"
	case errors.Is(err, errNoTable):
		return "has no seek table"
	}
	return fmt.Sprintf("cannot be read in place (%v)", err)
}

// unpack makes a temporary file the source, which reads from the compressed file so far.
func (s *Source) unpack(head []byte, why string, o OpenOptions) error {
	in := &counter{r: io.NewSectionReader(s.ReaderAt, 0, s.size)}
	if o.Unpacking != nil {
		o.Unpacking(why, in.n.Load, s.size)
	}
	tmp, size, err := s.unpackFile(in, head, o)
	if bad, ok := errors.AsType[*badFile](err); ok {
		if size == 0 {
			return fmt.Errorf("it %w", bad)
		}
		o.notice(fmt.Sprintf("%s %v: what could be unpacked of it are %d bytes", s.name, bad, size))
		s.bad = true
		err = nil
	}
	if err != nil {
		return err
	}
	s.ReaderAt, s.size, s.closer = tmp, size, tmp
	return nil
}

// Name returns the name by which the file was opened.
func (s *Source) Name() string { return s.name }

// File returns the file that holds the plain bytes, or nil where they are unpacked as they are
// read.
func (s *Source) File() *os.File {
	f, _ := s.ReaderAt.(*os.File)
	return f
}

// Size returns the number of plain bytes.
func (s *Source) Size() int64 { return s.size }

// Packed reports whether the file is compressed.
func (s *Source) Packed() bool { return s.packed }

// Intact reports whether the compressed file was whole, as far as opening it has shown. Frames
// that are read in place are checked when they are read.
func (s *Source) Intact() bool { return !s.bad }

// Close closes the temporary file, or what the source owns. The source must not be read after
// Close.
func (s *Source) Close() error {
	if s.closer == nil {
		return nil
	}
	return s.closer.Close()
}

// NextData returns the first run of bytes at or after off that is not known to be all zero. If
// there is none, it returns an empty run at the end.
func (s *Source) NextData(off int64) (start, end int64) {
	switch r := s.ReaderAt.(type) {
	case *Reader:
		return r.NextData(off)
	case *os.File:
		start, end = pageset.FileData(r, off, s.size)
		// Data that the file has lost meanwhile is no hole.
		if info, err := r.Stat(); err == nil && start >= s.size && info.Size() < s.size {
			start = min(max(off, info.Size()), s.size)
		}
		return start, end
	}
	return min(off, s.size), s.size
}
