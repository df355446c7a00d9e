package term

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Format is a kind of value that memory is shown as. All are little endian. The zero value is
// none.
type Format uint8

const (
	formatU8 Format = iota + 1
	formatU16
	formatU32
	formatU64
	formatI8
	formatI16
	formatI32
	formatI64
	formatF32
	formatF64
	formatPtr
	formatStr
)

// formatNames begins with the name of formatU8.
var formatNames = []string{"u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "f32", "f64", "ptr", "str"}

// Formats returns the names that ParseFormat accepts, for help and completion.
func Formats() []string { return slices.Clone(formatNames) }

// ParseFormat parses the name of a format. u8 u16 u32 u64 are unsigned integers of so many
// bits, i8 i16 i32 i64 signed ones, f32 f64 those of IEEE 754. ptr is an address, of the
// target's word size, and str a string that ends with NUL.
func ParseFormat(s string) (Format, error) {
	if i := slices.Index(formatNames, s); i >= 0 {
		return Format(i + 1), nil
	}
	return 0, fmt.Errorf("unknown format %q: want one of %s", s, strings.Join(formatNames, ", "))
}

// String returns the name that ParseFormat accepts.
func (f Format) String() string {
	if f >= formatU8 && int(f) <= len(formatNames) {
		return formatNames[f-1]
	}
	return fmt.Sprintf("Format(%d)", uint8(f))
}

// size returns the bytes of one value; str has none.
func (f Format) size(wordSize int) int {
	switch f {
	case formatU8, formatI8:
		return 1
	case formatU16, formatI16:
		return 2
	case formatU32, formatI32, formatF32:
		return 4
	case formatPtr:
		return wordSize
	}
	return 8
}

// width returns the characters of the longest value.
func (f Format) width(wordSize int) int {
	switch f {
	case formatPtr:
		return 2 + 2*wordSize
	case formatF32:
		return len("-1.1754944e-38")
	case formatF64:
		return len("-2.2250738585072014e-308")
	case formatU8, formatU16, formatU32, formatU64:
		return len(strconv.FormatUint(math.MaxUint64>>(64-8*f.size(0)), 10))
	}
	return len(strconv.FormatInt(math.MinInt64>>(64-8*f.size(0)), 10))
}

// word reads the little endian integer that p is.
func word(p []byte) uint64 {
	switch len(p) {
	case 1:
		return uint64(p[0])
	case 2:
		return uint64(binary.LittleEndian.Uint16(p))
	case 4:
		return uint64(binary.LittleEndian.Uint32(p))
	}
	return binary.LittleEndian.Uint64(p)
}

// number appends the number that p is; ptr is not one.
func (f Format) number(b, p []byte) []byte {
	v := word(p)
	switch f {
	case formatI8, formatI16, formatI32, formatI64:
		shift := 64 - 8*len(p)
		return strconv.AppendInt(b, int64(v<<shift)>>shift, 10)
	case formatF32:
		return strconv.AppendFloat(b, float64(math.Float32frombits(uint32(v))), 'g', -1, 32)
	case formatF64:
		return strconv.AppendFloat(b, math.Float64frombits(v), 'g', -1, 64)
	}
	return strconv.AppendUint(b, v, 10)
}
