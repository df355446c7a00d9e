package target

import (
	"errors"
	"math"
	"testing"
)

func TestParseSize(t *testing.T) {
	for s, want := range map[string]uint64{
		"0":                           0,
		"512":                         512,
		"0x1000":                      4096,
		"0XfF":                        255,
		"4KiB":                        4096,
		"4kib":                        4096,
		"4K":                          4096,
		"4k":                          4096,
		"1kB":                         1000,
		"1KB":                         1000,
		"10M":                         10 << 20,
		"10MB":                        10e6,
		"1G":                          1 << 30,
		"2TiB":                        2 << 40,
		"3PB":                         3e15,
		"18446744073709551615":        math.MaxUint64,
		"0xffffffffffffffff":          math.MaxUint64,
		"0x0000000000000000000000001": 1,
		"16383P":                      16383 << 50,
	} {
		if got, err := ParseSize(s); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", s, got, err, want)
		}
	}
}

func TestParseSizeErrors(t *testing.T) {
	for s, want := range map[string]string{
		"":                     `parse size "": at character 1: a number is missing`,
		"K":                    `parse size "K": at character 1: "K" is not a number`,
		"-1":                   `parse size "-1": at character 1: "-1" is not a number`,
		"1.5G":                 `parse size "1.5G": at character 2: a size is a whole number; use a smaller unit`,
		"4 KiB":                `parse size "4 KiB": at character 2: unknown unit " KiB": want K, M, G, T (1024), kB, MB, GB, TB (1000) or none`,
		"4Kib2":                `parse size "4Kib2": at character 2: unknown unit "Kib2": want K, M, G, T (1024), kB, MB, GB, TB (1000) or none`,
		"0x":                   `parse size "0x": at character 2: unknown unit "x": want K, M, G, T (1024), kB, MB, GB, TB (1000) or none`,
		"0x10K":                `parse size "0x10K": at character 5: "K" is not a hexadecimal digit, and a hexadecimal number takes no unit`,
		"1a0":                  `parse size "1a0": at character 2: "a" is not a decimal digit: a hexadecimal number is written 0x1a0`,
		"1e":                   `parse size "1e": at character 2: "e" is not a decimal digit: a hexadecimal number is written 0x1e`,
		"10b":                  `parse size "10b": at character 3: "b" is not a decimal digit: a hexadecimal number is written 0x10b`,
		"18446744073709551616": `parse size "18446744073709551616": at character 1: more than 64 bits`,
		"0x10000000000000000":  `parse size "0x10000000000000000": at character 1: more than 64 bits`,
		"16384P":               `parse size "16384P": at character 1: more than 64 bits`,
	} {
		got, err := ParseSize(s)
		if err == nil || err.Error() != want {
			t.Errorf("ParseSize(%q):\n got %d, %v\nwant %s", s, got, err, want)
		}
		if !errors.Is(err, ErrSyntax) {
			t.Errorf("ParseSize(%q): not ErrSyntax", s)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseSize(s)
		if err == nil {
			if s == "" {
				t.Error("an empty text is a size")
			}
			return
		}
		if n != 0 {
			t.Errorf("%q: both %d and %v", s, n, err)
		}
		checkSyntaxError(t, s, err)
	})
}

// checkSyntaxError checks that err points into the text.
func checkSyntaxError(t *testing.T, s string, err error) {
	t.Helper()
	e, ok := errors.AsType[*SyntaxError](err)
	if !ok || !errors.Is(err, ErrSyntax) {
		t.Fatalf("%q: %T %v, want a SyntaxError", s, err, err)
	}
	if e.Text != s || e.Offset < 0 || e.Offset > len(s) || e.Err == nil {
		t.Errorf("%q: bad error %#v", s, e)
	}
	_ = err.Error()
}
