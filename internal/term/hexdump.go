package term

import (
	"bufio"
	"io"
	"unicode/utf8"

	"github.com/procmem/procmem"
)

// Hexdump prints memory as an address, sixteen bytes in hexadecimal, and the same as text. Rows
// begin at multiples of 16. Rows that repeat the one before are squeezed to "*". A jump of the
// address is a line that tells its size. The last line is the first address after the memory.
type Hexdump struct {
	rows
	line line
	hexLayout
	mark procmem.Range // stands out, where there is colour
}

// hexLayout is what separates the parts of a row.
type hexLayout struct {
	digits    int // at least so many in an address
	left      string
	afterAddr string
	mid       string // between the two groups of eight
	beforeTxt string
	midTxt    string
	right     string
	boxed     bool // every line ends with right, and borders close the dump
	unicode   bool
}

const hexRow = 16

var (
	// With its 90 columns, the box does not fit a terminal of the classic 80. There, addresses
	// go without the zeros in front, and little separates the parts. Addresses of user space
	// then have 12 digits, which gives just 80.
	boxLayout = hexLayout{16, "│ ", " │ ", " ┊ ", " │", "┊", "│", true, true}
	barLayout = hexLayout{16, "", "  ", "  ", "  |", "", "|", false, false}
	tinyBox   = hexLayout{12, "", " ", "  ", " │", "", "│", false, true}
	tinyBar   = hexLayout{12, "", " ", "  ", " |", "", "|", false, false}
)

// NewHexdump returns a hexdump to w. With color, bytes are coloured by their kind, and a box is
// drawn if the locale has UTF-8. If w is a terminal narrower than the rows, addresses are
// shorter.
func NewHexdump(w io.Writer, color bool) *Hexdump {
	return newHexdump(w, color, color && utf8Locale(), columns(w))
}

func newHexdump(w io.Writer, color, unicode bool, columns int) *Hexdump {
	h := &Hexdump{line: line{color: color}, hexLayout: barLayout}
	switch {
	case unicode && columns != 0 && columns < boxLayout.columns():
		h.hexLayout = tinyBox
	case unicode:
		h.hexLayout = boxLayout
	case columns != 0 && columns < barLayout.columns():
		h.hexLayout = tinyBar
	}
	h.rows = rows{w: bufio.NewWriterSize(w, bufferSize), out: h, size: hexRow, align: true}
	return h
}

func (l *hexLayout) columns() int {
	n := utf8.RuneCountInString
	return n(l.left) + l.digits + n(l.afterAddr) + l.hexColumns() + n(l.beforeTxt) + hexRow + n(l.midTxt) + n(l.right)
}

func (l *hexLayout) hexColumns() int {
	return 3*hexRow - 2 + utf8.RuneCountInString(l.mid)
}

// Write prints the piece p of the memory at addr. Pieces may have any length and any order;
// those that follow upon each other form one dump. It fails if the writer does, or with
// procmem.ErrOverflow.
func (h *Hexdump) Write(addr procmem.Addr, p []byte) error {
	if !h.begun && len(p) > 0 {
		h.border("┌", "┬", "┐")
	}
	return h.rows.Write(addr, p)
}

// Close prints the end address and empties the buffer. It does not close the writer.
func (h *Hexdump) Close() error { return h.rows.Close() }

// byteClass is what a reader wants to tell apart at a glance.
type byteClass uint8

const (
	classNUL byteClass = iota
	classPrint
	classSpace
	classControl
	classHigh
	classFF
)

var classColor = [...]sgr{
	classNUL: gray, classPrint: cyan, classSpace: green, classControl: magenta, classHigh: yellow, classFF: red,
}

// glyph holds how a byte of each class that does not print is shown.
var glyph = [...]string{classNUL: "⋄", classSpace: "_", classControl: "•", classHigh: "×", classFF: "×"}

func classOf(c byte) byteClass {
	switch {
	case c == 0:
		return classNUL
	case c == ' ' || c >= '\t' && c <= '\r':
		return classSpace
	case c < ' ' || c == 0x7f:
		return classControl
	case c < 0x7f:
		return classPrint
	case c == 0xff:
		return classFF
	}
	return classHigh
}

var classes = func() (t [256]byteClass) {
	for i := range t {
		t[i] = classOf(byte(i))
	}
	return t
}()

func (h *Hexdump) row(addr procmem.Addr, p []byte) {
	l := &h.line
	first := int(addr % hexRow)
	h.address(addr - procmem.Addr(first))
	for i := range hexRow {
		switch {
		case i == hexRow/2:
			l.text(gray, h.mid)
		case i > 0:
			l.b = append(l.b, ' ')
		}
		if i < first || i >= first+len(p) {
			l.b = append(l.b, ' ', ' ')
			continue
		}
		c := p[i-first]
		l.paint(h.color(addr+procmem.Addr(i-first), classes[c]))
		l.b = append(l.b, hexDigits[c>>4], hexDigits[c&15])
	}
	l.text(gray, h.beforeTxt)
	for i := range hexRow {
		if i == hexRow/2 {
			l.text(gray, h.midTxt)
		}
		if i < first || i >= first+len(p) {
			l.b = append(l.b, ' ')
			continue
		}
		c := p[i-first]
		class := classes[c]
		l.paint(h.color(addr+procmem.Addr(i-first), class))
		switch {
		case class == classPrint || c == ' ':
			l.b = append(l.b, c)
		case h.unicode:
			l.b = append(l.b, glyph[class]...)
		default:
			l.b = append(l.b, '.')
		}
	}
	l.text(gray, h.right)
	h.w.Write(l.end())
}

// color returns the colour of a byte.
func (h *Hexdump) color(a procmem.Addr, class byteClass) sgr {
	if h.mark.Contains(a) {
		return hit
	}
	return classColor[class]
}

// address begins a line.
func (h *Hexdump) address(a procmem.Addr) {
	h.line.start()
	h.line.text(gray, h.left)
	h.line.paint(plain)
	h.line.hex(uint64(a), h.digits)
	h.line.text(gray, h.afterAddr)
}

// rest ends a line that has text, or nothing, in the place of bytes.
func (h *Hexdump) rest(text string) {
	h.line.text(plain, text)
	if h.boxed {
		half := h.hexColumns() / 2
		if text == "" {
			h.line.pad(half - 1)
			h.line.text(gray, h.mid)
			h.line.pad(half - 1)
		} else {
			h.line.pad(h.hexColumns() - utf8.RuneCountInString(text))
		}
		h.line.text(gray, h.beforeTxt)
		h.line.pad(hexRow / 2)
		h.line.text(gray, h.midTxt)
		h.line.pad(hexRow / 2)
		h.line.text(gray, h.right)
	}
	h.w.Write(h.line.end())
}

func (h *Hexdump) star() {
	h.line.start()
	h.line.text(gray, h.left)
	h.line.text(plain, "*")
	h.line.pad(h.digits - 1)
	h.line.text(gray, h.afterAddr)
	h.rest("")
}

func (h *Hexdump) gap(from, to procmem.Addr) {
	h.address(from)
	h.rest(gapText(from, to))
}

func (h *Hexdump) end(a procmem.Addr) {
	h.address(a)
	h.rest("")
	h.border("└", "┴", "┘")
}

func (h *Hexdump) border(left, cross, right string) {
	if !h.boxed {
		return
	}
	h.line.start()
	h.line.text(gray, left)
	part := func(n int, end string) {
		for range n {
			h.line.text(gray, "─")
		}
		h.line.text(gray, end)
	}
	part(h.digits+2, cross)
	part(h.hexColumns()/2+1, cross)
	part(h.hexColumns()/2+1, cross)
	part(hexRow/2, cross)
	part(hexRow/2, right)
	h.w.Write(h.line.end())
}
