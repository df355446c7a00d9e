package candidates

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"

	"github.com/procmem/procmem"
)

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

// page adds a page with at least one candidate. Without slots, values are of all places.
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
