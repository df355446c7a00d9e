package core

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/procmem/procmem/internal/packed"
)

// OpenOptions say what OpenWith and NewReaderWith do with a compressed core. The zero value is
// what Open and NewReader do.
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

// Open opens the core at path, a regular file of any name: plain, or compressed with zstd or
// gzip. A core in the seekable format of zstd, which procmem writes, is read in place. Any other
// compressed core is first unpacked into an unnamed temporary file in os.TempDir(). OpenWith
// chooses another folder. Close must be called.
//
// Open fails with a *FormatError if the file is no core, and with a *PackedError if it cannot
// be unpacked. NewReader describes what becomes of a damaged core.
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
	info, err := r.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New(kindOf(info.Mode()))
	}
	var f *File
	if err == nil {
		f, err = read(r, info.Size(), o)
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	f.src.Owns(r)
	return f, nil
}

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

// NewReader opens a core of size bytes that is read from r, as Open does one in a file: plain or
// compressed. Close removes what was unpacked. It does not close r, unless the File owns it. r
// must be safe for concurrent use.
//
// NewReader fails with a *FormatError where r is no core or contradicts itself, with a
// *PackedError where it cannot be unpacked, and with the error of r.
//
// A core with malformed notes is opened, and Damaged lists them. A core that is cut off after
// its program headers is opened, too, with the notes that it has. Truncated lists the memory
// that it lacks. Memory in two segments belongs to the one that starts lower, or comes first in
// the file.
func NewReader(r io.ReaderAt, size int64) (*File, error) {
	return NewReaderWith(r, size, OpenOptions{})
}

// NewReaderWith is NewReader with options.
func NewReaderWith(r io.ReaderAt, size int64, o OpenOptions) (*File, error) {
	f, err := read(r, size, o)
	if err != nil {
		return nil, fmt.Errorf("read core: %w", err)
	}
	return f, nil
}

// read opens a core, which may be compressed.
func read(r io.ReaderAt, size int64, o OpenOptions) (*File, error) {
	src, err := packed.NewSource(r, size, packed.OpenOptions(o))
	if packed.IsDamaged(err) {
		err = &PackedError{err}
	}
	if err != nil {
		return nil, err
	}
	f, err := newFile(src)
	if err != nil {
		src.Close()
		return nil, err
	}
	return f, nil
}

func newFile(src *packed.Source) (*File, error) {
	f := &File{r: src.ReaderAt, size: src.Size(), src: src}
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
