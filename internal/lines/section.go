package lines

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/elffile"
)

// errDamaged reports debug information that makes no sense.
var errDamaged = errors.New("its debug information is damaged")

// errWork reports that files have had more work than they are worth.
var errWork = errors.New("debug information is no longer read: there was too much of it")

// source is the file that sections are of.
type source struct {
	elf   *elffile.File
	cache *Cache
	room  uint64 // bytes of sections that may still be unpacked
}

// section is one of debug information. What is packed is unpacked when it is first read, and
// kept; otherwise only what is asked for is read.
type section struct {
	from   *source
	header elffile.Section
	there  bool
	size   uint64
	loaded bool
	data   []byte // if packed
	err    error
}

func (s *section) load() {
	if s.loaded {
		return
	}
	s.loaded = true
	if s.size = s.header.Size; !s.header.Compressed {
		return
	}
	if s.data, s.err = s.unpack(); s.err == nil {
		s.size = uint64(len(s.data))
		s.from.room -= s.size
		s.from.cache.left -= int64(s.size)
	}
}

// unpack puts what is in s into memory of its own: so much of it would make the garbage
// collector wait for as much again.
func (s *section) unpack() ([]byte, error) {
	size, err := s.from.elf.UnpackedSize(s.header)
	switch {
	case err != nil:
		return nil, err
	case size > s.from.room:
		return nil, &elffile.TooLargeError{Size: size, Most: s.from.room}
	case size > elffile.MaxRatio*s.header.Size || size == 0:
		return nil, errDamaged
	}
	b, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, err
	}
	if err := s.from.elf.Unpack(s.header, b); err != nil {
		return nil, errors.Join(err, unix.Munmap(b))
	}
	return b, nil
}

func (s *section) close() {
	if s.data != nil {
		_ = unix.Munmap(s.data) // it cannot fail: it is ours, and whole
		s.data, s.err = nil, errClosed
	}
}

var errClosed = errors.New("it is closed")

// upTo reads n bytes at off, or as many as there are.
func (s *section) upTo(off, n uint64) ([]byte, error) {
	s.load()
	switch {
	case s.err != nil:
		return nil, s.err
	case !s.there || off > s.size:
		return nil, errDamaged
	}
	n = min(n, s.size-off)
	if s.from.cache.left -= int64(n) + 64; s.from.cache.left < 0 {
		return nil, errWork
	}
	if s.header.Compressed {
		return s.data[off : off+n], nil
	}
	return s.from.elf.Part(s.header.Off+off, n)
}

// exactly reads n bytes at off.
func (s *section) exactly(off, n uint64) ([]byte, error) {
	b, err := s.upTo(off, n)
	if err == nil && uint64(len(b)) < n {
		return nil, fmt.Errorf("%w: %d bytes at offset %#x", errDamaged, n, off)
	}
	return b, err
}

// maxText is the longest name or path in bytes.
const maxText = 4 << 10

// text reads a string that ends with a zero, or the beginning of one that is too long.
func (s *section) text(off uint64) string {
	for _, n := range []uint64{128, maxText} {
		b, err := s.upTo(off, n)
		if err != nil {
			return ""
		}
		if end := bytes.IndexByte(b, 0); end >= 0 {
			return string(b[:end])
		} else if n == maxText {
			return string(b)
		}
	}
	return ""
}
