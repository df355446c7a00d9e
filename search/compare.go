package search

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// comparison divides a text such as ">=5" into the sign and the number.
func comparison(s string) (sign, number string, ok bool) {
	for _, sign := range []string{">=", "<=", ">", "<"} {
		if number, ok := strings.CutPrefix(s, sign); ok {
			return sign, strings.TrimSpace(number), true
		}
	}
	return "", s, false
}

// compared returns what the numbers are as integers that are greater or less than another.
func compared(t Type, sign, text string, width int, tolerance float64) ([]valueRange, error) {
	if t.float() {
		return floatsCompared(t, sign, text, tolerance)
	}
	v, err := parseInteger(text, t.signed(), width)
	if err != nil {
		return nil, err
	}
	least, most := uint64(0), uint64(math.MaxUint64)>>(64-width)
	if t.signed() {
		least = math.MaxUint64 << (width - 1)
		most = ^least
	}
	if sign == ">" && v == most || sign == "<" && v == least {
		return nil, fmt.Errorf("no %v is that", t)
	}
	switch sign {
	case ">":
		least = v + 1
	case ">=":
		least = v
	case "<":
		most = v - 1
	case "<=":
		most = v
	}
	return []valueRange{{least & (math.MaxUint64 >> (64 - width)), most - least}}, nil
}

func floatsCompared(t Type, sign, text string, tolerance float64) ([]valueRange, error) {
	v, err := parseFloat(t, text)
	if err != nil {
		return nil, err
	}
	switch {
	case math.IsNaN(v):
		return nil, errors.New("nan is neither greater nor less than a number")
	case sign == ">" && math.IsInf(v, 1), sign == "<" && math.IsInf(v, -1):
		return nil, fmt.Errorf("no %v is that", t)
	}
	if math.IsNaN(tolerance) || tolerance < 0 {
		return nil, fmt.Errorf("a tolerance of %v", tolerance)
	}
	lo, hi := math.Inf(-1), math.Inf(1)
	beyond := func(end float64) float64 {
		if t == F32 {
			return float64(math.Nextafter32(float32(v), float32(end)))
		}
		return math.Nextafter(v, end)
	}
	switch sign {
	case ">":
		lo = beyond(hi) - tolerance
	case ">=":
		lo = v - tolerance
	case "<":
		hi = beyond(lo) + tolerance
	case "<=":
		hi = v + tolerance
	}
	return floatsBetween(t, lo, hi), nil
}
