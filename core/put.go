package core

import (
	"errors"
	"fmt"
	"iter"

	"github.com/procmem/procmem"
)

// errStream says why memory cannot be put ahead of Copy, or taken back.
var errStream = errors.New("a stream takes its memory in order")

// Put writes whole pages into the core ahead of Copy, over what was put there before. Copy then
// leaves them out. Put may be called from several goroutines at once for different pages. Pages
// outside the dumped segments are kept, too, because Settle may make them part of one. It fails
// with the destination's error, and for a stream.
func (w *Writer) Put(addr procmem.Addr, p []byte) error {
	if w.stream != nil {
		return errStream
	}
	w.loose.Store(true)
	w.sums.Set(addr, p)
	if err := w.store.Put(addr, p); err != nil {
		return fmt.Errorf("put %v into core: %w", addr, err)
	}
	return nil
}

// Forget takes back what was put inside r. No byte of it stays in the file, and Copy writes r
// again. It fails with the destination's error, and for a stream.
func (w *Writer) Forget(r procmem.Range) error {
	if w.stream != nil {
		return errStream
	}
	w.sums.Forget(r)
	if err := w.store.Forget(r); err != nil {
		return fmt.Errorf("forget %v in core: %w", r, err)
	}
	return nil
}

// Settle replaces the segments, and forgets what was put outside the dumped ones. It may be
// called more than once, but not concurrently with other methods. It fails where the segments
// are not ascending and page-aligned or do not fit a core, and for a stream.
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
	w.sums.Keep(dumped)
	if w.log != nil { // the checksum of what is written again is taken again
		for _, r := range dumped {
			for lacks := range w.store.Lacks(r) {
				w.sums.Forget(lacks)
			}
		}
	}
	w.loose.Store(false)
	return nil
}

// ReadAt reads back what was put and not forgotten. The destination must be an io.ReaderAt. For
// other memory it fails with procmem.ErrNotMapped.
func (w *Writer) ReadAt(p []byte, addr procmem.Addr) (int, error) {
	if w.stream != nil {
		return 0, errStream
	}
	return w.store.ReadAt(p, addr)
}

// Held yields the runs of pages inside r that were put and not forgotten, ascending.
func (w *Writer) Held(r procmem.Range) iter.Seq[procmem.Range] { return w.store.Held(r) }
