// Package dirty copies the memory of a running process into a store, and knows which pages were
// written since.
//
// Start with New, which takes a userfaultfd(2) of the process. Register has mappings tracked,
// Round copies what was written, and Untrack ends the tracking.
//
// What could hurt a target, and what prevents it:
//   - A cut mapping: mremap(2) of a mapping that is tracked in part fails with EFAULT. Tracking
//     begins and ends with whole mappings, which are checked again (boundaries).
//   - A stall: work that holds the lock of the address space is done in small steps.
//   - Tracking that stays: the kernel ends it with the last descriptor of the userfaultfd,
//     which the helper of package inject holds. Untrack ends it earlier, in small steps.
//   - Missed writes: a page is trusted only as the comment of Tracker says.
package dirty

import "github.com/procmem/procmem"

// Store takes memory by address. Pages may be put again, and forgotten.
type Store interface {
	// Put keeps whole pages from a page-aligned address on. It may be called from several
	// goroutines at once for different pages.
	Put(addr procmem.Addr, p []byte) error
	// Forget drops what was put in r.
	Forget(r procmem.Range) error
}

// Private reports whether a mapping is memory of its process alone.
func Private(m *procmem.Mapping) bool { return !m.Shared() && !m.Special() && !m.Device() }
