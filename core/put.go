package core

import (
	"fmt"
	"iter"

	"github.com/procmem/procmem"
)

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

// Ahead says whether pages that are put from now on are likely to stay as they are. At first
// they are not. It reports whether that makes a difference. If it does, Put is best called with
// ascending addresses.
func (w *Writer) Ahead(likely bool) bool { return w.log != nil && w.log.Ahead(likely) }

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
