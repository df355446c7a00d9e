package main

import (
	"io"
	"os"
	"strings"
	"unicode/utf8"

	xterm "golang.org/x/term"

	"github.com/procmem/procmem/internal/term"
)

// prose writes text with a label before it. On a terminal, lines are broken at spaces. In a
// pipe, each paragraph is one line.
type prose struct {
	w     io.Writer
	width int // of the terminal, in columns; 0 where there is none
	b     strings.Builder
}

func newProse(f *os.File) *prose { return &prose{w: f, width: columnsOf(f)} }

// columnsOf returns the width of a terminal, or 0 where f is none.
func columnsOf(f *os.File) int {
	if f == nil {
		return 0
	}
	width, _, err := xterm.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// paragraph writes a text after its label. It writes nothing where the text is empty, and an
// empty line where it is a newline.
func (p *prose) paragraph(label, text string) {
	switch text {
	case "":
	case "\n":
		p.b.WriteString(text)
	default:
		p.b.WriteString(label)
		p.fill(utf8.RuneCountInString(label), text)
	}
}

// command is paragraph for a text that is to be copied, and so is not broken.
func (p *prose) command(label, text string) {
	if text != "" {
		p.b.WriteString(label + term.Printable(text) + "\n")
	}
}

// marked is paragraph with a sign of two columns before it, maybe coloured.
func (p *prose) marked(sign, label, text string) {
	p.b.WriteString(sign + " " + label)
	p.fill(3+utf8.RuneCountInString(label), text)
}

// fill writes the words of text. The first word is at column indent, and the next lines begin
// there.
func (p *prose) fill(indent int, text string) {
	const least = 20 // columns, below which a text is not readable anyway
	at := indent
	for i, word := range strings.Fields(term.Printable(text)) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case p.width >= indent+least && at+1+n > p.width:
			p.b.WriteString("\n" + strings.Repeat(" ", indent))
			at = indent
		default:
			p.b.WriteByte(' ')
			at++
		}
		p.b.WriteString(word)
		at += n
	}
	p.b.WriteByte('\n')
}

func (p *prose) flush() error {
	_, err := io.WriteString(p.w, p.b.String())
	return err
}
