package term

import (
	"bufio"
	"io"
	"strconv"

	"github.com/procmem/procmem"
)

// Kind is what a part of a chain is. It decides the colour.
type Kind uint8

// The kinds. The zero Kind is a number, or anything else that is no memory.
const (
	KindNumber Kind = iota
	KindCode
	KindStack
	KindHeap
	KindData
	KindReadOnly
	KindString
)

var kindColor = [...]sgr{
	KindNumber: plain, KindCode: red, KindStack: magenta, KindHeap: cyan, KindData: yellow, KindReadOnly: bold, KindString: green,
}

// Part is one step of a chain of pointers, as text.
type Part struct {
	Kind Kind
	Text string
}

// Chains prints memory as words, one a line, each with the chain of pointers that it begins.
// Words that repeat the one before are squeezed to "*". A jump of the address is a line that
// tells its size. The last line is the first address after the memory.
type Chains struct {
	sheet
	rows
	arrow  string
	follow func(at procmem.Addr, value uint64) []Part
}

// NewChains returns a printer to w of words of wordSize bytes, 4 or 8. follow returns the parts
// of the chain that the word value, which lies at the address at, begins. The first part says
// what the value itself is, and has no text for a mere number.
func NewChains(w io.Writer, wordSize int, color bool, follow func(at procmem.Addr, value uint64) []Part) *Chains {
	c := &Chains{sheet: sheet{w: bufio.NewWriterSize(w, bufferSize), line: line{color: color}, digits: 16}, arrow: " -> ", follow: follow}
	if color && utf8Locale() {
		c.arrow = " → "
	}
	c.rows = rows{w: c.sheet.w, out: c, size: wordSize}
	return c
}

// Write prints the piece p of the memory at addr. Pieces may have any length and any order, and
// a word may lie in several. It fails if the writer does, or with procmem.ErrOverflow.
func (c *Chains) Write(addr procmem.Addr, p []byte) error { return c.rows.Write(addr, p) }

// Close prints what is not a whole word as bytes, then the end address, and empties the buffer.
// It does not close the writer.
func (c *Chains) Close() error { return c.rows.Close() }

func (c *Chains) row(addr procmem.Addr, p []byte) {
	l := &c.sheet.line
	c.address(addr)
	if len(p) < c.size {
		for _, b := range p {
			l.paint(classColor[classes[b]])
			l.b = append(l.b, hexDigits[b>>4], hexDigits[b&15], ' ')
		}
		l.text(plain, " ("+strconv.Itoa(len(p))+" of the "+strconv.Itoa(c.size)+" bytes of a word)")
		c.sheet.w.Write(l.end())
		return
	}
	v := word(p)
	for i, part := range c.follow(addr, v) {
		color := kindColor[part.Kind]
		switch {
		case i > 0:
			l.text(plain, c.arrow)
		case v == 0:
			color = gray
			fallthrough
		default:
			l.text(color, "0x")
			l.hex(v, 2*c.size)
			l.text(plain, "  ")
		}
		l.text(color, Printable(part.Text))
	}
	c.sheet.w.Write(l.end())
}
