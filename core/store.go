package core

import (
	"io"
	"iter"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
)

// store has what was put ahead of Copy.
type store interface {
	Put(addr procmem.Addr, p []byte) error
	Forget(r procmem.Range) error
	ReadAt(p []byte, addr procmem.Addr) (int, error)
	// Settle returns where the memory of ascending ranges lies. Each place is inside one range.
	Settle(ranges []procmem.Range) ([]pageset.Place, error)
	// Lacks yields the parts of r that have to be written to the places of Settle.
	Lacks(r procmem.Range) iter.Seq[procmem.Range]
	// Held yields the parts of r that were put and not forgotten.
	Held(r procmem.Range) iter.Seq[procmem.Range]
	// End returns the file offset of the end of the memory.
	End() int64
	// Bytes returns how many bytes were put.
	Bytes() int64
}

// Log is a file that can only be appended to, but for its head, such as a compressed one. It
// may append what is put ahead. Settle then divides ranges into places, so that headers lead to
// no bytes that were put over or forgotten.
//
// A Log is one of this module's own, because its methods have internal types. Package capture
// makes compressed cores with one. Other programs call capture.ToFile.
type Log interface {
	store
	// Begin makes room for a head of that many bytes.
	Begin(head int64)
	// Ahead says whether pages that are put from now on are likely to stay. It reports whether
	// the Log makes use of that.
	Ahead(likely bool) bool
	// Len returns the length of the file, in bytes, with what was put and the head.
	Len() int64
	io.Writer
	// Zeros writes n zeros.
	Zeros(n int64) error
	// WriteHead writes the head, after all else.
	WriteHead(p []byte) error
}
