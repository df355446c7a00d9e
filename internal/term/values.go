package term

import (
	"bufio"
	"io"
	"strconv"

	"github.com/procmem/procmem"
)

// Values prints memory as values of one Format: an address and as many values as fit the line,
// or one pointer or string. Values begin where the memory begins, aligned or not. Lines of
// numbers that repeat the one before are squeezed to "*", and empty strings in a row are
// counted. A jump of the address is a line that tells its size. The last line is the first
// address after the memory.
type Values struct {
	out interface {
		Write(addr procmem.Addr, p []byte) error
		Close() error
	}
}

// The columns of a line where the width of the terminal is not known.
const defaultColumns = 100

// NewValues returns a printer of values to w. A pointer has wordSize bytes, 4 or 8. annotate
// may be nil; it is called for ptr alone, and returns what a pointer points to, such as a
// mapping and an offset, or "". If w is a terminal, its width decides how many values a line
// has.
func NewValues(w io.Writer, f Format, wordSize int, color bool, annotate func(procmem.Addr) string) *Values {
	return newValues(w, f, wordSize, color, annotate, columns(w))
}

func newValues(w io.Writer, f Format, wordSize int, color bool, annotate func(procmem.Addr) string, columns int) *Values {
	if wordSize != 4 {
		wordSize = 8
	}
	if annotate == nil {
		annotate = func(procmem.Addr) string { return "" }
	}
	if columns == 0 {
		columns = defaultColumns
	}
	s := sheet{w: bufio.NewWriterSize(w, bufferSize), line: line{color: color}, digits: 16}
	if columns < boxLayout.columns() {
		s.digits = 12 // as Hexdump does
	}
	if f == formatStr {
		return &Values{&stringDump{sheet: s}}
	}
	n := &numberDump{sheet: s, format: f, size: f.size(wordSize), width: f.width(wordSize), annotate: annotate}
	per := 1
	if f != formatPtr {
		// A power of two, so that addresses advance by round numbers.
		for per < 16 && s.digits+1+2*per*(n.width+1) <= columns {
			per *= 2
		}
	}
	n.rows = rows{w: s.w, out: n, size: per * n.size}
	return &Values{n}
}

// Write prints the piece p of the memory at addr. Pieces may have any length and any order, and
// a value may lie in several. It fails if the writer does, or with procmem.ErrOverflow.
func (v *Values) Write(addr procmem.Addr, p []byte) error { return v.out.Write(addr, p) }

// Close prints what is not a whole value as bytes, then the end address, and empties the
// buffer. It does not close the writer.
func (v *Values) Close() error { return v.out.Close() }

// sheet prints the lines that numbers and strings have in common.
type sheet struct {
	w      *bufio.Writer
	line   line
	digits int
}

// address begins a line.
func (s *sheet) address(a procmem.Addr) {
	s.line.start()
	s.line.hex(uint64(a), s.digits)
	s.line.pad(2)
}

func (s *sheet) star() {
	s.line.start()
	s.line.text(plain, "*")
	s.w.Write(s.line.end())
}

func (s *sheet) gap(from, to procmem.Addr) {
	s.address(from)
	s.line.text(plain, gapText(from, to))
	s.w.Write(s.line.end())
}

func (s *sheet) end(a procmem.Addr) {
	s.address(a)
	s.w.Write(s.line.end())
}

// numberDump prints all formats but str.
type numberDump struct {
	sheet
	rows
	format   Format
	size     int // bytes of a value
	width    int // characters of a value
	annotate func(procmem.Addr) string
	scratch  []byte
}

func (n *numberDump) Write(addr procmem.Addr, p []byte) error { return n.rows.Write(addr, p) }
func (n *numberDump) Close() error                            { return n.rows.Close() }

func (n *numberDump) row(addr procmem.Addr, p []byte) {
	l := &n.sheet.line
	if len(p) >= n.size {
		n.address(addr)
		for i := 0; len(p) >= n.size; i++ {
			if i > 0 {
				l.pad(1)
			}
			n.value(p[:n.size])
			p, addr = p[n.size:], addr+procmem.Addr(n.size)
		}
		n.sheet.w.Write(l.end())
	}
	if len(p) == 0 {
		return
	}
	n.address(addr)
	for _, c := range p {
		l.paint(classColor[classes[c]])
		l.b = append(l.b, hexDigits[c>>4], hexDigits[c&15], ' ')
	}
	l.text(plain, " ("+strconv.Itoa(len(p))+" of the "+strconv.Itoa(n.size)+" bytes of "+n.format.String()+")")
	n.sheet.w.Write(l.end())
}

func (n *numberDump) value(p []byte) {
	l := &n.sheet.line
	c := plain
	if allZero(p) {
		c = gray
	}
	if n.format == formatPtr {
		v := word(p)
		note := Printable(n.annotate(procmem.Addr(v)))
		if note != "" {
			c = cyan
		}
		l.text(c, "0x")
		l.hex(v, 2*n.size)
		if note != "" {
			l.paint(plain)
			l.pad(2)
			l.text(plain, note)
		}
		return
	}
	n.scratch = n.format.number(n.scratch[:0], p)
	l.pad(n.width - len(n.scratch))
	l.paint(c)
	l.b = append(l.b, n.scratch...)
}

func allZero(p []byte) bool {
	for _, c := range p {
		if c != 0 {
			return false
		}
	}
	return true
}
