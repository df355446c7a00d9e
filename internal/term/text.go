package term

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Printable returns s with what does not print, or is not UTF-8, written as in Go: "\x1b",
// "\n", "\u202e". A name of the target (a path, a thread's name) could otherwise send commands
// to the terminal, or reorder the text around it. Backslashes stay, so the result is for
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
