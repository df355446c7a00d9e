package procmem

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// PageSize is the size in bytes of a base page on the systems that procmem reads. Core files
// lay out memory in this unit.
const PageSize = 4096

// ErrOverflow reports that the result of an address computation does not fit 64 bits.
var ErrOverflow = errors.New("address out of range")

// Addr is a virtual address in the target, in bytes.
type Addr uint64

// String returns the address in hexadecimal with the prefix 0x.
func (a Addr) String() string { return "0x" + strconv.FormatUint(uint64(a), 16) }

// MarshalText returns the address as String does. JSON thus carries it as a string: most JSON
// readers lose integers above 2^53.
func (a Addr) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText accepts what ParseAddr does, and fails as it does.
func (a *Addr) UnmarshalText(b []byte) error {
	v, err := ParseAddr(string(b))
	if err != nil {
		return err
	}
	*a = v
	return nil
}

// Add returns a+n. It fails with ErrOverflow if the sum is beyond the last address.
func (a Addr) Add(n uint64) (Addr, error) {
	if uint64(a) > math.MaxUint64-n {
		return 0, fmt.Errorf("%v+%#x: %w", a, n, ErrOverflow)
	}
	return a + Addr(n), nil
}

// PageDown returns the address of the page that holds a.
func (a Addr) PageDown() Addr { return a &^ (PageSize - 1) }

// ParseAddr parses a hexadecimal address with the prefix 0x, or a decimal one. It fails if the
// text is no number or does not fit 64 bits.
func ParseAddr(s string) (Addr, error) {
	base, digits := 10, s
	if h, ok := strings.CutPrefix(strings.ToLower(s), "0x"); ok {
		base, digits = 16, h
	}
	v, err := strconv.ParseUint(digits, base, 64)
	if err != nil {
		return 0, fmt.Errorf("parse address %q: %w", s, errors.Unwrap(err))
	}
	return Addr(v), nil
}

// Range is the half-open interval [Start, End) of addresses.
type Range struct {
	Start Addr `json:"start"`
	End   Addr `json:"end"`
}

// String returns the range as /proc/PID/maps shows it, with the prefix 0x.
func (r Range) String() string { return r.Start.String() + "-" + r.End.String() }

// Size returns the length in bytes, 0 for an inverted range.
func (r Range) Size() uint64 {
	if r.End <= r.Start {
		return 0
	}
	return uint64(r.End - r.Start)
}

// Empty reports whether the range holds no address.
func (r Range) Empty() bool { return r.End <= r.Start }

// Contains reports whether a lies in the range.
func (r Range) Contains(a Addr) bool { return a >= r.Start && a < r.End }

// Intersect returns the part that is in both ranges, which may be empty.
func (r Range) Intersect(o Range) Range {
	out := Range{max(r.Start, o.Start), min(r.End, o.End)}
	if out.End < out.Start {
		out.End = out.Start
	}
	return out
}
