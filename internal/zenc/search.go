package zenc

import (
	"encoding/binary"
	"math/bits"
)

// Window holds what is compressed, and Behind bytes more.
type Window [MaxFrame + Behind]byte

// at cuts an index to what it can be, so that no bounds are checked. With a check of each
// index, the search takes a quarter longer.
func (w *Window) at(i int) uint64 { return binary.LittleEndian.Uint64(w[i&(MaxFrame-1):]) }

// table holds where bytes of a hash were seen last, 0 if they were not. It fits the first level
// of the cache. One of twice the size is slower, and compresses hardly better.
type table [1 << tableBits]uint32

const tableBits = 13

// hash is of the lower seven bytes. With six, heaps come out no smaller, and more of the
// matches are short, each of which takes its time.
func hash(v uint64) uint64 { return v << 8 * 0x9E3779B97F4A7C15 >> (64 - tableBits) }

const (
	// minMatch is how long a match is at least.
	minMatch = 4
	// margin is how many bytes before the end of a block the last search is. Eight bytes are
	// compared, twice, before the end is asked for.
	margin = 24
	// patience is the logarithm to base 2 of how many bytes without a match pass until every
	// second is skipped. After as many again, two of three are skipped, and so on.
	patience = 6
	// far is from where on the offset of a short match takes more room than two literals.
	far = 1 << 10
	// wide is how many literals are copied at once.
	wide = 16
)

// search finds the sequences of a block. At each place it tries the offset of the last match
// for the next byte, and then what was seen last of the hash here. A match by the hash that is
// short and far gives way where the last offset fits one byte later. Behind each match, search
// tries the offset before the last one.
func (e *Encoder) search(begin, end int) {
	w, recent := e.window, &e.recent
	last, last2 := e.offsets[0], e.offsets[1]
	seqs, lits := 0, 0
	from := begin // of the literals
	for i := max(begin, 8); i < end-margin; {
		v := w.at(i)
		slot := &recent[hash(v)]
		c := int(*slot)
		*slot = uint32(i)
		length, ahead := 0, 0 // ahead is where the last offset fits
		if uint32(w.at(i+1-last)) == uint32(v>>8) {
			ahead = 1
		} else if x := w.at(c) ^ v; uint32(x) == 0 {
			length = bits.TrailingZeros64(x) / 8
			if x == 0 {
				length = 8 + w.common(i+8, c+8, end)
			}
			if length <= 8 && i-c > far && uint32(w.at(i+2-last)) == uint32(v>>16) {
				ahead = 2
			}
		} else {
			i += 1 + (i-from)>>patience
			continue
		}
		value := uint32(1)
		if ahead > 0 {
			i += ahead
			length = w.match(i, i-last, end)
		} else {
			offset := i - c
			if c >= 8 {
				back := min(bits.LeadingZeros64(w.at(i-8)^w.at(c-8))/8, i-from)
				i, length = i-back, length+back
			}
			switch {
			case offset != last2:
				value = uint32(offset) + 3
			case i > from:
				value = 2
			} // without literals they are counted from the second one on
			last, last2 = offset, last
		}
		n := i - from
		if n <= wide {
			*(*[wide]byte)(e.lits[lits&(MaxBlock-1):]) = [wide]byte(w[from&(MaxFrame-1):])
		} else {
			copy(e.lits[lits:], w[from:i])
		}
		e.seqs[seqs] = sequence{lits: uint32(n), match: uint32(length), value: value}
		lits, seqs, i = lits+n, seqs+1, i+length
		if i < end-margin {
			recent[hash(w.at(i-2))] = uint32(i - 2)
		}
		for ; i < end-margin && uint32(w.at(i)) == uint32(w.at(i-last2)); i += length {
			last, last2 = last2, last
			length = w.match(i, i-last, end)
			e.seqs[seqs] = sequence{match: uint32(length), value: 1}
			seqs++
		}
		from = i
	}
	lits += copy(e.lits[lits:], w[from:end])
	e.seqCount, e.litCount = seqs, lits
	e.offsets = [2]int{last, last2}
}

// match returns how long a match is of which the shortest part is known.
func (w *Window) match(i, c, end int) int {
	return minMatch + w.common(i+minMatch, c+minMatch, end)
}

// common returns how many bytes from i on are those from c on. There are eight at least before
// the end.
func (w *Window) common(i, c, end int) int {
	for at := i; ; i, c = i+8, c+8 {
		x := w.at(i) ^ w.at(c)
		if x != 0 || i+8 > end {
			return min(i+bits.TrailingZeros64(x)/8, end) - at
		}
	}
}
