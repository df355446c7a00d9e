package term

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Size returns n bytes for a person to read: "512 B", "1.5 GiB". It rounds to
// the nearest tenth.
func Size(n uint64) string {
	if n < 1024 {
		return strconv.FormatUint(n, 10) + " B"
	}
	// Tenths are counted in integers, so that what rounds up to 1024.0 is
	// seen and becomes 1.0 of the next unit.
	const units = "KMGTPE"
	for i := range len(units) {
		shift := 10 * (i + 1)
		whole, rest := n>>shift, n&(1<<shift-1)
		// rest < 2^60, so that ten times that fits.
		tenths := whole*10 + (rest*10+1<<(shift-1))>>shift
		if tenths < 10240 || i == len(units)-1 {
			return strconv.FormatUint(tenths/10, 10) + "." + strconv.FormatUint(tenths%10, 10) + " " + units[i:i+1] + "iB"
		}
	}
	panic("unreachable")
}

// Printable returns s with what does not print, or is not UTF-8, written as
// in Go: "\x1b", "\n", "\u202e". A name that comes from the target (a path, a
// thread's name) could otherwise send commands to the terminal, or reorder
// the text around it. Backslashes stay as they are, so the result is for
// reading and not for parsing.
func Printable(s string) string {
	if printable(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if ok := strconv.IsPrint(r) && (r != utf8.RuneError || n > 1); ok {
			b.WriteString(s[:n])
		} else {
			q := strconv.Quote(s[:n])
			b.WriteString(q[1 : len(q)-1])
		}
		s = s[n:]
	}
	return b.String()
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) < 0
		}
	}
	return true
}
