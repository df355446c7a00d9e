package candidates

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"

	"github.com/procmem/procmem"
)

// Writer writes a file of candidates, which is complete after Close. It is not safe for
// concurrent use.
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

// NewWriter returns a Writer to w, and writes the head of the file. It fails if no candidates
// can be like info, or as w does.
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

// Add adds a candidate, and copies its value. It fails unless the address is aligned and above
// the one before, and the value has the size of the type. It also fails as the underlying
// writer does.
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

// frames writes what another encoder has made, of pages above all that came before. A file is
// written by this or by Add.
func (w *Writer) frames(e *frameEncoder) error {
	if e.total == 0 {
		return nil
	}
	e.seal()
	w.total += e.total
	_, err := w.w.Write(e.out)
	return err
}

// Close writes the end of the file. It fails as the underlying writer does, and does not close
// that.
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
