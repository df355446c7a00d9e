package lines

import (
	"bytes"
	"encoding/binary"
)

// cursor reads what DWARF is made of. What is behind the end is zero, and makes the cursor bad.
type cursor struct {
	b        []byte
	at       int
	bad      bool
	wide     bool // offsets have 64 bits: DWARF's own 64-bit format
	addrSize int
}

// take returns the next n bytes, nil if there are fewer.
func (c *cursor) take(n uint64) []byte {
	if c.bad || n > uint64(len(c.b)-c.at) {
		c.bad, c.at = true, len(c.b)
		return nil
	}
	b := c.b[c.at : c.at+int(n)]
	c.at += int(n)
	return b
}

func (c *cursor) done() bool { return c.bad || c.at >= len(c.b) }

// uint reads an integer of 1, 2, 3, 4 or 8 bytes.
func (c *cursor) uint(n int) uint64 {
	var wide [8]byte
	copy(wide[:], c.take(uint64(n)))
	return binary.LittleEndian.Uint64(wide[:])
}

func (c *cursor) u8() uint8 {
	if c.bad || c.at >= len(c.b) {
		c.bad = true
		return 0
	}
	c.at++
	return c.b[c.at-1]
}

func (c *cursor) offset() uint64 {
	if c.wide {
		return c.uint(8)
	}
	return c.uint(4)
}

func (c *cursor) addr() uint64 { return c.uint(c.addrSize) }

func (c *cursor) uleb() (v uint64) {
	for shift := uint(0); ; shift += 7 {
		b := c.u8()
		if shift < 64 {
			v |= uint64(b&0x7f) << shift
		}
		if b&0x80 == 0 {
			return v
		}
	}
}

func (c *cursor) sleb() (v int64) {
	for shift := uint(0); ; {
		b := c.u8()
		if shift < 64 {
			v |= int64(b&0x7f) << shift
		}
		shift += 7
		if b&0x80 == 0 {
			if shift < 64 && b&0x40 != 0 {
				v |= -1 << shift
			}
			return v
		}
	}
}

// text reads a string that ends with a zero.
func (c *cursor) text() []byte {
	n := bytes.IndexByte(c.b[c.at:], 0)
	if c.bad || n < 0 {
		c.bad, c.at = true, len(c.b)
		return nil
	}
	b := c.b[c.at : c.at+n]
	c.at += n + 1
	return b
}

// length reads the length of a unit, and learns which format it has.
func (c *cursor) length() uint64 {
	n := c.uint(4)
	c.wide = n == 0xffffffff
	if c.wide {
		return c.uint(8)
	}
	return n
}

// small returns n, or a number that means nothing here.
func small(n uint64) uint16 {
	if n > 0xffff {
		return 0xffff
	}
	return uint16(n)
}
