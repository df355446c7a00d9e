package candidates

import (
	"encoding/binary"
	"errors"
	"iter"
	"math/bits"

	"github.com/procmem/procmem"
)

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
