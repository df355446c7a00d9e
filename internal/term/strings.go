package term

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	"github.com/procmem/procmem"
)

// maxString is the most of a string that one line shows and memory holds; what is longer goes
// on in the next line.
const maxString = 4096

// stringDump prints the format str.
type stringDump struct {
	sheet
	begun   bool
	next    procmem.Addr
	s       []byte       // of the string that has not ended yet
	at      procmem.Addr // where s begins
	more    bool         // s goes on from the line before
	empty   uint64       // empty strings in a row, not printed yet
	emptyAt procmem.Addr // the first of them
}

func (d *stringDump) Write(addr procmem.Addr, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	end, err := addr.Add(uint64(len(p)))
	if err != nil {
		return err
	}
	if d.begun && addr != d.next {
		d.flush()
		d.gap(d.next, addr)
	}
	if !d.begun || addr != d.next {
		d.at = addr
	}
	d.begun, d.next = true, end
	for len(p) > 0 {
		n := bytes.IndexByte(p, 0)
		if n >= 0 && len(d.s)+n <= maxString {
			d.s = append(d.s, p[:n]...)
			d.print("")
			d.at, d.s, d.more = d.at+procmem.Addr(len(d.s))+1, d.s[:0], false
			p = p[n+1:]
			continue
		}
		if n < 0 {
			n = len(p)
		}
		n = min(n, maxString+1-len(d.s))
		d.s = append(d.s, p[:n]...)
		p = p[n:]
		if len(d.s) > maxString {
			d.split()
		}
	}
	_, err = d.w.Write(nil) // the error that the buffer remembers
	return err
}

func (d *stringDump) Close() error {
	if d.begun {
		d.flush()
		d.end(d.next)
		d.begun = false
	}
	return d.w.Flush()
}

// split prints the first part of a string that is too long for a line.
func (d *stringDump) split() {
	cut := maxString
	for i := range utf8.UTFMax {
		// Not inside of a character, where there are characters.
		if utf8.RuneStart(d.s[maxString-i]) {
			cut = maxString - i
			break
		}
	}
	rest := d.s[cut:]
	d.s = d.s[:cut]
	d.print("...")
	d.at += procmem.Addr(cut)
	d.s = append(d.s[:0], rest...)
	d.more = true
}

// flush prints a string that the memory ends before.
func (d *stringDump) flush() {
	if len(d.s) > 0 {
		d.print("  (no NUL at the end)")
	}
	d.printEmpty()
	d.s, d.more = d.s[:0], false
}

// print prints s. Empty strings are counted: most are NULs that fill up a structure or a page,
// and a line for each would bury the others.
func (d *stringDump) print(suffix string) {
	if len(d.s) == 0 {
		if d.empty == 0 {
			d.emptyAt = d.at
		}
		d.empty++
		return
	}
	d.printEmpty()
	d.address(d.at)
	if d.more {
		d.line.text(plain, "...")
	}
	d.line.paint(green)
	d.line.b = strconv.AppendQuote(d.line.b, string(d.s))
	d.line.text(plain, suffix)
	d.w.Write(d.line.end())
}

func (d *stringDump) printEmpty() {
	if d.empty == 0 {
		return
	}
	d.address(d.emptyAt)
	d.line.text(gray, `""`)
	if d.empty > 1 {
		d.line.text(gray, "  ("+strconv.FormatUint(d.empty, 10)+" times)")
	}
	d.w.Write(d.line.end())
	d.empty = 0
}
