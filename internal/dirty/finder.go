package dirty

import (
	"os"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/sys"
)

// finder finds the existing pages of a process. Runtimes reserve terabytes and touch a small
// part of them. A zero step means the smallest.
type finder struct {
	pm   *os.File // /proc/PID/pagemap
	step uint64   // bytes that one look covers
}

// findTime is how long one look may take, while the address space is locked against changes of
// its mappings. A look at a terabyte without page tables takes microseconds. Tables that have
// become empty take longer.
const findTime = 2 * time.Millisecond

// next returns the first existing page of r. ok is false if there is none.
func (f *finder) next(r procmem.Range) (at procmem.Addr, ok bool, err error) {
	const exists = sys.PagePresent | sys.PageSwapped
	var found [1]sys.PageRegion
	f.step = max(f.step, scanStep)
	q := sys.Scan{Start: uint64(r.Start), End: uint64(r.End), Any: exists, Return: exists, Max: 1}
	for q.Start < q.End {
		began := time.Now()
		first, err := sys.PagemapNext(f.pm.Fd(), &q, f.step, found[:])
		switch {
		case err != nil:
			return 0, false, err
		case len(first) > 0:
			return procmem.Addr(first[0].Start), true, nil
		}
		if took := time.Since(began); took < findTime/2 && f.step < 1<<62 {
			f.step *= 2
		} else if took > findTime {
			f.step = max(f.step/2, scanStep)
		}
	}
	return 0, false, nil
}

// hasCopied reports whether any page of r has been copied.
func (t *Tracker) hasCopied(r procmem.Range) bool {
	for range t.Copied.Ranges(r) {
		return true
	}
	return false
}

// nextCopied returns the first copied page of r, or the end of r.
func (t *Tracker) nextCopied(r procmem.Range) procmem.Addr {
	for c := range t.Copied.Ranges(r) {
		return c.Start
	}
	return r.End
}
