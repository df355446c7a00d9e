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

// OpenOptions say what Open does with a file that cannot be read in place.
type OpenOptions struct {
	// TempDir is the folder of the file without a name into which it is unpacked;
	// "" is os.TempDir().
	TempDir string
	// Unpacking, if not nil, is called before that with the reason. Done returns
	// how many of the total bytes of the compressed file have been read.
	Unpacking func(why string, done func() int64, total int64)
	// Notice, if not nil, is called with a line for each thing that is wrong with
	// a file that is opened all the same.
	Notice func(text string)
}

// Source is the plain bytes of a file, compressed or not. It is safe for
// concurrent use. Close must not be called meanwhile.
type Source struct {
	io.ReaderAt
	name   string
	size   int64
	packed bool
	bad    bool
	closer io.Closer
}

// Open opens a regular file of any content. A plain file and one in the
// seekable format are read in place. Another compressed file is unpacked as
// far as it goes; if that is nowhere, IsDamaged holds for the error.
func Open(path string, o OpenOptions) (*Source, error) {
	// Opening a device may have an effect, and a pipe waits for its writer.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open %s: it is no regular file", path)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, NotHere(path, err)
	}
	s, err := NewSource(f, o)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return s, nil
}

// NotHere returns err, the error of opening path, or a better error if the
// name is a URL.
func NotHere(path string, err error) error {
	if errors.Is(err, os.ErrNotExist) && strings.Contains(path, "://") {
		return fmt.Errorf("open %s: %w: only files of this machine are read: download it first", path, os.ErrNotExist)
	}
	return err
}

// NewSource is Open for a regular file that is open. The source closes f;
// after an error it is still open.
func NewSource(f *os.File, o OpenOptions) (*Source, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	head := make([]byte, 4)
	if _, err := f.ReadAt(head, 0); err != nil || !IsPacked(head) {
		return &Source{ReaderAt: f, name: f.Name(), size: info.Size(), closer: f}, nil
	}
	s := &Source{name: f.Name(), packed: true}
	seekable, err := inPlace(f, head, info.Size())
	if err == nil {
		s.ReaderAt, s.size, s.closer = seekable, seekable.Size(), f
		return s, nil
	}
	if !errors.Is(err, ErrNotSeekable) {
		return nil, err
	}
	s.bad = errors.Is(err, errTable)
	if err := s.unpack(f, head, info.Size(), reason(head, err), o); err != nil {
		return nil, err
	}
	f.Close()
	return s, nil
}

func (o OpenOptions) notice(text string) {
	if o.Notice != nil {
		o.Notice(text)
	}
}

// inPlace returns what reads a seekable file.
func inPlace(f *os.File, head []byte, size int64) (*Reader, error) {
	if !isZstd(head) {
		return nil, errNoTable
	}
	return NewReader(f, size)
}

// reason tells why a file is not read in place.
func reason(head []byte, err error) string {
	switch {
	case isGzip(head):
		return "is compressed with gzip"
	case errors.Is(err, errNoTable):
		return "has no seek table"
	}
	return fmt.Sprintf("cannot be read in place (%v)", err)
}

// unpack has a temporary file be the source.
func (s *Source) unpack(f *os.File, head []byte, packed int64, why string, o OpenOptions) error {
	in := &counter{r: f}
	if o.Unpacking != nil {
		o.Unpacking(why, in.n.Load, packed)
	}
	tmp, size, err := o.unpackFile(f, in, head, packed)
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

// Name returns the name that the file was opened by.
func (s *Source) Name() string { return s.name }

// Size returns how many plain bytes there are.
func (s *Source) Size() int64 { return s.size }

// Packed reports whether the file is compressed.
func (s *Source) Packed() bool { return s.packed }

// Intact reports whether the compressed file was whole, as far as opening it
// has shown. Frames that are read in place are checked when they are read.
func (s *Source) Intact() bool { return !s.bad }

// Close closes the file. Nothing may be read afterwards.
func (s *Source) Close() error { return s.closer.Close() }

// NextData returns the first run of bytes at or behind off that is not known
// to be all zero: an empty run at the end if there is none.
func (s *Source) NextData(off int64) (start, end int64) {
	switch r := s.ReaderAt.(type) {
	case *Reader:
		return r.NextData(off)
	case *os.File:
		start, end = pageset.FileData(r, off, s.size)
		// What the file has lost meanwhile is no hole.
		if info, err := r.Stat(); err == nil && start >= s.size && info.Size() < s.size {
			start = min(max(off, info.Size()), s.size)
		}
		return start, end
	}
	return min(off, s.size), s.size
}
