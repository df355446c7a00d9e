package snapshot

import (
	"context"
	"errors"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/overlay"
)

// Store takes memory by address while a moment is being taken, where it does not fit in memory.
// Pages may be put again, and forgotten.
//
// A Store may also have a method Ahead(likely bool) bool. Its argument says whether the pages
// that are put from now on will probably stay as they are. It is then worthwhile to work on
// them at once. Its result says whether the Store makes use of that. While it is likely,
// addresses ascend by and large, and one goroutine at a time calls Put. At first it is not
// likely.
type Store interface {
	// Put keeps whole pages from a page-aligned address on. It may be called from several
	// goroutines at once for different pages.
	Put(addr procmem.Addr, p []byte) error
	// Forget drops what was put in r.
	Forget(r procmem.Range) error
	// ReadAt reads what was put.
	ReadAt(p []byte, addr procmem.Addr) (int, error)
}

// ErrStuck reports that the store or writer took no memory for so long that the held process
// was let go. That process may itself serve the file system.
var ErrStuck = errors.New("what the memory is written to takes nothing: the process was let go, which may serve that file system itself")

// StuckPatience is how long one write may take while a process is held.
const StuckPatience = 5 * time.Second

// boundedStore is a store for use while a process is held.
type boundedStore struct {
	Store
	ctx context.Context // ends the wait for the store
}

// bounded returns a store for use while the process is held. The end of ctx ends the wait for
// it. Without a store (nil) it returns nil.
func bounded(ctx context.Context, store Store) overlay.Store {
	if store == nil {
		return nil
	}
	return boundedStore{store, ctx}
}

// Put puts memory into the store, but waits for a bounded time, because the thread that traces
// the process must not hang. Memory of a write that was given up stays the store's.
func (b boundedStore) Put(at procmem.Addr, p []byte) error {
	done := make(chan error, 1)
	go func() { done <- b.Store.Put(at, p) }()
	select {
	case err := <-done:
		return err
	case <-b.ctx.Done():
		return context.Cause(b.ctx)
	case <-time.After(StuckPatience):
		return ErrStuck
	}
}
