package search

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/procmem/procmem"
)

// MaxLength is the longest literal or hexadecimal pattern, in bytes.
const MaxLength = 64 << 10

// Pattern is what to look for. The zero value finds nothing.
type Pattern struct {
	text string // as it was written

	// One of these. A literal matches where each byte is value after mask.
	value, mask []byte
	number      *number
	expr        *expression

	align uint64 // of the address; a power of two, 0 is 1
}

// String returns the pattern as it was written; a literal is its text.
func (p Pattern) String() string { return p.text }

// Holds reports whether a value in memory is one that p matches, wherever it lies. It is false
// for bytes of another size, and for patterns that are no number or pointer.
func (p Pattern) Holds(value []byte) bool {
	return p.number != nil && len(value) == p.number.size && p.number.holds(value)
}

// Literal returns a pattern that matches these bytes. With fold, ASCII letters match either
// case. It fails if b is empty or longer than MaxLength.
func Literal(b []byte, fold bool) (Pattern, error) {
	return literal(string(b), slices.Clone(b), fold, 1)
}

// LiteralUTF16 returns a pattern that matches the text in UTF-16, little endian. With fold,
// ASCII letters match either case. It fails as Literal does.
func LiteralUTF16(s string, fold bool) (Pattern, error) {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u), byte(u>>8))
	}
	return literal(s, b, fold, 2)
}

// literal makes a pattern of characters of width bytes.
func literal(text string, b []byte, fold bool, width int) (Pattern, error) {
	if err := checkLength(b); err != nil {
		return Pattern{}, err
	}
	p := Pattern{text: text, value: b, mask: slices.Repeat([]byte{0xff}, len(b))}
	for i := 0; fold && i < len(b); i += width {
		const letterCase = 'a' - 'A'
		if c := b[i] &^ letterCase; c >= 'A' && c <= 'Z' && (width == 1 || b[i+1] == 0) {
			b[i], p.mask[i] = c, 0xff&^letterCase
		}
	}
	return p, nil
}

func checkLength(b []byte) error {
	switch {
	case len(b) == 0:
		return errors.New("an empty pattern would match everywhere")
	case len(b) > MaxLength:
		return fmt.Errorf("the pattern is %d bytes long; the limit is %d", len(b), MaxLength)
	}
	return nil
}

// ParseHex parses bytes in hexadecimal. A question mark stands for any half of a byte: "de ad
// ?? ef", "d? ?f". Blanks between bytes are optional. So is 0x in front, which changes nothing:
// bytes are in the order in which they are written, unlike those of numbers.
func ParseHex(s string) (Pattern, error) {
	p := Pattern{text: s}
	// Other programs write 53:45:4b and \x53\x45.
	for field := range strings.FieldsSeq(strings.NewReplacer(":", " ", `\x`, " ").Replace(s)) {
		if strings.HasPrefix(field, "0x") || strings.HasPrefix(field, "0X") {
			field = field[2:]
		}
		if len(field)%2 != 0 {
			return Pattern{}, fmt.Errorf("parse hex %q: %q has half a byte too much or too few", s, field)
		}
		for i := 0; i < len(field); i += 2 {
			hi, hiMask, ok1 := nibble(field[i])
			lo, loMask, ok2 := nibble(field[i+1])
			if !ok1 || !ok2 {
				return Pattern{}, fmt.Errorf("parse hex %q: %q is not a byte; want two of 0-9, a-f and ?", s, field[i:i+2])
			}
			p.value = append(p.value, hi<<4|lo)
			p.mask = append(p.mask, hiMask<<4|loMask)
		}
	}
	if err := checkLength(p.value); err != nil {
		return Pattern{}, fmt.Errorf("parse hex %q: %w", s, err)
	}
	if !slices.ContainsFunc(p.mask, func(m byte) bool { return m != 0 }) {
		return Pattern{}, fmt.Errorf("parse hex %q: it would match everywhere", s)
	}
	return p, nil
}

func nibble(c byte) (value, mask byte, ok bool) {
	switch {
	case c == '?':
		return 0, 0, true
	case c >= '0' && c <= '9':
		return c - '0', 0xf, true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, 0xf, true
	}
	return 0, 0, false
}

// ParseValue parses a number, decimal or, with the prefix 0x, hexadecimal. A range such as
// 10..20 includes both ends; >5, >=5, <5 and <=5 are ranges, too. Floating-point numbers may
// have an exponent, or be inf or nan.
func ParseValue(t Type, s string, o ValueOptions) (Pattern, error) {
	low, high, isRange := strings.Cut(s, "..")
	if !isRange {
		high = low
	}
	n := &number{size: t.Size(o.word()), bigEndian: o.BigEndian}
	var err error
	switch sign, than, ok := comparison(s); {
	case ok:
		n.spans, err = compared(t, sign, than, 8*n.size, o.Tolerance)
	case t.float():
		n.spans, err = floatRanges(t, low, high, isRange, o.Tolerance)
	default:
		n.spans, err = integerRange(t, low, high, 8*n.size)
	}
	if err != nil {
		return Pattern{}, fmt.Errorf("parse %v %q: %w", t, s, err)
	}
	return n.pattern(s, o)
}

// PointerTo returns a pattern that matches pointers to any address of r.
func PointerTo(r procmem.Range, o ValueOptions) (Pattern, error) {
	n := &number{size: o.word(), bigEndian: o.BigEndian}
	limit := uint64(math.MaxUint64) >> (64 - 8*uint(n.size))
	switch {
	case r.Empty():
		return Pattern{}, fmt.Errorf("pointer to %v: the range is empty", r)
	case uint64(r.Start) > limit:
		return Pattern{}, fmt.Errorf("pointer to %v: beyond what a pointer of %d bytes can hold", r, n.size)
	}
	last := min(uint64(r.End-1), limit)
	n.spans = []valueRange{{uint64(r.Start), last - uint64(r.Start)}}
	return n.pattern(r.String(), o)
}

// pattern makes a pattern of n.
func (n *number) pattern(text string, o ValueOptions) (Pattern, error) {
	if w := o.word(); w != 4 && w != 8 {
		return Pattern{}, fmt.Errorf("pointers of %d bytes: want 4 or 8", w)
	}
	align := o.Align
	if align == 0 {
		align = n.size
	}
	if align < 0 || bits.OnesCount(uint(align)) != 1 {
		return Pattern{}, fmt.Errorf("alignment %d is not a power of two", align)
	}
	return Pattern{text: text, number: n, align: uint64(align)}, nil
}

// fixed returns the length of every match, or 0 if they differ.
func (p *Pattern) fixed() int {
	if p.number != nil {
		return p.number.size
	}
	return len(p.value)
}

// at reports whether a pattern of fixed length matches the start of b, which is memory at a.
func (p *Pattern) at(b []byte, a procmem.Addr) bool {
	if p.align > 1 && uint64(a)&(p.align-1) != 0 || len(b) < p.fixed() {
		return false
	}
	if p.number != nil {
		return p.number.holds(b)
	}
	for i, v := range p.value {
		if b[i]&p.mask[i] != v {
			return false
		}
	}
	return len(p.value) > 0
}
