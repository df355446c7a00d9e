package sink

import "github.com/procmem/procmem/internal/pageset"

// streamBlock is how much a Stream writes at once.
const streamBlock = 1 << 20

// Stream writes a File from front to back, in blocks that are fit for direct
// I/O. Flush must come last.
type Stream struct {
	f   *File
	buf []byte
	off int64 // of buf in the file
}

// NewStream begins at the start of the file.
func NewStream(f *File) *Stream {
	return &Stream{f: f, buf: pageset.Buffer(streamBlock)[:0]}
}

func (s *Stream) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		k := min(len(p)-n, cap(s.buf)-len(s.buf))
		s.buf = append(s.buf, p[n:n+k]...)
		n += k
		if len(s.buf) == cap(s.buf) {
			if err := s.Flush(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// Flush writes what is left.
func (s *Stream) Flush() error {
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
