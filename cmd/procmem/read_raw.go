package main

import (
	"io"

	"github.com/procmem/procmem"
)

// rawBytes writes the bytes of memory as they are.
type rawBytes struct{ w io.Writer }

func (r rawBytes) Write(_ procmem.Addr, p []byte) error {
	_, err := r.w.Write(p)
	return err
}
func (rawBytes) Close() error { return nil }

// rangeOutput is a readOutput that is told where each range begins.
type rangeOutput interface {
	begin(r procmem.Range)
}

// toldBytes is rawBytes where nobody has asked for raw bytes, of several ranges. It tells where in
// the output each begins.
type toldBytes struct {
	rawBytes
	off    uint64 // of what comes next
	ranges int
}

func (t *toldBytes) begin(r procmem.Range) {
	if t.ranges++; t.ranges <= mostLines {
		notice("%v is at offset %d of the output", r, t.off)
	}
}

func (t *toldBytes) Write(a procmem.Addr, p []byte) error {
	t.off += uint64(len(p))
	return t.rawBytes.Write(a, p)
}

func (t *toldBytes) Close() error {
	if more := t.ranges - mostLines; more > 0 {
		notice("%s more follow", count(more, "range"))
	}
	return t.rawBytes.Close()
}
