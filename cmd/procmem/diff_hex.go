package main

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/diff"
	"github.com/procmem/procmem/internal/term"
)

// hexPairs prints the bytes of two memories side by side. Rows begin at multiples of their
// length. A row has the address, the bytes of both, and both as text. Bytes that differ are
// coloured, or have an asterisk before them.
type hexPairs struct {
	w     *bufio.Writer
	color bool
	size  int // bytes of a row
	b     []byte
	next  procmem.Addr // end of what was printed last
	begun bool
}

// Colours of what was there before, and of what is there now.
const (
	colorBefore = "\x1b[31m"
	colorAfter  = "\x1b[32m"
	colorNone   = "\x1b[0m"
)

// hexPairDigits is how many digits an address of user space has.
const hexPairDigits = 12

func newHexPairs(w *bufio.Writer, color bool, width int) *hexPairs {
	h := &hexPairs{w: w, color: color, size: 16}
	if wide := hexPairDigits + 8*h.size + 4; width > 0 && width < wide {
		h.size = 8 // gives just 80 columns
	}
	return h
}

// print prints a change. A line that names the place comes first, unless the change follows the
// last one.
func (h *hexPairs) print(c diff.Change, where func(procmem.Addr) string) {
	if !h.begun || c.Start-h.next >= diff.Gap {
		if h.begun {
			h.w.WriteByte('\n')
		}
		term.Fprintf(h.w, "%v  %s\n", c.Start, where(c.Start))
	}
	h.begun, h.next = true, c.End
	for at := 0; at < len(c.A); {
		a := c.Start + procmem.Addr(at)
		skip := int(uint64(a) % uint64(h.size))
		n := min(h.size-skip, len(c.A)-at)
		h.row(a-procmem.Addr(skip), skip, c.A[at:at+n], c.B[at:at+n])
		at += n
	}
}

// row prints a row. Its first skip bytes, and maybe its last ones, are missing.
func (h *hexPairs) row(addr procmem.Addr, skip int, a, b []byte) {
	h.b = fmt.Appendf(h.b[:0], "%0*x ", hexPairDigits, uint64(addr))
	h.bytes(colorBefore, skip, a, b)
	h.b = append(h.b, ' ')
	h.bytes(colorAfter, skip, b, a)
	h.b = append(h.b, ' ')
	h.text(colorBefore, skip, a, b)
	h.b = append(h.b, ' ')
	h.text(colorAfter, skip, b, a)
	h.w.WriteString(strings.TrimRight(string(h.b), " ") + "\n")
}

// bytes prints bytes of one memory, and marks those that the other has not.
func (h *hexPairs) bytes(color string, skip int, p, other []byte) {
	const digits = "0123456789abcdef"
	for i := range h.size {
		k := i - skip
		switch {
		case k < 0 || k >= len(p):
			h.b = append(h.b, "   "...)
		case p[k] == other[k]:
			h.b = append(h.b, ' ', digits[p[k]>>4], digits[p[k]&15])
		case h.color:
			h.b = append(append(h.b, ' '), color...)
			h.b = append(append(h.b, digits[p[k]>>4], digits[p[k]&15]), colorNone...)
		default:
			h.b = append(h.b, '*', digits[p[k]>>4], digits[p[k]&15])
		}
	}
}

// text prints bytes of one memory as text.
func (h *hexPairs) text(color string, skip int, p, other []byte) {
	for i := range h.size {
		k := i - skip
		if k < 0 || k >= len(p) {
			h.b = append(h.b, ' ')
			continue
		}
		c := p[k]
		if c < ' ' || c > '~' {
			c = '.'
		}
		if h.color && p[k] != other[k] {
			h.b = append(append(append(h.b, color...), c), colorNone...)
		} else {
			h.b = append(h.b, c)
		}
	}
}
