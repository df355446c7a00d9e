package term

import (
	"bufio"
	"bytes"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/units"
)

// bufferSize is what is gathered before the terminal or the pipe is written.
const bufferSize = 64 << 10

// rowPrinter prints what rows has cut.
type rowPrinter interface {
	row(addr procmem.Addr, p []byte) // one row, whole or not; addr is that of p[0]
	star()                           // rows like the last one are left out
	gap(from, to procmem.Addr)       // the addresses jump
	end(addr procmem.Addr)           // the first address after the last row
}

// rows cuts pieces of memory, which come in any length, into rows. It leaves out rows that
// repeat the one before, and notices jumps of the address.
type rows struct {
	w     *bufio.Writer
	out   rowPrinter
	size  int  // bytes of a row
	align bool // rows begin at multiples of size, not where the memory does

	begun    bool
	next     procmem.Addr // where the next piece goes on
	partial  []byte       // a row that is not whole yet
	at       procmem.Addr // its address
	last     []byte       // the last whole row that was printed, or empty
	squeezed bool         // the star is printed
}

// Write takes the piece p of the memory at addr.
func (r *rows) Write(addr procmem.Addr, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	end, err := addr.Add(uint64(len(p)))
	if err != nil {
		return err
	}
	if r.begun && addr != r.next {
		r.flush()
		r.out.gap(r.next, addr)
		r.last, r.squeezed = r.last[:0], false
	}
	r.begun, r.next = true, end
	for len(p) > 0 {
		if len(r.partial) == 0 {
			r.at = addr
		}
		n := r.size - len(r.partial)
		if r.align {
			n -= int(uint64(r.at) % uint64(r.size))
		}
		whole := n <= len(p)
		n = min(n, len(p))
		if whole && len(r.partial) == 0 {
			r.line(addr, p[:n]) // the common case needs no copy
		} else {
			r.partial = append(r.partial, p[:n]...)
			if whole {
				r.flush()
			}
		}
		p, addr = p[n:], addr+procmem.Addr(n)
	}
	_, err = r.w.Write(nil) // the error that the buffer remembers
	return err
}

// Close prints the rest and the end address. Nothing is printed where nothing was written.
func (r *rows) Close() error {
	if r.begun {
		r.flush()
		r.out.end(r.next)
		r.begun, r.last, r.squeezed = false, r.last[:0], false
	}
	return r.w.Flush()
}

func (r *rows) flush() {
	if len(r.partial) > 0 {
		r.line(r.at, r.partial)
		r.partial = r.partial[:0]
	}
}

func (r *rows) line(addr procmem.Addr, p []byte) {
	if len(p) == r.size && bytes.Equal(p, r.last) {
		if !r.squeezed {
			r.out.star()
			r.squeezed = true
		}
		return
	}
	r.out.row(addr, p)
	r.squeezed = false
	r.last = r.last[:0]
	if len(p) == r.size {
		r.last = append(r.last, p...)
	}
}

// gapText says how much a jump from one address to another leaves out.
func gapText(from, to procmem.Addr) string {
	if to < from {
		return "-- back to lower addresses --"
	}
	return "-- " + units.Size(uint64(to-from)) + " not shown --"
}
