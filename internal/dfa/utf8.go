package dfa

import "unicode/utf8"

// byteRange is a range of bytes, both ends included.
type byteRange struct{ lo, hi byte }

// appendSequences appends the UTF-8 encodings of the runes from lo to hi: each sequence of
// spans stands for all the encodings that it allows. Surrogates have none.
func appendSequences(seqs [][]byteRange, lo, hi rune) [][]byteRange {
	const surrogates, afterSurrogates = 0xd800, 0xe000
	if lo < surrogates && hi >= surrogates {
		seqs = appendSequences(seqs, lo, surrogates-1)
		lo = surrogates
	}
	if lo >= surrogates && lo < afterSurrogates {
		lo = afterSurrogates
	}
	if lo > hi {
		return seqs
	}
	if at, ok := split(lo, hi); ok {
		return appendSequences(appendSequences(seqs, lo, at), at+1, hi)
	}
	var a, b [utf8.UTFMax]byte
	n := utf8.EncodeRune(a[:], lo)
	utf8.EncodeRune(b[:], hi)
	seq := make([]byteRange, n)
	for i := range seq {
		seq[i] = byteRange{a[i], b[i]}
	}
	return append(seqs, seq)
}

// split finds a rune after which a range must be split. In what is left, all encodings have one
// length, and their bytes do not depend on each other.
func split(lo, hi rune) (at rune, ok bool) {
	for _, last := range [...]rune{0x7f, 0x7ff, 0xffff} {
		if lo <= last && last < hi {
			return last, true
		}
	}
	if hi <= 0x7f {
		return 0, false
	}
	for bits := 6; bits <= 18; bits += 6 {
		low := rune(1)<<bits - 1 // what the last bytes of an encoding hold
		if lo&^low == hi&^low {
			return 0, false
		}
		if lo&low != 0 {
			return lo | low, true
		}
		if hi&low != low {
			return hi&^low - 1, true
		}
	}
	return 0, false
}
