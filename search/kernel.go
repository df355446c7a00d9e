package search

import (
	"bytes"
	"encoding/binary"
	"math"
)

// vectorSize is what the functions of kernel_amd64.s take at once, in bytes.
const vectorSize = 32

// pair is two bytes of a pattern, which tell where it may be. One is v1 after it was masked
// with m1. The other, gap bytes behind it, is v2 after it was masked with m2.
type pair struct {
	gap            int
	v1, m1, v2, m2 byte
}

// index returns the first place of the pair in b, or -1.
func (p pair) index(b []byte) int {
	places := len(b) - p.gap
	switch {
	case places <= 0:
		return -1
	case hasVectors && places >= vectorSize:
		return pairVectors(b, p)
	}
	return p.indexGeneric(b)
}

func (p pair) indexGeneric(b []byte) int {
	places := len(b) - p.gap
	for i := 0; i < places; i++ {
		if p.m1 == 0xff {
			n := bytes.IndexByte(b[i:places], p.v1)
			if n < 0 {
				return -1
			}
			i += n
		}
		if b[i]&p.m1 == p.v1 && b[i+p.gap]&p.m2 == p.v2 {
			return i
		}
	}
	return -1
}

// indexRange returns the offset of the first number of size bytes in b that is in s, or -1.
// They lie one behind the other, little endian.
func indexRange(b []byte, size int, s valueRange) int {
	done := 0
	if hasVectors && len(b) >= vectorSize {
		done = len(b) &^ (vectorSize - 1)
		if i := rangeVectors(b[:done], size, s); i >= 0 {
			return i
		}
	}
	if i := indexRangeGeneric(b[done:], size, s); i >= 0 {
		return done + i
	}
	return -1
}

func indexRangeGeneric(b []byte, size int, s valueRange) int {
	keep := uint64(math.MaxUint64) >> (64 - 8*uint(size))
	i := 0
	for ; i+8 <= len(b); i += 8 {
		v := binary.LittleEndian.Uint64(b[i:])
		for k := 0; k < 8; k += size {
			if (v-s.first)&keep <= s.more {
				return i + k
			}
			v >>= uint(8*size) & 63
		}
	}
	for ; i+size <= len(b); i += size {
		if n := (number{size: size}); (n.load(b[i:])-s.first)&keep <= s.more {
			return i
		}
	}
	return -1
}

// printable puts a bit into bits for each byte of b, 64 into each word, the lowest first. The
// bit says whether the byte is one from blank to tilde, a tab, or has a bit of high. high is
// 0x80 or 0. If there are fewer bytes, the rest are zeros.
func printable(bits []uint64, b []byte, high byte) {
	if n := min(len(bits), len(b)/64); hasVectors && n > 0 {
		printableVectors(bits[:n], b, high)
		bits, b = bits[n:], b[64*n:]
	}
	printableGeneric(bits, b, high)
}

func printableGeneric(bits []uint64, b []byte, high byte) {
	clear(bits)
	for i, c := range b[:min(len(b), 64*len(bits))] {
		if isPrintable(c, high) {
			bits[i/64] |= 1 << (i % 64)
		}
	}
}

func isPrintable(c, high byte) bool { return c-' ' <= '~'-' ' || c == '\t' || c&high != 0 }
