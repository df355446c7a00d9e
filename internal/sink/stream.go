package sink

import (
	"io"
	"sync"

	"github.com/procmem/procmem/internal/pageset"
)

// streamBlock is how much a Stream writes at once.
const streamBlock = 1 << 20

// Stream writes a File from front to back, in blocks that suit direct I/O. The file is complete
// after Flush. It is safe for concurrent use.
type Stream struct {
	f   *File
	mu  sync.Mutex
	buf []byte
	off int64 // of buf in the file
}

// NewStream returns a stream that begins at the start of f.
func NewStream(f *File) *Stream {
	return &Stream{f: f, buf: pageset.Buffer(streamBlock)[:0]}
}

func (s *Stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for n < len(p) {
		k := min(len(p)-n, cap(s.buf)-len(s.buf))
		s.buf = append(s.buf, p[n:n+k]...)
		n += k
		if len(s.buf) == cap(s.buf) {
			if err := s.flush(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// Flush writes what is still in memory.
func (s *Stream) Flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flush()
}

func (s *Stream) flush() error {
	if len(s.buf) == 0 {
		return nil
	}
	if _, err := s.f.WriteAt(s.buf, s.off); err != nil {
		return err
	}
	s.off += int64(len(s.buf))
	s.buf = s.buf[:0]
	return nil
}

// ReadAt reads what has been written.
func (s *Stream) ReadAt(p []byte, off int64) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if off < s.off {
		m := int(min(int64(len(p)), s.off-off))
		if n, err = s.f.ReadAt(p[:m], off); n < m {
			return n, err
		}
	}
	if at := off + int64(n) - s.off; at < int64(len(s.buf)) {
		n += copy(p[n:], s.buf[max(at, 0):])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Overwrite replaces bytes that have been written, from off on.
func (s *Stream) Overwrite(p []byte, off int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	inFile := min(max(s.off-off, 0), int64(len(p)))
	copy(s.buf[max(off-s.off, 0):], p[inFile:])
	if inFile == 0 {
		return nil
	}
	_, err := s.f.WriteAt(p[:inFile], off)
	return err
}

// Rewind makes the file empty again.
func (s *Stream) Rewind() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf, s.off = s.buf[:0], 0
	return s.f.Truncate(0)
}
