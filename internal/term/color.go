package term

import (
	"fmt"
	"io"
	"os"
	"strings"

	xterm "golang.org/x/term"
)

// ColorMode is the value of the flag --color, a pflag.Value. The zero value is ColorAuto.
type ColorMode uint8

// The values of --color.
const (
	ColorAuto   ColorMode = iota // where the output is a terminal that wants colours
	ColorAlways                  // whatever the output and the environment
	ColorNever
)

var colorModes = [...]string{ColorAuto: "auto", ColorAlways: "always", ColorNever: "never"}

// String returns "auto", "always" or "never".
func (m ColorMode) String() string {
	if int(m) < len(colorModes) {
		return colorModes[m]
	}
	return fmt.Sprintf("ColorMode(%d)", uint8(m))
}

// Set accepts what String returns.
func (m *ColorMode) Set(s string) error {
	for i, name := range colorModes {
		if s == name {
			*m = ColorMode(i)
			return nil
		}
	}
	return fmt.Errorf("unknown mode %q: want %s", s, strings.Join(colorModes[:], ", "))
}

// Type names the kind of value in the help text.
func (m *ColorMode) Type() string { return strings.Join(colorModes[:], "|") }

// Enabled reports whether output to f is coloured. In ColorAuto it is if f is a terminal, TERM
// names one that is not dumb, and NO_COLOR is unset or empty (no-color.org).
func (m ColorMode) Enabled(f *os.File) bool {
	switch m {
	case ColorAlways:
		return true
	case ColorNever:
		return false
	}
	kind := os.Getenv("TERM")
	return os.Getenv("NO_COLOR") == "" && kind != "" && kind != "dumb" && IsTerminal(f)
}

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool { return f != nil && xterm.IsTerminal(int(f.Fd())) }

// columns returns the width of the terminal behind w, or 0 if w is none.
func columns(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || f == nil {
		return 0
	}
	width, _, err := xterm.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// utf8Locale reports whether the locale promises that UTF-8 is understood.
func utf8Locale() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(os.Getenv(name)); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

// sgr is an escape sequence that selects a colour; "" is the terminal's own. The eight basic
// colours alone, so that the person's theme decides.
type sgr string

const (
	plain   sgr = ""
	reset   sgr = "\x1b[0m"
	bold    sgr = "\x1b[1m"
	red     sgr = "\x1b[31m"
	green   sgr = "\x1b[32m"
	yellow  sgr = "\x1b[33m"
	magenta sgr = "\x1b[35m"
	cyan    sgr = "\x1b[36m"
	gray    sgr = "\x1b[90m"
)

// line builds one line of output. It writes an escape sequence only if the colour changes.
type line struct {
	b     []byte
	color bool
	now   sgr
}

func (l *line) start() { l.b, l.now = l.b[:0], plain }

// paint selects the colour of what follows.
func (l *line) paint(c sgr) {
	if !l.color || c == l.now {
		return
	}
	if c == plain {
		l.b = append(l.b, reset...)
	} else {
		l.b = append(l.b, c...)
	}
	l.now = c
}

// text appends text, which may hold anything: here is where what does not print is kept from
// all lines.
func (l *line) text(c sgr, s string) {
	if s != "" {
		l.paint(c)
		l.b = append(l.b, Printable(s)...)
	}
}

func (l *line) pad(n int) {
	for range n {
		l.b = append(l.b, ' ')
	}
}

// hex appends v in at least width digits.
func (l *line) hex(v uint64, width int) {
	n := 1
	for n < 16 && v>>(4*n) != 0 {
		n++
	}
	for i := max(n, width) - 1; i >= 0; i-- {
		l.b = append(l.b, hexDigits[v>>(4*i)&15])
	}
}

// end returns the line with its newline, trailing spaces cut, good until the next start.
func (l *line) end() []byte {
	l.paint(plain)
	for len(l.b) > 0 && l.b[len(l.b)-1] == ' ' {
		l.b = l.b[:len(l.b)-1]
	}
	l.b = append(l.b, '\n')
	return l.b
}

const hexDigits = "0123456789abcdef"

// Mark returns a sign for a condition that holds, or does not.
func Mark(ok, color bool) string {
	text, c := "no", red
	if ok {
		text, c = "ok", green
	}
	if !color {
		return text
	}
	return string(c) + text + string(reset)
}
