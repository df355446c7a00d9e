package term

import (
	"fmt"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Fprintf is fmt.Fprintf for text that people read. What the arguments print passes through
// Printable. So a name, or an error with a name in it, becomes neither a command to the
// terminal nor a line of its own. Newlines of the format stay.
func Fprintf(w io.Writer, format string, args ...any) (int, error) {
	return io.WriteString(w, Sprintf(format, args...))
}

// Sprintf returns what Fprintf prints.
func Sprintf(format string, args ...any) string {
	safe := make([]any, len(args))
	for i, a := range args {
		if _, number := a.(int); number { // which may also be a width
			safe[i] = a
		} else {
			safe[i] = printed{a}
		}
	}
	return fmt.Sprintf(format, safe...)
}

// printed prints a value harmlessly, by whatever verb.
type printed struct{ v any }

func (p printed) Format(f fmt.State, verb rune) {
	_, _ = io.WriteString(f, Printable(fmt.Sprintf(fmt.FormatString(f, verb), p.v)))
}

// JSON returns a writer of JSON to w, which must be written in whole values. It escapes what
// does not print. JSON itself demands that of few characters: not of those that reorder a line,
// of 0x7f, or of the control characters above.
func JSON(w io.Writer) io.Writer { return jsonWriter{w} }

type jsonWriter struct{ w io.Writer }

func (j jsonWriter) Write(p []byte) (int, error) {
	if _, err := j.w.Write(EscapeJSON(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// EscapeJSON returns a JSON text with the same meaning, escaped as JSON does. It may return p
// itself.
func EscapeJSON(p []byte) []byte {
	at := 0
	for at < len(p) && p[at] < 0x7f {
		at++
	}
	if at == len(p) {
		return p
	}
	out := append(make([]byte, 0, len(p)+len(p)/8+16), p[:at]...)
	for at < len(p) {
		r, n := utf8.DecodeRune(p[at:])
		// Outside of a string there is nothing beyond ASCII, and inside newlines and tabs are
		// escaped already.
		if r < 0x7f || strconv.IsPrint(r) && r != utf8.RuneError {
			out = append(out, p[at:at+n]...)
		} else if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		} else {
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		at += n
	}
	return out
}
