package term

import (
	"os"
	"strconv"

	xterm "golang.org/x/term"

	"github.com/procmem/procmem"
)

// Watched is a value at an address that may change.
type Watched struct {
	Addr  procmem.Addr
	Place string // what the address is called
	Value string
	Note  string // such as what the value was before
	Fresh bool   // the value has just changed
}

// Screen shows values on a terminal, and shows them again in the same place. Between two calls of
// Draw the cursor is below them, where a shell may go on.
type Screen struct {
	f     *os.File
	line  line
	drawn int // lines above the cursor
}

// NewScreen returns a screen on a terminal.
func NewScreen(f *os.File, color bool) *Screen { return &Screen{f: f, line: line{color: color}} }

// The size of a terminal that does not tell its own.
const (
	defaultWidth  = 80
	defaultHeight = 24
)

// Draw shows as many values as there is room for, and says how many there is none for. It fails if
// the terminal is gone.
func (s *Screen) Draw(values []Watched) error {
	width, height, err := xterm.GetSize(int(s.f.Fd()))
	if err != nil {
		return err
	}
	if width <= 0 || height <= 0 {
		width, height = defaultWidth, defaultHeight
	}
	var out []byte
	if s.drawn > 0 {
		out = append(out, "\x1b["+strconv.Itoa(s.drawn)+"A\r"...)
	}
	s.drawn = 0
	add := func(b []byte) {
		out = append(out, b[:len(b)-1]...)
		out = append(out, "\x1b[K\n"...)
		s.drawn++
	}
	rows := len(values)
	if rows > height-1 {
		rows = max(height-2, 0)
	}
	widest := 0
	for i := range values[:rows] {
		widest = max(widest, min(len([]rune(Printable(values[i].Place))), maxPlace))
	}
	for i := range values[:rows] {
		add(s.row(&values[i], widest, width-1))
	}
	if more := len(values) - rows; more > 0 {
		s.line.start()
		s.line.text(gray, firstOf(strconv.Itoa(more)+" more: the terminal has no room for them", width-1))
		add(s.line.end())
	}
	_, err = s.f.Write(append(out, "\x1b[J"...))
	return err
}

// row makes a line of at most room columns. Places take widest columns.
func (s *Screen) row(v *Watched, widest, room int) []byte {
	l := &s.line
	l.start()
	add := func(c sgr, text string, width int) {
		text = firstOf(Printable(text), room)
		n := len([]rune(text))
		l.text(c, text)
		l.text(plain, "")
		pad := min(max(width-n, 0), room-n)
		l.pad(pad)
		room -= n + pad
	}
	value := plain
	if v.Fresh {
		value = hit
	}
	add(plain, v.Addr.String(), len("0x7fffffffffff"))
	add(plain, "  ", 0)
	add(gray, firstOf(Printable(v.Place), widest), widest)
	add(plain, "  ", 0)
	add(value, v.Value, 0)
	if v.Note != "" {
		add(plain, "  ", 0)
		add(gray, v.Note, 0)
	}
	return l.end()
}

// firstOf returns the first n characters of a text.
func firstOf(s string, n int) string {
	r := []rune(s)
	return string(r[:min(max(n, 0), len(r))])
}
