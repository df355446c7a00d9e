package process

import (
	"encoding/binary"
	"fmt"
	"iter"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/sys"
)

// PageState tells what there is of a page.
type PageState uint8

// The states of a run of pages. A page in none of them has never been
// touched, or is in its file alone.
const (
	PagePresent PageState = 1 << iota // in memory
	PageSwapped                       // in swap space
	PageZero                          // the kernel's shared page of zeros
	PageGuard                         // MADV_GUARD_INSTALL: access is a fault
)

// PageRun is a range whose pages are all in the same states.
type PageRun struct {
	procmem.Range
	State PageState
}

// pagemap answers which pages exist, by PAGEMAP_SCAN (kernel 6.7) or by
// reading /proc/PID/pagemap.
type pagemap struct {
	f       *os.File
	noScan  atomic.Bool // the kernel does not know PAGEMAP_SCAN
	noGuard atomic.Bool // nor its category for guards (6.15)
}

var regionPool = sync.Pool{New: func() any { return new([512]sys.PageRegion) }}

// runs yields the runs of pages in r that are in at least one state.
func (pm *pagemap) runs(r procmem.Range) iter.Seq2[PageRun, error] {
	return func(yield func(PageRun, error) bool) {
		vec := regionPool.Get().(*[512]sys.PageRegion)
		defer regionPool.Put(vec)
		for a := uint64(r.Start.PageDown()); a < uint64(r.End); {
			if pm.noScan.Load() {
				pm.readRuns(procmem.Range{Start: procmem.Addr(a), End: r.End}, yield)
				return
			}
			ret := uint64(sys.PagePresent | sys.PageSwapped | sys.PageZero)
			if !pm.noGuard.Load() {
				ret |= sys.PageGuard
			}
			end := (uint64(r.End) + procmem.PageSize - 1) &^ (procmem.PageSize - 1)
			n, walked, err := sys.PagemapScan(pm.f.Fd(), a, end, sys.PagePresent|sys.PageSwapped, ret, vec[:])
			switch {
			case err == unix.EINVAL && !pm.noGuard.Load():
				pm.noGuard.Store(true)
				continue
			case err == unix.ENOTTY || err == unix.EINVAL:
				pm.noScan.Store(true)
				continue
			case err == unix.EINTR:
				continue
			case err == unix.ESRCH:
				yield(PageRun{}, procmem.ErrGone)
				return
			case err != nil:
				yield(PageRun{}, fmt.Errorf("scan pagemap at %#x: %w", a, err))
				return
			}
			for _, v := range vec[:n] {
				run := PageRun{Range: procmem.Range{Start: procmem.Addr(v.Start), End: procmem.Addr(v.End)}}
				if v.Categories&sys.PagePresent != 0 {
					run.State |= PagePresent
				}
				if v.Categories&sys.PageSwapped != 0 {
					run.State |= PageSwapped
				}
				if v.Categories&sys.PageZero != 0 {
					run.State |= PageZero
				}
				if v.Categories&sys.PageGuard != 0 {
					run.State = PageGuard
				}
				if !yield(run, nil) {
					return
				}
			}
			if walked <= a {
				return
			}
			a = walked
		}
	}
}

// readRuns is runs for kernels before 6.7: 8 bytes of pagemap for each page
// (Documentation/admin-guide/mm/pagemap.rst).
func (pm *pagemap) readRuns(r procmem.Range, yield func(PageRun, error) bool) {
	const page = procmem.PageSize
	var buf [64 << 10]byte
	var cur PageRun
	flush := func() bool { return cur.State == 0 || yield(cur, nil) }
	for a := r.Start.PageDown(); a < r.End; {
		want := min(uint64(len(buf)), (uint64(r.End-a)+page-1)/page*8)
		n, err := pm.f.ReadAt(buf[:want], int64(a/page*8))
		n &^= 7
		if n == 0 {
			if err != nil && flush() {
				yield(PageRun{}, fmt.Errorf("read pagemap at %v: %w", a, err))
			}
			return
		}
		for off := 0; off < n; off, a = off+8, a+page {
			e := binary.LittleEndian.Uint64(buf[off:])
			var st PageState
			if e&(1<<63) != 0 {
				st |= PagePresent
			}
			if e&(1<<62) != 0 {
				st |= PageSwapped
			}
			if e&(1<<58) != 0 { // 6.15 and later
				st = PageGuard
			}
			if st == cur.State && cur.End == a {
				cur.End = a + page
				continue
			}
			if !flush() {
				return
			}
			cur = PageRun{procmem.Range{Start: a, End: a + page}, st}
		}
	}
	flush()
}
