package candidates

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"math/bits"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/search"
)

// A file of candidates holds the places where a wanted value may be, with what each held when
// it was last looked at. It is written and read as a stream, and in frames, each of which can
// be worked on alone:
//
//	"procmem candidates 1\n"
//	length, CRC-32C and bytes of the head: Info in JSON
//	frames: length, CRC-32C and bytes
//	0, CRC-32C of the next 8 bytes, and the number of candidates in them
//
// Numbers in front are 4 bytes long, little endian, as is all else. A frame is
// pages, ascending over the whole file:
//
//	number of the page, less one more than that of the page before (uvarint);
//	of the first page in a frame: the number itself
//	one byte: how the places are written (bits 0 and 1), and the values (bits 2 and 3)
//	the places, in units of the alignment:
//	  0  all that there are
//	  1  a bitmap
//	  2  how many (uvarint), the first, and of the others how many are between it and the one before (uvarint each)
//	the values:
//	  0  one after the other
//	  1  one, which all have
//	  2  a bitmap of those that are not zero, and these
//
// whichever is shortest.
const fileMagic = "procmem candidates 1\n"

// Limits of what is in a frame, which bound the memory that it takes to work
// on one.
const (
	maxFrameCandidates = 64 << 10
	maxFramePages      = 4096
	maxFrameBytes      = 1 << 20
	maxHeadBytes       = 64 << 10
)

// maxSlots is how many candidates one page can hold.
const maxSlots = procmem.PageSize

const (
	placesAll = iota
	placesBitmap
	placesList
)

const (
	valuesRaw = iota
	valuesSame
	valuesSparse
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Origin is the memory in which candidates were found.
type Origin struct {
	PID     int    `json:"pid,omitempty"`     // 0 where a core does not tell
	Start   uint64 `json:"start,omitempty"`   // of the process, in clock ticks after boot; 0 for a core
	Boot    string `json:"boot,omitempty"`    // which boot of the machine that was; "" for a core
	Program uint32 `json:"program,omitempty"` // tells the programs apart that one process has executed
	Core    string `json:"core,omitempty"`    // the path; "" for a process
}

// Info is what all candidates of a file have in common.
type Info struct {
	Type      search.Type `json:"-"`
	Align     int         `json:"align"` // in bytes
	BigEndian bool        `json:"big_endian"`
	Word      int         `json:"word"` // bytes of a pointer
	Origin    Origin      `json:"origin"`
}

// fileHead is the head of a file.
type fileHead struct {
	TypeName string `json:"type"`
	Info
}

// Options returns the options with which a value for these candidates is
// parsed.
func (i *Info) Options() search.ValueOptions {
	return search.ValueOptions{Align: i.Align, BigEndian: i.BigEndian, Word: i.Word}
}

// size returns the bytes of a value.
func (i *Info) size() int { return i.Type.Size(i.Word) }

// unit returns the bytes between two places in a page that are told apart.
func (i *Info) unit() int {
	return min(procmem.PageSize, 1<<bits.TrailingZeros(uint(i.Align)))
}

// check returns why no candidates can be like this.
func (i *Info) check() error {
	if i.Word != 4 && i.Word != 8 {
		return fmt.Errorf("pointers of %d bytes", i.Word)
	}
	if i.Align < 1 || i.Align > 1<<30 {
		return fmt.Errorf("an alignment of %d bytes", i.Align)
	}
	return nil
}

// Candidate is an address at which the value that is looked for may be.
type Candidate struct {
	Addr  procmem.Addr
	Value []byte // when it was last looked at
	Now   []byte // by Narrow: what is there now
}

// Writer writes a file of candidates. The file is complete after
// Close. It is not safe for concurrent use.
type Writer struct {
	w      io.Writer
	info   Info
	size   int
	enc    frameEncoder
	page   uint64 // for which slots and values are
	slots  []uint16
	values []byte
	next   uint64 // the least address that may come
	total  uint64
}

// NewWriter returns a writer of candidates to w, and writes the
// head of the file.
func NewWriter(w io.Writer, info Info) (*Writer, error) {
	if err := info.check(); err != nil {
		return nil, fmt.Errorf("write candidates: %w", err)
	}
	head, err := json.Marshal(fileHead{info.Type.String(), info})
	if err != nil {
		return nil, err
	}
	if len(head) > maxHeadBytes {
		return nil, errors.New("write candidates: the name of the core is too long")
	}
	b := binary.LittleEndian.AppendUint32([]byte(fileMagic), uint32(len(head)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(head, castagnoli))
	if _, err := w.Write(append(b, head...)); err != nil {
		return nil, err
	}
	return &Writer{w: w, info: info, size: info.size(), enc: newFrameEncoder(&info)}, nil
}

// Info returns the argument of NewWriter.
func (w *Writer) Info() Info { return w.info }

// Count returns how many candidates have been added.
func (w *Writer) Count() uint64 { return w.total }

// Add adds a candidate. Its address must be above the one before it, and
// aligned.
func (w *Writer) Add(a procmem.Addr, value []byte) error {
	unit := uint64(w.enc.unit)
	if uint64(a) < w.next || uint64(a) > math.MaxUint64-uint64(w.size) || uint64(a)%unit != 0 || len(value) != w.size {
		return fmt.Errorf("write candidates: %v does not fit", a)
	}
	if page := uint64(a) / procmem.PageSize; page != w.page {
		if err := w.flushPage(); err != nil {
			return err
		}
		w.page = page
	}
	w.slots = append(w.slots, uint16(uint64(a)%procmem.PageSize/unit))
	w.values = append(w.values, value...)
	w.next = uint64(a) + 1
	w.total++
	return nil
}

// flushPage ends the page that Add has gathered.
func (w *Writer) flushPage() error {
	if len(w.slots) == 0 {
		return nil
	}
	w.enc.page(w.page, w.slots, w.values)
	w.slots, w.values = w.slots[:0], w.values[:0]
	if len(w.enc.out) < maxFrameBytes {
		return nil
	}
	return w.flush()
}

// flush writes the frames that Add has made.
func (w *Writer) flush() error {
	w.enc.seal()
	_, err := w.w.Write(w.enc.out)
	w.enc.reset()
	return err
}

// frames writes what another encoder has made, of pages above all that came
// before. A file is written by this or by Add.
func (w *Writer) frames(e *frameEncoder) error {
	if e.total == 0 {
		return nil
	}
	e.seal()
	w.total += e.total
	_, err := w.w.Write(e.out)
	return err
}

// Close writes the end of the file. It does not close the underlying writer.
func (w *Writer) Close() error {
	if err := w.flushPage(); err != nil {
		return err
	}
	if err := w.flush(); err != nil {
		return err
	}
	count := binary.LittleEndian.AppendUint64(nil, w.total)
	end := binary.LittleEndian.AppendUint32(make([]byte, 4), crc32.Checksum(count, castagnoli))
	_, err := w.w.Write(append(end, count...))
	return err
}

// frameEncoder makes frames of pages.
type frameEncoder struct {
	size, unit int
	out        []byte // whole frames, and one that is not sealed
	open       bool   // there is one
	at         int    // where it begins
	candidates int    // in it
	pages      int
	last       uint64 // number of the last page
	total      uint64 // candidates in all frames
}

func newFrameEncoder(info *Info) frameEncoder {
	return frameEncoder{size: info.size(), unit: info.unit()}
}

// reset forgets all frames.
func (e *frameEncoder) reset() { *e = frameEncoder{size: e.size, unit: e.unit, out: e.out[:0]} }

// page adds a page with at least one candidate. Without slots, values are of
// all places.
func (e *frameEncoder) page(number uint64, slots []uint16, values []byte) {
	n := len(values) / e.size
	if e.open && (e.candidates+n > maxFrameCandidates || e.pages == maxFramePages) {
		e.seal()
	}
	delta := number - e.last - 1
	if !e.open {
		e.open, e.at, delta = true, len(e.out), number
		e.out = append(e.out, make([]byte, 8)...)
	}
	e.last = number
	e.candidates += n
	e.pages++
	e.total += uint64(n)
	e.out = binary.AppendUvarint(e.out, delta)
	kind := len(e.out)
	e.out = append(e.out, 0)
	e.out[kind] = e.places(slots) | e.values(values)<<2
}

// places appends the places of candidates, and returns how.
func (e *frameEncoder) places(slots []uint16) byte {
	all := procmem.PageSize / e.unit
	if slots == nil || len(slots) == all {
		return placesAll
	}
	size := uvarintLen(len(slots))
	before := -1
	for _, s := range slots {
		size += uvarintLen(int(s) - before - 1)
		before = int(s)
	}
	if bitmap := (all + 7) / 8; bitmap <= size {
		at := len(e.out)
		e.out = append(e.out, zeroBitmap[:bitmap]...)
		for _, s := range slots {
			e.out[at+int(s/8)] |= 1 << (s % 8)
		}
		return placesBitmap
	}
	e.out = binary.AppendUvarint(e.out, uint64(len(slots)))
	before = -1
	for _, s := range slots {
		e.out = binary.AppendUvarint(e.out, uint64(int(s)-before-1))
		before = int(s)
	}
	return placesList
}

var zeroBitmap [maxSlots / 8]byte

func uvarintLen(n int) int {
	if n < 1<<7 {
		return 1
	}
	return 2 // no more than 4096
}

// values appends the values of candidates, and returns how.
func (e *frameEncoder) values(values []byte) byte {
	if bytes.Equal(values[e.size:], values[:len(values)-e.size]) {
		e.out = append(e.out, values[:e.size]...)
		return valuesSame
	}
	n := len(values) / e.size
	bitmap := (n + 7) / 8
	if bitmap+countNonZero(values, e.size)*e.size >= len(values) {
		e.out = append(e.out, values...)
		return valuesRaw
	}
	at := len(e.out)
	e.out = append(e.out, zeroBitmap[:bitmap]...)
	for i := range n {
		if v := values[i*e.size:][:e.size]; !isZero(v) {
			e.out[at+i/8] |= 1 << (i % 8)
			e.out = append(e.out, v...)
		}
	}
	return valuesSparse
}

// countNonZero returns how many of the values are not zero.
func countNonZero(values []byte, size int) (n int) {
	switch size {
	case 4:
		for ; len(values) >= 4; values = values[4:] {
			if binary.LittleEndian.Uint32(values) != 0 {
				n++
			}
		}
	case 8:
		for ; len(values) >= 8; values = values[8:] {
			if binary.LittleEndian.Uint64(values) != 0 {
				n++
			}
		}
	default:
		for ; len(values) > 0; values = values[size:] {
			if !isZero(values[:size]) {
				n++
			}
		}
	}
	return n
}

// isZero reports whether a value is all zeros.
func isZero(v []byte) bool { return string(v) == string(zeroBitmap[:len(v)]) }

// seal ends the frame that pages are added to.
func (e *frameEncoder) seal() {
	if !e.open {
		return
	}
	b := e.out[e.at:]
	binary.LittleEndian.PutUint32(b, uint32(len(b)-8))
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
	e.open, e.candidates, e.pages = false, 0, 0
}
