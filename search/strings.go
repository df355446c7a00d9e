package search

import (
	"fmt"
	"math"
	"math/bits"
	"strings"
)

// Encoding tells how the characters of strings lie in memory. Its values are the letters of
// strings(1).
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

// ParseEncoding parses one of the letters s, S, l, b, L and B.
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

// StringsOptions say which strings are wanted. The zero value is that of strings(1).
type StringsOptions struct {
	Min      int      // characters; 0 is 4
	Encoding Encoding // 0 is ASCII
}

// MaxString is the longest match of a Searcher for strings, in bytes. A longer run of
// characters comes in pieces. Each begins where the last one ends, and the last piece may be
// shorter than StringsOptions.Min. Matches of different runs never touch.
const MaxString = 64 << 10

// NewStrings returns a Searcher that matches runs of printable characters, as strings(1) does:
// ASCII from blank to tilde, and the tab.
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
	s.sequences = []sequence{{make: func() seeker { return newRuns(o) }}}
	s.look = o.Encoding.Width()
	s.overlap = MaxString + 2*s.look
	s.size()
	return s, nil
}

// runs is a seeker of runs of characters. No two characters overlap, since the bytes of one
// that are zeros are not characters. So where a run begins depends on nothing but the bytes in
// front of it.
type runs struct {
	width int  // of a character, in bytes
	low   int  // which of them is not zero
	least int  // bytes of a run
	high  byte // 0x80 where bytes above 127 are characters

	// What was seen of b from an offset on, so many bytes: one match after the other is in it.
	seen     [65]uint64
	at, size int
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

// forget implements seeker.
func (r *runs) forget() { r.size = 0 }

// printable returns a bit for each of 64 bytes from i on, the lowest for the first: whether it
// is a character of one byte.
func (r *runs) printable(b []byte, i int) uint64 {
	k := uint(i - r.at)
	if k >= uint(r.size) {
		return r.see(b, min(i, len(b)))
	}
	return r.seen[k/64]>>(k%64) | r.seen[k/64+1]<<1<<(63-k%64)
}

// see is printable for what has not been seen.
func (r *runs) see(b []byte, i int) uint64 {
	printable(r.seen[:], b[i:], r.high)
	r.at, r.size = i, 64*(len(r.seen)-1)
	return r.seen[0]
}

// char reports whether there is a character at i.
func (r *runs) char(b []byte, i int) bool {
	if i < 0 || i+r.width > len(b) || !isPrintable(b[i+r.low], r.high) {
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
		if n := bits.TrailingZeros64(^r.printable(b, i)); n < 64 {
			return min(i+n, limit)
		}
	}
	return limit
}

// seek implements seeker. If the run is not from its start, it is either what the last match
// has left or belongs to the last block.
func (r *runs) seek(b []byte, from int, inside bool) (start, end int, ok bool) {
	if r.char(b, from) && r.char(b, from-r.width) {
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

// longRun returns the start of the first run of bytes that is long enough, or -1.
func (r *runs) longRun(b []byte, from int) int {
	run := 0 // characters before i
	for i := from; i < len(b); i += 64 {
		m := r.printable(b, i)
		run += bits.TrailingZeros64(^m)
		if run >= r.least {
			return i + bits.TrailingZeros64(^m) - run
		}
		if m == math.MaxUint64 {
			continue
		}
		// A bit stays where as many follow it as a run must have. That takes the same way for
		// each m, which a processor foresees.
		long, more := m, r.least-1
		for n := 1; more > 0; n *= 2 {
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
		// A run that begins at from has a character at one of these places, since no two begin
		// in so few bytes. So has one that begins too near to be of the next turn.
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
