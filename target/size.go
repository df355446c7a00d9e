package target

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ErrSyntax reports a text that means nothing, whatever the target is.
var ErrSyntax = errors.New("bad syntax")

// SyntaxError reports a text that does not follow its grammar, and where. It wraps ErrSyntax
// and the reason.
type SyntaxError struct {
	Kind   string // what the text should have been: "range", "size", "target"
	Text   string
	Offset int // in bytes, from 0, of what is wrong
	Err    error
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("parse %s %q: at character %d: %v", e.Kind, e.Text, utf8.RuneCountInString(e.Text[:e.Offset])+1, e.Err)
}

// Unwrap returns ErrSyntax and the reason.
func (e *SyntaxError) Unwrap() []error { return []error{ErrSyntax, e.Err} }

var errSizeOverflow = errors.New("more than 64 bits")

// ParseSize parses a number of bytes: decimal or, with the prefix 0x, hexadecimal. A decimal
// one may have a unit, in letters of either case. K, M, G, T and P, alone or with "iB", are
// powers of 1024; with "B" (kB, MB) they are powers of 1000. There is no unit B and no E: "10b"
// and "1e" are more likely hexadecimal numbers that lack their prefix. It fails with a
// *SyntaxError.
func ParseSize(s string) (uint64, error) {
	n, err := parseSize(s)
	if err != nil {
		return 0, err
	}
	return n, nil
}

func parseSize(s string) (uint64, *SyntaxError) {
	fail := func(offset int, err error) (uint64, *SyntaxError) {
		return 0, &SyntaxError{"size", s, offset, err}
	}
	if len(s) > 2 && s[0] == '0' && (s[1] == 'x' || s[1] == 'X') {
		end := 2 + digits(s[2:], true)
		if end < len(s) {
			return fail(end, fmt.Errorf("%q is not a hexadecimal digit, and a hexadecimal number takes no unit", firstRune(s[end:])))
		}
		v, err := strconv.ParseUint(s[2:], 16, 64)
		if err != nil {
			return fail(0, errSizeOverflow)
		}
		return v, nil
	}
	end := digits(s, false)
	if end == 0 {
		if s == "" {
			return fail(0, errors.New("a number is missing"))
		}
		return fail(0, fmt.Errorf("%q is not a number", s))
	}
	v, err := strconv.ParseUint(s[:end], 10, 64)
	if err != nil {
		return fail(0, errSizeOverflow)
	}
	unit, ok := sizeUnit(s[end:])
	if !ok {
		if s[end] == '.' || s[end] == ',' {
			return fail(end, errors.New("a size is a whole number; use a smaller unit"))
		}
		if digits(s, true) == len(s) {
			return fail(end, fmt.Errorf("%q is not a decimal digit: a hexadecimal number is written 0x%s", s[end:end+1], s))
		}
		return fail(end, fmt.Errorf("unknown unit %q: want K, M, G, T (1024), kB, MB, GB, TB (1000) or none", s[end:]))
	}
	if v > math.MaxUint64/unit {
		return fail(0, errSizeOverflow)
	}
	return v * unit, nil
}

func sizeUnit(s string) (uint64, bool) {
	s = strings.ToLower(s)
	if s == "" {
		return 1, true
	}
	exp := strings.IndexByte("kmgtp", s[0]) + 1
	if exp == 0 {
		return 0, false
	}
	base := uint64(1024)
	switch s[1:] {
	case "", "ib":
	case "b":
		base = 1000
	default:
		return 0, false
	}
	unit := uint64(1)
	for range exp {
		unit *= base
	}
	return unit, true
}

// digits counts the digits that s begins with.
func digits(s string, hex bool) int {
	for i := range len(s) {
		c := s[i]
		if c >= '0' && c <= '9' || hex && (c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
			continue
		}
		return i
	}
	return len(s)
}

func firstRune(s string) string {
	for i := range s {
		if i > 0 {
			return s[:i]
		}
	}
	return s
}
