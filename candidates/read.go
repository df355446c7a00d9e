package candidates

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"math"
	"math/bits"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/search"
)

// ErrFormat reports that a file is no file of candidates.
var ErrFormat = errors.New("not a file of candidates, as procmem search --save writes them")

// DamagedError reports that a file of candidates is not as it was written.
type DamagedError struct {
	Off int64 // in the file
	Why string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("the file of candidates is damaged: at offset %d: %s", e.Off, e.Why)
}

// Reader reads a file of candidates from front to back. It is not
// safe for concurrent use.
type Reader struct {
	r     io.Reader
	off   int64
	info  Info
	next  uint64 // the least page number that may come
	total uint64
}

// Open reads the head of a file of candidates from r, which should
// be buffered. It fails with ErrFormat, a *DamagedError, or as r does.
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

// All yields the candidates that have not been read yet, ascending. Their
// values are valid until the next one. An error ends the sequence.
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

// frame reads the bytes of the next frame, whose checksum is right, into buf
// or a larger one. io.EOF is the end of a whole file.
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

// end reads what follows the last frame, and returns io.EOF where that is
// right.
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

// decode reads a frame into f. It must be called for each in order, before the
// next is read.
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

// frame is a frame in memory.
type frame struct {
	pages  []framePage
	slots  []uint16 // of all pages
	values []byte
}

// framePage is a page, of which the candidates up to end are.
type framePage struct {
	number uint64
	end    int // in slots
}

// all yields the candidates of the frame.
func (f *frame) all(info *Info) iter.Seq2[procmem.Addr, []byte] {
	size, unit := info.size(), info.unit()
	return func(yield func(procmem.Addr, []byte) bool) {
		i := 0
		for _, p := range f.pages {
			base := procmem.Addr(p.number * procmem.PageSize)
			for ; i < p.end; i++ {
				if !yield(base+procmem.Addr(int(f.slots[i])*unit), f.values[i*size:][:size]) {
					return
				}
			}
		}
	}
}

// frameDecoder reads the bytes of a frame.
type frameDecoder struct {
	b          []byte
	size, unit int
}

var errFrame = errors.New("a frame makes no sense, although its checksum is right")

// decode reads a frame.
func (f *frame) decode(info *Info, b []byte) error {
	f.pages, f.slots, f.values = f.pages[:0], f.slots[:0], f.values[:0]
	d := frameDecoder{b, info.size(), info.unit()}
	for len(d.b) > 0 {
		if len(f.pages) == maxFramePages || len(f.slots) > maxFrameCandidates {
			return errFrame
		}
		if err := d.page(f); err != nil {
			return err
		}
	}
	return nil
}

const lastPage = math.MaxUint64 / procmem.PageSize

// page reads one page.
func (d *frameDecoder) page(f *frame) error {
	number, ok := d.uvarint()
	if !ok || number > lastPage {
		return errFrame
	}
	if k := len(f.pages); k > 0 {
		number += f.pages[k-1].number + 1
	}
	if number > lastPage || len(d.b) == 0 {
		return errFrame
	}
	kind := d.b[0]
	d.b = d.b[1:]
	from := len(f.slots)
	if !d.places(f, kind&3) || kind>>4 != 0 {
		return errFrame
	}
	n := len(f.slots) - from
	end := int(f.slots[len(f.slots)-1])*d.unit + d.size
	if n == 0 || number == lastPage && end >= procmem.PageSize {
		return errFrame
	}
	if !d.values(f, kind>>2, n) {
		return errFrame
	}
	f.pages = append(f.pages, framePage{number, len(f.slots)})
	return nil
}

func (d *frameDecoder) uvarint() (uint64, bool) {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		return 0, false
	}
	d.b = d.b[n:]
	return v, true
}

// take returns the next n bytes.
func (d *frameDecoder) take(n int) ([]byte, bool) {
	if len(d.b) < n {
		return nil, false
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p, true
}

// places reads the places of a page, at least one.
func (d *frameDecoder) places(f *frame, kind byte) bool {
	all := procmem.PageSize / d.unit
	switch kind {
	case placesAll:
		for i := range all {
			f.slots = append(f.slots, uint16(i))
		}
		return true
	case placesBitmap:
		before := len(f.slots)
		p, ok := d.take((all + 7) / 8)
		if !ok || all < 8 && p[0]>>all != 0 {
			return false
		}
		f.slots = appendBits(f.slots, p)
		return len(f.slots) > before
	case placesList:
		return d.list(f, all)
	}
	return false
}

// appendBits appends the numbers of the bits that are set.
func appendBits(slots []uint16, p []byte) []uint16 {
	for i, b := range p {
		for ; b != 0; b &= b - 1 {
			slots = append(slots, uint16(i*8+bits.TrailingZeros8(b)))
		}
	}
	return slots
}

func (d *frameDecoder) list(f *frame, all int) bool {
	n, ok := d.uvarint()
	if !ok || n == 0 || n > uint64(all) {
		return false
	}
	at := -1
	for range n {
		gap, ok := d.uvarint()
		if !ok || gap >= uint64(all) || at+1+int(gap) >= all {
			return false
		}
		at += 1 + int(gap)
		f.slots = append(f.slots, uint16(at))
	}
	return true
}

// values reads the values of n candidates.
func (d *frameDecoder) values(f *frame, kind byte, n int) bool {
	switch kind {
	case valuesRaw:
		p, ok := d.take(n * d.size)
		f.values = append(f.values, p...)
		return ok
	case valuesSame:
		p, ok := d.take(d.size)
		for range n {
			f.values = append(f.values, p...)
		}
		return ok
	case valuesSparse:
		p, ok := d.take((n + 7) / 8)
		if !ok || n%8 != 0 && p[len(p)-1]>>(n%8) != 0 {
			return false
		}
		for i := range n {
			v := zeroBitmap[:d.size]
			if p[i/8]>>(i%8)&1 != 0 {
				if v, ok = d.take(d.size); !ok {
					return false
				}
			}
			f.values = append(f.values, v...)
		}
		return true
	}
	return false
}
