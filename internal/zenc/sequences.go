package zenc

import (
	"encoding/binary"
	"math/bits"
)

// sequence is so many literals, and a match.
type sequence struct {
	lits, match uint32 // lengths in bytes
	value       uint32 // of the offset: 1 to 3 are the last ones, others 3 more than it
	litCode     uint8
	matchCode   uint8
	valueCode   uint8
}

// Codes stand for ranges of lengths; the lower bits of a length tell which of them it is.
var (
	litCodes = codesOf([]uint8{16: 1, 1, 1, 1, 2, 2, 3, 3, 4})
	litBits  = [64]uint8{16: 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

	matchCodes = codesOf([]uint8{32: 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5})
	matchBits  = [64]uint8{32: 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
)

// codesOf returns the code of each length from 0 on, from the bits of each code.
func codesOf(bits []uint8) (codes []uint8) {
	for code, b := range bits {
		for range 1 << b {
			codes = append(codes, uint8(code))
		}
	}
	return codes
}

// log is the largest power of two that is no more than n.
func log(n uint32) uint8 { return uint8(bits.Len32(n) - 1) }

func (s *sequence) encode() {
	if s.litCode = log(s.lits) + 19; int(s.lits) < len(litCodes) {
		s.litCode = litCodes[s.lits]
	}
	n := s.match - shortest
	if s.matchCode = log(n) + 36; int(n) < len(matchCodes) {
		s.matchCode = matchCodes[n]
	}
	s.valueCode = log(s.value)
}

// shortest is the length of the match of the first code.
const shortest = 3

// sequences appends the sequences of the block. false: they are as long as the block.
func (e *Encoder) sequences(dst []byte) ([]byte, bool) {
	seqs := e.seqs[:e.seqCount]
	switch n := len(seqs); {
	case n == 0:
		return append(dst, 0), true
	case n < 0x80:
		dst = append(dst, byte(n))
	case n < 0x7f00:
		dst = append(dst, byte(n>>8+0x80), byte(n))
	default:
		dst = append(dst, 0xff, byte(n-0x7f00), byte((n-0x7f00)>>8))
	}
	coders := [...]*coder{&e.litLen, &e.offset, &e.matchLen}
	for _, c := range coders {
		c.count = [maxCodes]uint32{}
	}
	for i := range seqs {
		s := &seqs[i]
		s.encode()
		e.litLen.count[s.litCode%maxCodes]++
		e.offset.count[s.valueCode%maxCodes]++
		e.matchLen.count[s.matchCode%maxCodes]++
	}
	e.litLen.build(len(seqs), 9)
	e.offset.build(len(seqs), 8)
	e.matchLen.build(len(seqs), 9)
	dst = append(dst, e.litLen.mode()<<6|e.offset.mode()<<4|e.matchLen.mode()<<2)
	for _, c := range coders {
		dst = c.appendTable(dst)
	}
	n := e.stream(seqs)
	return append(dst, e.bits[:n]...), n > 0
}

// stream writes the sequences from the last one to the first, because the decoder reads them
// backwards. It returns how many bytes that are, 0 if they would be more than a block.
func (e *Encoder) stream(seqs []sequence) int {
	var acc uint64 // bits that are not written yet
	var n uint8    // how many
	at := 0
	s := &seqs[len(seqs)-1]
	lit, offset, match := e.litLen.first(s.litCode), e.offset.first(s.valueCode), e.matchLen.first(s.matchCode)
	for i := len(seqs) - 1; ; i-- {
		if at > MaxBlock-16 {
			return 0
		}
		// The base of a code has zeros where the bits are that are written. In a block, both
		// lengths have 31 such bits at most, and the offset has 18.
		lb, mb, ob := litBits[s.litCode%maxCodes]%32, matchBits[s.matchCode%maxCodes]%32, s.valueCode%32
		x := uint64(s.lits&(1<<lb-1)) | uint64((s.match-shortest)&(1<<mb-1))<<lb | uint64(s.value&(1<<ob-1))<<((lb+mb)%64)
		acc |= x << (n % 64)
		if n += lb + mb + ob; n > 64-3*maxLog || i == 0 {
			binary.LittleEndian.PutUint64(e.bits[at&(MaxBlock-1):], acc)
			at, acc, n = at+int(n/8), acc>>(n&^7), n%8
		}
		if i == 0 {
			break
		}
		s = &seqs[i-1]
		x1, b1 := e.offset.next(&offset, s.valueCode)
		x2, b2 := e.matchLen.next(&match, s.matchCode)
		x3, b3 := e.litLen.next(&lit, s.litCode)
		acc |= (uint64(x1) | (uint64(x2)|uint64(x3)<<(b2%64))<<(b1%64)) << (n % 64)
		n += b1 + b2 + b3
		binary.LittleEndian.PutUint64(e.bits[at&(MaxBlock-1):], acc)
		at, acc, n = at+int(n/8), acc>>(n&^7), n%8
	}
	put := func(x uint32, b uint8) { acc, n = acc|uint64(x&(1<<b-1))<<n, n+b }
	put(match, e.matchLen.log)
	put(offset, e.offset.log)
	put(lit, e.litLen.log)
	put(1, 1) // the end
	binary.LittleEndian.PutUint64(e.bits[at&(MaxBlock-1):], acc)
	return at + int(n+7)/8
}
