package search

import (
	"fmt"
	"math"
	"math/bits"
	"strings"
)

// Encoding is how the characters of strings lie in memory, named by the
// letters of strings(1).
type Encoding uint8

// The encodings.
const (
	ASCII   Encoding = 's' // bytes of 7 bits
	Latin   Encoding = 'S' // bytes; all above 127 count as printable
	UTF16LE Encoding = 'l' // ASCII in 2 bytes, little endian
	UTF16BE Encoding = 'b'
	UTF32LE Encoding = 'L' // ASCII in 4 bytes
	UTF32BE Encoding = 'B'
)

// ParseEncoding reads one of the letters s, S, l, b, L and B.
func ParseEncoding(s string) (Encoding, error) {
	if len(s) != 1 || !strings.Contains("sSlbLB", s) {
		return 0, fmt.Errorf("encoding %q is not one of s, S, l, b, L, B", s)
	}
	return Encoding(s[0]), nil
}

// Width returns the size of a character in bytes.
func (e Encoding) Width() int {
	switch e {
	case UTF16LE, UTF16BE:
		return 2
	case UTF32LE, UTF32BE:
		return 4
	}
	return 1
}

// StringsOptions tell which strings are wanted.
type StringsOptions struct {
	Min      int      // characters; 0 is 4
	Encoding Encoding // 0 is ASCII
}

// MaxString is the longest match of a Searcher for strings, in bytes. A longer
// run of characters comes in pieces, each of which begins where the last one
// ends; the last piece may have fewer than the least number of characters.
// Matches that are not of the same run never touch.
const MaxString = 64 << 10

// NewStrings returns a Searcher whose matches are the runs of printable
// characters, as strings(1) finds them: ASCII from blank to tilde, and the tab.
func NewStrings(o StringsOptions, so Options) (*Searcher, error) {
	if o.Min == 0 {
		o.Min = 4
	}
	if o.Encoding == 0 {
		o.Encoding = ASCII
	}
	if limit := MaxString / o.Encoding.Width(); o.Min < 1 || o.Min > limit {
		return nil, fmt.Errorf("strings of at least %d characters: want 1 to %d", o.Min, limit)
	}
	s, err := New(nil, so)
	if err != nil {
		return nil, err
	}
	f := newRuns(o)
	s.sequences = []sequence{{make: func() seeker { return f }}}
	s.look, s.overlap = f.width, MaxString+2*f.width
	s.size()
	return s, nil
}

// runs is a seeker of runs of characters. No two characters overlap, since the
// bytes of one that are zeros are not characters: where a run begins depends
// on nothing but the bytes in front of it.
type runs struct {
	width int  // of a character, in bytes
	low   int  // which of them is not zero
	least int  // bytes of a run
	high  byte // 0x80 where bytes above 127 are characters
}

func newRuns(o StringsOptions) *runs {
	r := &runs{width: o.Encoding.Width()}
	r.least = o.Min * r.width
	if o.Encoding == UTF16BE || o.Encoding == UTF32BE {
		r.low = r.width - 1
	}
	if o.Encoding == Latin {
		r.high = 0x80
	}
	return r
}

// char reports whether there is a character at i.
func (r *runs) char(b []byte, i int) bool {
	if i < 0 || i+r.width > len(b) || printableGeneric(b[i+r.low:][:1], r.high) == 0 {
		return false
	}
	for k := range r.width {
		if k != r.low && b[i+k] != 0 {
			return false
		}
	}
	return true
}

// runFrom returns where a run that goes on at i ends, up to a limit.
func (r *runs) runFrom(b []byte, i, limit int) int {
	if r.width > 1 {
		for i < limit && r.char(b, i) {
			i += r.width
		}
		return i
	}
	for ; i < limit; i += 64 {
		if n := bits.TrailingZeros64(^printable(b[min(i, len(b)):], r.high)); n < 64 {
			return min(i+n, limit)
		}
	}
	return limit
}

// seek implements seeker. Where the run is not from its start, it is either what
// the last match has left or belongs to the last block.
func (r *runs) seek(b []byte, from int, inside bool) (start, end int, ok bool) {
	if r.char(b, from-r.width) && r.char(b, from) {
		if end = r.runFrom(b, from, from+MaxString); inside {
			return from, end, true
		}
		from = r.runFrom(b, end, len(b))
	}
	if r.width > 1 {
		return r.seekWide(b, from)
	}
	if start = r.longRun(b, from); start < 0 {
		return 0, 0, false
	}
	return start, r.runFrom(b, start+r.least, start+MaxString), true
}

// longRun returns the start of the first run of bytes that is long enough, or
// -1.
func (r *runs) longRun(b []byte, from int) int {
	run := 0 // characters before i
	for i := from; i < len(b); i += 64 {
		m := printable(b[i:], r.high)
		run += bits.TrailingZeros64(^m)
		if run >= r.least {
			return i + bits.TrailingZeros64(^m) - run
		}
		if m == math.MaxUint64 {
			continue
		}
		// A bit stays where as many follow it as a run must have.
		long, more := m, r.least-1
		for n := 1; more > 0 && long != 0; n *= 2 {
			n = min(n, more)
			long &= long >> n
			more -= n
		}
		if long != 0 {
			return i + bits.TrailingZeros64(long)
		}
		run = bits.LeadingZeros64(^m)
	}
	return -1
}

// seekWide is seek for characters of several bytes, behind what goes on at from.
func (r *runs) seekWide(b []byte, from int) (start, end int, ok bool) {
	for from+r.least <= len(b) {
		// A run that begins at from, or so near that it is not of the next turn,
		// has a character at one of these places: no two begin in so few bytes.
		at := r.charIn(b, from+r.least-r.width)
		if at < 0 {
			from += r.least
			continue
		}
		for start = at; r.char(b, start-r.width); {
			start -= r.width
		}
		end = r.runFrom(b, at, start+MaxString)
		if start >= from && end-start >= r.least {
			return start, end, true
		}
		from = r.runFrom(b, end, len(b))
	}
	return 0, 0, false
}

// charIn returns where a character begins in the bytes of one at i, or -1.
func (r *runs) charIn(b []byte, i int) int {
	for at := i; at < i+r.width; at++ {
		if r.char(b, at) {
			return at
		}
	}
	return -1
}
