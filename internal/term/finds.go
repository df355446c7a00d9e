package term

import (
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/procmem/procmem"
)

// Find is a match of a search, to be printed.
type Find struct {
	Addr    procmem.Addr
	Whose   string // which process or core it is of; "" where there is just one
	Place   string // what the address is called; "" where it has no name
	Pattern string // "" where there is just one
	// Value is the match as a number; "" prints it as text.
	Value string
	// Hex has the bytes of the match printed too.
	Hex           bool
	Match         []byte
	Before, After []byte // what lies on either side
}

// Finds prints what a search has found: a line for each match or, if asked for, a hexdump of
// what is around it.
type Finds struct {
	dump  *Hexdump // with the buffer that all goes through
	line  line
	rows  bool
	width int // of the places so far
}

// maxPlace is the widest that the column of places becomes.
const maxPlace = 48

const hit sgr = "\x1b[1;31m"

// NewFinds returns a printer to w, with a buffer. With rows, each match comes with a hexdump,
// in which colour marks it. Otherwise what is around it is text on its line.
func NewFinds(w io.Writer, color, rows bool) *Finds {
	return &Finds{dump: newHexdump(w, color, false, columns(w)), line: line{color: color}, rows: rows}
}

// Print prints a match. It fails if the writer does.
func (f *Finds) Print(x *Find) error {
	l := &f.line
	l.start()
	l.text(plain, "0x")
	l.hex(uint64(x.Addr), 1)
	l.pad(len("0x7fffffffffff") - len(l.b))
	if x.Whose != "" {
		l.text(plain, "  ")
		l.text(plain, Printable(x.Whose))
	}
	if x.Place != "" || f.width > 0 {
		place := Printable(x.Place)
		n := utf8.RuneCountInString(place)
		f.width = max(f.width, min(n, maxPlace))
		l.text(plain, "  ")
		l.text(gray, place)
		l.text(plain, "")
		l.pad(f.width - n)
	}
	if x.Pattern != "" {
		l.text(plain, "  ")
		l.text(green, strconv.Quote(x.Pattern))
	}
	f.content(x)
	f.dump.w.Write(l.end())
	if f.rows {
		f.hexdump(x)
	}
	_, err := f.dump.w.Write(nil) // the error that the buffer remembers
	return err
}

// content prints what was found.
func (f *Finds) content(x *Find) {
	l := &f.line
	l.text(plain, "  ")
	if x.Value != "" {
		l.text(hit, x.Value)
		return
	}
	if x.Hex {
		l.paint(hit)
		for i, c := range x.Match {
			if i > 0 {
				l.b = append(l.b, ' ')
			}
			l.b = append(l.b, hexDigits[c>>4], hexDigits[c&15])
		}
		l.text(plain, "  ")
	}
	if f.rows {
		f.characters(hit, x.Match)
		return
	}
	f.characters(plain, x.Before)
	f.characters(hit, x.Match)
	f.characters(plain, x.After)
}

// characters prints bytes as text, with a dot for each that is none.
func (f *Finds) characters(c sgr, p []byte) {
	l := &f.line
	if len(p) == 0 {
		return
	}
	l.paint(c)
	for len(p) > 0 {
		if p[0] < utf8.RuneSelf {
			b := p[0]
			if b < ' ' || b == 0x7f {
				b = '.'
			}
			l.b = append(l.b, b)
			p = p[1:]
			continue
		}
		r, n := utf8.DecodeRune(p)
		if n > 1 && strconv.IsPrint(r) {
			l.b = append(l.b, p[:n]...)
			p = p[n:]
			continue
		}
		l.b = append(l.b, '.')
		p = p[1:]
	}
}

// hexdump prints the match and what is around it.
func (f *Finds) hexdump(x *Find) {
	p := append(append(append([]byte(nil), x.Before...), x.Match...), x.After...)
	at := x.Addr - procmem.Addr(len(x.Before))
	f.dump.mark = procmem.Range{Start: x.Addr, End: x.Addr + procmem.Addr(len(x.Match))}
	for len(p) > 0 {
		n := min(len(p), hexRow-int(at%hexRow))
		f.dump.row(at, p[:n])
		p, at = p[n:], at+procmem.Addr(n)
	}
}

// Flush empties the buffer.
func (f *Finds) Flush() error { return f.dump.w.Flush() }

// Line prints a line of text.
func (f *Finds) Line(text string) error {
	_, err := f.dump.w.WriteString(Printable(text) + "\n")
	return err
}
