package candidates

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"

	"github.com/procmem/procmem/search"
)

// ErrFormat reports that a file is no file of candidates.
var ErrFormat = errors.New("not a file of candidates, as procmem search --save writes them")

// DamagedError reports that a file of candidates is not as it was written.
type DamagedError struct {
	Off int64 // in the file, in bytes
	Why string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("the file of candidates is damaged: at offset %d: %s", e.Off, e.Why)
}

// Reader reads a file of candidates from front to back. It is not safe for concurrent use.
type Reader struct {
	r     io.Reader
	off   int64
	info  Info
	next  uint64 // the least page number that may come
	total uint64
}

// Open reads the head of a file of candidates from r, which should be buffered. It fails with
// ErrFormat, a *DamagedError, or as r does, or if another version of procmem wrote the file.
func Open(r io.Reader) (*Reader, error) {
	c := &Reader{r: r}
	var magic [len(fileMagic)]byte
	if err := c.read(magic[:]); err != nil || string(magic[:]) != fileMagic {
		if _, cut := errors.AsType[*DamagedError](err); err != nil && !cut {
			return nil, err
		}
		if v := len(fileMagic) - 2; string(magic[:v]) == fileMagic[:v] {
			return nil, errors.New("the file of candidates was written by another version of procmem")
		}
		return nil, ErrFormat
	}
	var b [8]byte
	if err := c.read(b[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(b[:])
	if n > maxHeadBytes {
		return nil, c.damaged("a head of %d bytes", n)
	}
	text := make([]byte, n)
	if err := c.read(text); err != nil {
		return nil, err
	}
	if crc32.Checksum(text, castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return nil, c.damaged("wrong checksum of the head")
	}
	var head fileHead
	err := json.Unmarshal(text, &head)
	if err == nil {
		c.info = head.Info
		c.info.Type, err = search.ParseType(head.TypeName)
	}
	if err == nil {
		err = c.info.check()
	}
	if err != nil {
		return nil, c.damaged("its head makes no sense: %v", err)
	}
	return c, nil
}

// Info returns what the candidates have in common.
func (c *Reader) Info() Info { return c.info }

// All yields the candidates that have not been read yet, ascending. An error ends the sequence:
// a *DamagedError, or that of the underlying reader.
func (c *Reader) All() iter.Seq2[Candidate, error] {
	return func(yield func(Candidate, error) bool) {
		var raw []byte
		var f frame
		for {
			var err error
			if raw, err = c.frame(raw); errors.Is(err, io.EOF) {
				return
			}
			if err == nil {
				err = c.decode(&f, raw)
			}
			if err != nil {
				yield(Candidate{}, err)
				return
			}
			for a, v := range f.all(&c.info) {
				if !yield(Candidate{Addr: a, Value: v}, nil) {
					return
				}
			}
		}
	}
}

func (c *Reader) damaged(format string, args ...any) error {
	return &DamagedError{c.off, fmt.Sprintf(format, args...)}
}

// read fills p.
func (c *Reader) read(p []byte) error {
	n, err := io.ReadFull(c.r, p)
	c.off += int64(n)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return c.damaged("it is cut off there")
	}
	return err
}

// frame reads the bytes of the next frame, whose checksum is right, into buf or a larger one.
// io.EOF is the end of a whole file.
func (c *Reader) frame(buf []byte) ([]byte, error) {
	var b [8]byte
	if err := c.read(b[:]); err != nil {
		return buf, err
	}
	n, sum := binary.LittleEndian.Uint32(b[:]), binary.LittleEndian.Uint32(b[4:])
	if n == 0 {
		return buf, c.end(sum)
	}
	if n > maxFrameBytes {
		return buf, c.damaged("a frame of %d bytes", n)
	}
	if uint32(cap(buf)) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if err := c.read(buf); err != nil {
		return buf, err
	}
	if crc32.Checksum(buf, castagnoli) != sum {
		return buf, c.damaged("wrong checksum of %d bytes", n)
	}
	return buf, nil
}

// end reads what follows the last frame, and returns io.EOF if that is right.
func (c *Reader) end(sum uint32) error {
	var b [9]byte
	if err := c.read(b[:8]); err != nil {
		return err
	}
	if crc32.Checksum(b[:8], castagnoli) != sum {
		return c.damaged("wrong checksum of the end")
	}
	if n := binary.LittleEndian.Uint64(b[:]); n != c.total {
		return c.damaged("it holds %d candidates, and should hold %d", c.total, n)
	}
	if n, err := io.ReadFull(c.r, b[8:]); n > 0 {
		return c.damaged("something follows the end")
	} else if err != io.EOF {
		return err
	}
	return io.EOF
}

// decode reads a frame into f. It must be called for each in order, before the next is read.
func (c *Reader) decode(f *frame, raw []byte) error {
	if err := f.decode(&c.info, raw); err != nil {
		return c.damaged("%v", err)
	}
	first, last := f.pages[0].number, f.pages[len(f.pages)-1].number
	if first < c.next {
		return c.damaged("addresses do not ascend")
	}
	c.next = last + 1
	c.total += uint64(len(f.slots))
	return nil
}
