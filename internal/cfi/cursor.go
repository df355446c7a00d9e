package cfi

import "encoding/binary"

// cursor reads what is in a table, one item after the other. After an error it reads zeros.
type cursor struct {
	b    []byte
	base uint64 // address of the first byte that was there
	at   int
	word int // bytes of an address
	err  error
}

func (c *cursor) fail(what string) {
	if c.err == nil {
		c.err = formatError("%s at %#x", what, c.addr())
	}
	c.at = len(c.b)
}

func (c *cursor) addr() uint64 { return c.base + uint64(c.at) }
func (c *cursor) more() bool   { return c.at < len(c.b) }

// take returns the next n bytes.
func (c *cursor) take(n uint64) []byte {
	if n > uint64(len(c.b)-c.at) {
		c.fail("cut off")
		return nil
	}
	b := c.b[c.at : c.at+int(n)]
	c.at += int(n)
	return b
}

// sub returns a cursor for the next n bytes alone.
func (c *cursor) sub(n uint64) cursor {
	base := c.addr()
	return cursor{b: c.take(n), base: base, word: c.word, err: c.err}
}

// fixed reads an unsigned number of 1, 2, 4 or 8 bytes.
func (c *cursor) fixed(n int) uint64 {
	b := c.take(uint64(n))
	if b == nil {
		return 0
	}
	switch n {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.LittleEndian.Uint16(b))
	case 4:
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return binary.LittleEndian.Uint64(b)
}

func (c *cursor) byte() byte { return byte(c.fixed(1)) }

// signed reads a number of n bytes with a sign.
func (c *cursor) signed(n int) int64 {
	shift := 64 - 8*n
	return int64(c.fixed(n)) << shift >> shift
}

// mostLEB is the bytes of the longest number of 64 bits. Padding may make one longer, which no
// compiler does.
const mostLEB = 10

// uleb reads an unsigned LEB128 number.
func (c *cursor) uleb() (v uint64) {
	for i := range mostLEB {
		b := c.byte()
		v |= uint64(b&0x7f) << (7 * i)
		if b&0x80 == 0 {
			return v
		}
	}
	c.fail("a number that is too long")
	return 0
}

// sleb reads a signed LEB128 number.
func (c *cursor) sleb() int64 {
	var v int64
	for i := range mostLEB {
		b := c.byte()
		v |= int64(b&0x7f) << (7 * i)
		if b&0x80 == 0 {
			if shift := 7 * (i + 1); shift < 64 && b&0x40 != 0 {
				v |= -1 << shift
			}
			return v
		}
	}
	c.fail("a number that is too long")
	return 0
}

// text reads a string that ends with NUL.
func (c *cursor) text() string {
	for i := c.at; i < len(c.b); i++ {
		if c.b[i] == 0 {
			s := string(c.b[c.at:i])
			c.at = i + 1
			return s
		}
	}
	c.fail("a string without an end")
	return ""
}

// Encodings of pointers, DW_EH_PE_*: how they are stored, and what they are relative to.
const (
	encAbs, encULEB, encU2, encU4, encU8 = 0x00, 0x01, 0x02, 0x03, 0x04
	encSigned, encSLEB                   = 0x08, 0x09
	encS2, encS4, encS8                  = 0x0a, 0x0b, 0x0c

	encPCRel, encDataRel, encAligned = 0x10, 0x30, 0x50
	encIndirect, encOmit             = 0x80, 0xff
)

// pointer reads an address. data is what encDataRel is relative to.
func (c *cursor) pointer(enc byte, data uint64) uint64 {
	if enc == encOmit {
		return 0
	}
	var base uint64
	switch enc & 0x70 {
	case encAbs:
	case encPCRel:
		base = c.addr()
	case encDataRel:
		base = data
	case encAligned:
		for c.err == nil && c.addr()%uint64(c.word) != 0 {
			c.byte()
		}
	default: // relative to text or a function: no system that procmem reads has these
		c.fail("a pointer of an unknown kind")
	}
	if enc&encIndirect != 0 {
		c.fail("a pointer to a pointer")
	}
	return c.mask(base + c.stored(enc&0x0f))
}

// stored reads the number of a pointer.
func (c *cursor) stored(format byte) uint64 {
	switch format {
	case encAbs:
		return c.fixed(c.word)
	case encSigned:
		return uint64(c.signed(c.word))
	case encULEB:
		return c.uleb()
	case encSLEB:
		return uint64(c.sleb())
	case encU2, encU4, encU8:
		return c.fixed(1 << (format - 1))
	case encS2, encS4, encS8:
		return uint64(c.signed(1 << (format - encSigned - 1)))
	}
	c.fail("a pointer of an unknown size")
	return 0
}

func (c *cursor) mask(v uint64) uint64 {
	if c.word == 4 {
		return uint64(uint32(v))
	}
	return v
}
