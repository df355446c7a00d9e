// Package zenc compresses frames of zstd (RFC 8878) quickly, and about as well as zstd's
// fastest level. One look at a small table finds matches, huff0 writes the literals, and each
// block has FSE tables of its own for the sequences.
package zenc

import (
	"encoding/binary"
	"errors"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/huff0"
)

const (
	// MaxFrame is how much a frame holds at most, in bytes.
	MaxFrame = 256 << 10
	// Behind is how many bytes there must be behind those of a frame, whatever they are.
	Behind = 8

	// MaxBlock is how much a block of a frame holds at most, by the format.
	MaxBlock = 128 << 10
	// Magic is what a frame begins with.
	Magic = 0xFD2FB528

	descriptor = 0xa4 // one segment, with a checksum, its size in four bytes
)

// Kinds of a block, and of literals.
const (
	raw        = 0
	repeated   = 1 // a byte
	compressed = 2
)

// Encoder compresses one frame after another. The zero value is ready for use. It takes about 1
// MiB of memory, and is not safe for concurrent use.
type Encoder struct {
	window  *Window
	recent  table
	offsets [2]int // the last ones; of the third the search makes no use

	// Of the block.
	seqs     [MaxBlock / minMatch]sequence
	seqCount int
	lits     [MaxBlock + wide]byte
	litCount int

	huff                     huff0.Scratch
	litLen, offset, matchLen coder
	bits                     [MaxBlock + 8]byte
}

// MaxLen returns the greatest length of the frame of n bytes, in bytes.
func MaxLen(n int) int { return 4 + 1 + 4 + 3*(n/MaxBlock+1) + n + 4 }

// Append appends a frame of the first n bytes of w to dst. The frame tells their number and
// their checksum.
func (e *Encoder) Append(dst []byte, w *Window, n int) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint32(dst, Magic)
	dst = append(dst, descriptor)
	dst = le.AppendUint32(dst, uint32(n))
	e.window = w
	e.recent = table{}
	e.offsets = [2]int{1, 4} // by the format
	for begin := 0; ; {
		end := min(begin+MaxBlock, n)
		dst = e.block(dst, begin, end, end == n)
		if begin = end; begin == n {
			break
		}
	}
	return le.AppendUint32(dst, uint32(xxhash.Sum64(w[:n])))
}

// block appends a block of that part of the window.
func (e *Encoder) block(dst []byte, begin, end int, last bool) []byte {
	before := e.offsets
	e.search(begin, end)
	head := len(dst)
	dst = append(dst, 0, 0, 0)
	dst, ok := e.sequences(e.literals(dst))
	kind, size := compressed, len(dst)-head-3
	if !ok || size >= end-begin {
		kind, size = raw, end-begin
		dst = append(dst[:head+3], e.window[begin:end]...)
		e.offsets = before // it tells none
	}
	h := size<<3 | kind<<1
	if last {
		h |= 1
	}
	dst[head], dst[head+1], dst[head+2] = byte(h), byte(h>>8), byte(h>>16)
	return dst
}

// Literals that are not worth a code: for so few, and those that it makes less than a sixteenth
// shorter.
const (
	fewLiterals = 64
	worth       = 4
)

// even reports whether no code makes these literals a sixteenth shorter: some of them are so
// evenly spread that their entropy is above 7.5 bits. It is no less than -log2 of how likely
// two of them are the same, which is what pairs tell.
func even(lits []byte) bool {
	const piece, every = 64, 2 << 10
	if len(lits) < 8*every {
		return false
	}
	var count [256]int
	n := 0
	for ; len(lits) >= every; lits = lits[every:] {
		for _, b := range lits[:piece] {
			count[b]++
		}
		n += piece
	}
	same := 0
	for _, c := range count {
		same += c * (c - 1)
	}
	return same*181 < n*(n-1) // 181 is 2 to the power of 7.5
}

// literals appends the literals of the block.
func (e *Encoder) literals(dst []byte) []byte {
	n, lits := e.litCount, e.lits[:e.litCount]
	one := n < 1<<10 // stream
	e.huff.Reuse, e.huff.WantLogLess = huff0.ReusePolicyNone, worth
	var packed []byte
	err := huff0.ErrIncompressible
	switch {
	case n < fewLiterals || even(lits):
	case one:
		packed, _, err = huff0.Compress1X(lits, &e.huff)
	default:
		packed, _, err = huff0.Compress4X(lits, &e.huff)
	}
	if err != nil {
		kind := raw
		if errors.Is(err, huff0.ErrUseRLE) {
			kind, lits = repeated, lits[:1]
		}
		switch {
		case n < 1<<5:
			dst = append(dst, byte(n<<3|kind))
		case n < 1<<12:
			dst = append(dst, byte(n<<4|1<<2|kind), byte(n>>4))
		default:
			dst = append(dst, byte(n<<4|3<<2|kind), byte(n>>4), byte(n>>12))
		}
		return append(dst, lits...)
	}
	switch m := len(packed); {
	case one:
		h := m<<14 | n<<4 | compressed
		dst = append(dst, byte(h), byte(h>>8), byte(h>>16))
	case n < 1<<14:
		dst = binary.LittleEndian.AppendUint32(dst, uint32(m<<18|n<<4|2<<2|compressed))
	default:
		h := m<<22 | n<<4 | 3<<2 | compressed
		dst = append(dst, byte(h), byte(h>>8), byte(h>>16), byte(h>>24), byte(h>>32))
	}
	return append(dst, packed...)
}
