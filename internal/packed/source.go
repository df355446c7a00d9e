package packed

import (
	"cmp"
	"fmt"
	"io"
	"os"

	"github.com/procmem/procmem/internal/pageset"
)

// Source is the plain bytes of a file, compressed or not.
type Source struct {
	io.ReaderAt
	name   string
	size   int64
	packed bool
	closer io.Closer
}

// Source opens a file of any content as Open does a core.
func (o Opener) Source(path string) (*Source, error) {
	// Opening a device may have an effect, and a pipe waits for its writer.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open %s: it is no regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, cmp.Or(notHere(path, err), err)
	}
	s, err := o.source(f, path)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return s, nil
}

func (o Opener) source(f *os.File, path string) (*Source, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	head := make([]byte, 4)
	if _, err := f.ReadAt(head, 0); err != nil || !IsPacked(head) {
		return &Source{f, path, info.Size(), false, f}, nil
	}
	r, size, closer, err := o.plain(f, head, path, "")
	if err != nil {
		return nil, err
	}
	return &Source{r, path, size, true, closer}, nil
}

// Name is that of the file.
func (s *Source) Name() string { return s.name }

// Size is that of the plain bytes.
func (s *Source) Size() int64 { return s.size }

// Packed reports whether the file is compressed.
func (s *Source) Packed() bool { return s.packed }

// Close closes the file.
func (s *Source) Close() error { return s.closer.Close() }

// NextData returns the first run of bytes at or behind off that is not known to
// be zeros: an empty one at the end where there is none.
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
