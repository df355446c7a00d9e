package core

import (
	"errors"
	"fmt"
	"iter"

	"github.com/procmem/procmem"
)

// errStream is why memory cannot be put ahead of Copy, or taken back.
var errStream = errors.New("a stream takes its memory in order")

// Put writes whole pages into the core ahead of Copy, which then leaves them
// out, over what was put there before. It may be called from several
// goroutines at once for different pages. Pages outside of the dumped segments
// are kept too, for the time when Settle makes them part of one.
func (w *Writer) Put(addr procmem.Addr, p []byte) error {
	if w.stream != nil {
		return errStream
	}
	w.loose.Store(true)
	w.sums.set(addr, p)
	if err := w.store.Put(addr, p); err != nil {
		return fmt.Errorf("put %v into core: %w", addr, err)
	}
	return nil
}

// Forget takes back what was put inside r: no byte of it stays in the file,
// and it is up to Copy again.
func (w *Writer) Forget(r procmem.Range) error {
	if w.stream != nil {
		return errStream
	}
	w.sums.forget(r)
	if err := w.store.Forget(r); err != nil {
		return fmt.Errorf("forget %v in core: %w", r, err)
	}
	return nil
}

// Settle replaces the segments, and forgets what was put outside of those that
// are dumped. It may be called more than once, and not while anything else is
// done with the Writer.
func (w *Writer) Settle(segs []Segment) error {
	if w.stream != nil {
		return errStream
	}
	l, err := w.l.settle(segs, w.store)
	if err != nil {
		return fmt.Errorf("lay out core: %w", err)
	}
	w.l = l
	var dumped []procmem.Range
	for x := range l.stretches {
		dumped = append(dumped, x.Range)
	}
	w.sums.keep(dumped)
	if w.log != nil { // of what is written again, the checksum is taken again
		for _, r := range dumped {
			for lacks := range w.store.Lacks(r) {
				w.sums.forget(lacks)
			}
		}
	}
	w.loose.Store(false)
	return nil
}

// ReadAt reads back what was put and not forgotten, from a destination that is
// an io.ReaderAt. Other memory is not mapped.
func (w *Writer) ReadAt(p []byte, addr procmem.Addr) (int, error) {
	if w.stream != nil {
		return 0, errStream
	}
	return w.store.ReadAt(p, addr)
}

// Held yields the runs of pages inside r that were put and not forgotten,
// ascending.
func (w *Writer) Held(r procmem.Range) iter.Seq[procmem.Range] { return w.store.Held(r) }
