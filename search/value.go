package search

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Type tells how bytes stand for a number.
type Type uint8

// The types: unsigned and signed integers, floating-point numbers, and pointers, which are
// unsigned integers of the target's word size.
const (
	U8 Type = iota
	U16
	U32
	U64
	I8
	I16
	I32
	I64
	F32
	F64
	Ptr
)

var typeNames = [...]string{"u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "f32", "f64", "ptr"}

// TypeNames returns the names of all types, each of which ParseType accepts.
func TypeNames() []string { return slices.Clone(typeNames[:]) }

// ParseType parses the name of a type, such as "u32".
func ParseType(s string) (Type, error) {
	if i := slices.Index(typeNames[:], s); i >= 0 {
		return Type(i), nil
	}
	return 0, fmt.Errorf("type %q is not one of %s", s, strings.Join(typeNames[:], ", "))
}

// String returns the name of the type.
func (t Type) String() string { return typeNames[t] }

// Size returns the size in bytes, for a target whose pointers have word bytes.
func (t Type) Size(word int) int {
	switch t {
	case U8, I8:
		return 1
	case U16, I16:
		return 2
	case U32, I32, F32:
		return 4
	case Ptr:
		return word
	}
	return 8
}

func (t Type) signed() bool { return t >= I8 && t <= I64 }
func (t Type) float() bool  { return t == F32 || t == F64 }

// ValueOptions say how a value lies in memory. The zero value is a little-endian value at a
// multiple of its size, in a 64-bit target.
type ValueOptions struct {
	// Align is what the address is a multiple of, a power of two in bytes. 0 is the size of the
	// type, 1 finds all.
	Align     int
	BigEndian bool
	// Tolerance is how far a floating-point number may be from the value, or from the ends of a
	// range. If it is 0, digits behind the point or in front of an exponent tell: it is half a
	// unit of the last one. So 3.14 finds 3.135 to 3.145. A number without either is taken
	// exactly.
	Tolerance float64
	Word      int // bytes of a pointer: 4 or 8, which 0 is too
}

func (o ValueOptions) word() int {
	if o.Word == 0 {
		return 8
	}
	return o.Word
}

// number is what a value in memory must be: in one of the spans, as an unsigned integer of the
// same bits.
type number struct {
	size      int
	bigEndian bool
	spans     []valueRange // one, or two of floating-point numbers
}

// valueRange is the unsigned integers first to first+more, modulo 2^64 or what the size allows.
// A span of signed ones goes past the greatest to the smallest.
type valueRange struct{ first, more uint64 }

func integerRange(t Type, low, high string, width int) ([]valueRange, error) {
	first, err := parseInteger(low, t.signed(), width)
	if err != nil {
		return nil, err
	}
	last, err := parseInteger(high, t.signed(), width)
	if err != nil {
		return nil, err
	}
	if t.signed() && int64(first) > int64(last) || !t.signed() && first > last {
		return nil, errBackwards
	}
	keep := uint64(math.MaxUint64) >> (64 - uint(width))
	return []valueRange{{first & keep, last - first}}, nil
}

var errBackwards = errors.New("the range ends before it begins")

func parseInteger(s string, signed bool, width int) (uint64, error) {
	base, digits, minus := 10, s, ""
	if rest, ok := strings.CutPrefix(s, "-"); ok {
		digits, minus = rest, "-"
	}
	if h, ok := strings.CutPrefix(strings.ToLower(digits), "0x"); ok {
		base, digits = 16, h
	}
	if strings.HasPrefix(digits, "-") || strings.HasPrefix(digits, "+") {
		return 0, strconv.ErrSyntax
	}
	if signed {
		v, err := strconv.ParseInt(minus+digits, base, width)
		return uint64(v), cause(err)
	}
	if minus != "" {
		return 0, errors.New("negative, and the type is unsigned")
	}
	v, err := strconv.ParseUint(digits, base, width)
	return v, cause(err)
}

// cause leaves out what was parsed, which the caller says.
func cause(err error) error {
	if n, ok := errors.AsType[*strconv.NumError](err); ok {
		return n.Err
	}
	return err
}

// floatRanges returns what the numbers low to high are as integers. Those of one sign ascend or
// descend as their bits do.
func floatRanges(t Type, low, high string, isRange bool, tolerance float64) ([]valueRange, error) {
	lo, err := parseFloat(t, low)
	if err != nil {
		return nil, err
	}
	hi, err := parseFloat(t, high)
	if err != nil {
		return nil, err
	}
	if math.IsNaN(tolerance) || tolerance < 0 {
		return nil, fmt.Errorf("a tolerance of %v", tolerance)
	}
	if math.IsNaN(lo) || math.IsNaN(hi) {
		if isRange {
			return nil, errors.New("nan is in no range")
		}
		return nanRanges(t), nil
	}
	if lo > hi {
		return nil, errBackwards
	}
	if tolerance == 0 && !isRange {
		tolerance = lastDigit(low) / 2
	}
	if tolerance > 0 && !math.IsInf(lo, 0) {
		lo -= tolerance
	}
	if tolerance > 0 && !math.IsInf(hi, 0) {
		hi += tolerance
	}
	return floatsBetween(t, lo, hi), nil
}

func parseFloat(t Type, s string) (float64, error) {
	width := 64
	if t == F32 {
		width = 32
	}
	v, err := strconv.ParseFloat(s, width)
	return v, cause(err)
}

// lastDigit returns what a unit of the last digit is worth, or 0 if there is neither a point
// nor an exponent.
func lastDigit(s string) float64 {
	s = strings.ToLower(s)
	if strings.ContainsAny(s, "xn") { // hexadecimal is exact; inf
		return 0
	}
	mantissa, exponent, scaled := strings.Cut(s, "e")
	_, digits, pointed := strings.Cut(mantissa, ".")
	if !scaled && !pointed {
		return 0
	}
	e, _ := strconv.Atoi(exponent)
	return math.Pow10(e - len(digits))
}

// bitsOf returns the bits of the number of that type that is nearest to v.
func bitsOf(t Type, v float64) uint64 {
	if t == F32 {
		return uint64(math.Float32bits(float32(v)))
	}
	return math.Float64bits(v)
}

func floatsBetween(t Type, lo, hi float64) (spans []valueRange) {
	sign := bitsOf(t, math.Copysign(0, -1))
	if lo <= 0 { // what is negative, and -0
		from := sign
		if hi < 0 {
			from = bitsOf(t, hi)
		}
		lo := bitsOf(t, lo) | sign
		spans = append(spans, valueRange{from, lo - from})
	}
	if hi >= 0 {
		from := bitsOf(t, max(lo, 0)) &^ sign
		spans = append(spans, valueRange{from, bitsOf(t, hi)&^sign - from})
	}
	return spans
}

func nanRanges(t Type) []valueRange {
	sign := bitsOf(t, math.Copysign(0, -1))
	first := bitsOf(t, math.Inf(1)) + 1
	more := sign - 1 - first
	return []valueRange{{first, more}, {first | sign, more}}
}

// load returns the value at the start of b.
func (n *number) load(b []byte) uint64 {
	if n.bigEndian {
		switch n.size {
		case 2:
			return uint64(binary.BigEndian.Uint16(b))
		case 4:
			return uint64(binary.BigEndian.Uint32(b))
		case 8:
			return binary.BigEndian.Uint64(b)
		}
	}
	switch n.size {
	case 2:
		return uint64(binary.LittleEndian.Uint16(b))
	case 4:
		return uint64(binary.LittleEndian.Uint32(b))
	case 8:
		return binary.LittleEndian.Uint64(b)
	}
	return uint64(b[0])
}

// keep is the bits that a number has.
func (n *number) keep() uint64 { return math.MaxUint64 >> (64 - 8*uint(n.size)) }

// Less returns what reports whether one value in memory is less than another, as numbers of the
// type. That is never true of a NaN. Both must have the size of the type.
func (t Type) Less(o ValueOptions) func(a, b []byte) bool {
	n := &number{size: t.Size(o.word()), bigEndian: o.BigEndian}
	shift := 64 - 8*n.size
	switch {
	case t == F32:
		return func(a, b []byte) bool {
			return math.Float32frombits(uint32(n.load(a))) < math.Float32frombits(uint32(n.load(b)))
		}
	case t == F64:
		return func(a, b []byte) bool { return math.Float64frombits(n.load(a)) < math.Float64frombits(n.load(b)) }
	case t.signed():
		return func(a, b []byte) bool { return int64(n.load(a)<<shift) < int64(n.load(b)<<shift) }
	}
	return func(a, b []byte) bool { return n.load(a) < n.load(b) }
}

// in reports whether the number at the start of b is in s.
func (n *number) in(b []byte, s valueRange) bool {
	return (n.load(b)-s.first)&n.keep() <= s.more
}

// holds reports whether the value at the start of b is wanted.
func (n *number) holds(b []byte) bool {
	for _, s := range n.spans {
		if n.in(b, s) {
			return true
		}
	}
	return false
}
