package process

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/sys"
)

// pageState is a set of states of a page.
type pageState uint8

// The states of a run of pages. A page in none of them was never touched, or is in its file
// alone.
const (
	pagePresent pageState = 1 << iota // in memory
	pageSwapped                       // in swap space
	pageZero                          // the kernel's shared page of zeros
	pageGuard                         // MADV_GUARD_INSTALL: access is a fault

	pageOwn // in memory, and pinning it copies nothing: it is a file's, or no other process has it
)

// pageRun is a range whose pages are all in the same states.
type pageRun struct {
	procmem.Range
	State pageState
}

// pagemap tells which pages exist, by PAGEMAP_SCAN (kernel 6.7) or by reading
// /proc/PID/pagemap.
type pagemap struct {
	f       *os.File
	noScan  atomic.Bool // the kernel has no PAGEMAP_SCAN
	noGuard atomic.Bool // PAGEMAP_SCAN has no category for guards (before 6.15)
}

var regionPool = sync.Pool{New: func() any { return new([512]sys.PageRegion) }}

// scanStep is how many bytes one PAGEMAP_SCAN covers, except where there is nothing. It takes a
// millisecond, in which the address space is locked against changes. Consumers have the first
// run soon.
const scanStep = 32 << 20

// runs yields the runs of pages in r that are in at least one state. A long run may come in
// parts. own is added to the state of pages in memory.
func (pm *pagemap) runs(r procmem.Range, own pageState) iter.Seq2[pageRun, error] {
	return func(yield func(pageRun, error) bool) {
		vec := regionPool.Get().(*[512]sys.PageRegion)
		defer regionPool.Put(vec)
		step := uint64(scanStep)
		q := pageScan(r, sys.PagePresent|sys.PageSwapped)
		for q.Start < q.End {
			if pm.noScan.Load() {
				pm.readRuns(procmem.Range{Start: procmem.Addr(q.Start), End: r.End}, own, yield)
				return
			}
			q.Return = sys.PagePresent | sys.PageSwapped | sys.PageZero
			if !pm.noGuard.Load() {
				q.Return |= sys.PageGuard
			}
			found, err := sys.PagemapNext(pm.f.Fd(), &q, step, vec[:])
			switch {
			case errors.Is(err, unix.EINVAL) && !pm.noGuard.Load():
				pm.noGuard.Store(true)
				continue
			case errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL):
				pm.noScan.Store(true)
				continue
			case err != nil:
				yield(pageRun{}, scanError(q, err))
				return
			}
			for _, v := range found {
				run := pageRun{Range: procmem.Range{Start: procmem.Addr(v.Start), End: procmem.Addr(v.End)}}
				if v.Categories&sys.PagePresent != 0 {
					run.State |= pagePresent | own
				}
				if v.Categories&sys.PageSwapped != 0 {
					run.State |= pageSwapped
				}
				if v.Categories&sys.PageZero != 0 {
					run.State |= pageZero
				}
				if v.Categories&sys.PageGuard != 0 {
					run.State = pageGuard
				}
				if !yield(run, nil) {
					return
				}
			}
			if step *= 2; len(found) > 0 || step == 0 {
				step = scanStep
			}
		}
	}
}

// basePage is the size in bytes of a page of this kernel: a multiple of procmem.PageSize.
var basePage = procmem.Addr(os.Getpagesize())

// baseDown returns the address of the page of this kernel that holds a.
func baseDown(a procmem.Addr) procmem.Addr { return a &^ (basePage - 1) }

// pageScan returns a scan for the pages of r that are in any of the categories.
func pageScan(r procmem.Range, categories uint64) sys.Scan {
	end := baseDown(r.End + basePage - 1)
	return sys.Scan{Start: uint64(baseDown(r.Start)), End: uint64(end), Any: categories, Return: categories}
}

func scanError(q sys.Scan, err error) error {
	if errors.Is(err, unix.ESRCH) {
		return procmem.ErrGone
	}
	return fmt.Errorf("scan pagemap at %#x: %w", q.Start, err)
}

// guards yields the guards in r (MADV_GUARD_INSTALL). It is for mappings of files, which may
// have guards where the kernel tells of them (6.15). runs yields guards, too, but not what is
// only in the file.
func (pm *pagemap) guards(r procmem.Range) iter.Seq2[procmem.Range, error] {
	return func(yield func(procmem.Range, error) bool) {
		vec := regionPool.Get().(*[512]sys.PageRegion)
		defer regionPool.Put(vec)
		step := uint64(scanStep)
		q := pageScan(r, sys.PageGuard)
		for q.Start < q.End && !pm.noScan.Load() && !pm.noGuard.Load() {
			found, err := sys.PagemapNext(pm.f.Fd(), &q, step, vec[:])
			switch {
			case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTTY):
				return // the kernel does not know guards
			case err != nil:
				yield(procmem.Range{}, scanError(q, err))
				return
			}
			for _, g := range found {
				if !yield(procmem.Range{Start: procmem.Addr(g.Start), End: procmem.Addr(g.End)}, nil) {
					return
				}
			}
			if step *= 2; len(found) > 0 || step == 0 {
				step = scanStep
			}
		}
	}
}

// entryState returns the state of a page. A page in memory has pageOwn if its entry has one of
// the bits of own.
func entryState(e, own uint64) pageState {
	switch {
	case e&sys.EntryGuard != 0:
		return pageGuard
	case e&sys.EntryPresent != 0 && e&own != 0:
		return pagePresent | pageOwn
	case e&sys.EntryPresent != 0:
		return pagePresent
	case e&sys.EntrySwapped != 0:
		return pageSwapped
	}
	return 0
}

// entries reads the entries of the pages from address a to end, as far as they fit into buf.
func (pm *pagemap) entries(buf []byte, a, end procmem.Addr) ([]byte, error) {
	want := min(uint64(len(buf)), uint64((end-a+basePage-1)/basePage*sys.EntrySize))
	for {
		n, err := unix.Pread(int(pm.f.Fd()), buf[:want], int64(a/basePage*sys.EntrySize))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, fmt.Errorf("read pagemap at %v: %w", a, err)
		case n < sys.EntrySize:
			return nil, procmem.ErrGone
		}
		return buf[:n&^(sys.EntrySize-1)], nil
	}
}

// collector makes runs of pages.
type collector struct {
	cur   pageRun
	yield func(pageRun, error) bool
}

// add takes the next page, at a.
func (c *collector) add(a procmem.Addr, st pageState) bool {
	if st == c.cur.State && c.cur.End == a {
		c.cur.End = a + basePage
		return true
	}
	goesOn := c.flush()
	c.cur = pageRun{procmem.Range{Start: a, End: a + basePage}, st}
	return goesOn
}

func (c *collector) flush() bool { return c.cur.State == 0 || c.yield(c.cur, nil) }

var entryPool = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// readRuns is runs for kernels before 6.7. It reads 8 bytes of pagemap for each page.
func (pm *pagemap) readRuns(r procmem.Range, own pageState, yield func(pageRun, error) bool) {
	buf := entryPool.Get().(*[64 << 10]byte)
	defer entryPool.Put(buf)
	c := collector{yield: yield}
	for a := baseDown(r.Start); a < r.End; {
		es, err := pm.entries(buf[:], a, r.End)
		if err != nil {
			if c.flush() {
				yield(pageRun{}, err)
			}
			return
		}
		for ; len(es) > 0; es, a = es[sys.EntrySize:], a+basePage {
			st := entryState(binary.LittleEndian.Uint64(es), 0)
			if st&pagePresent != 0 {
				st |= own
			}
			if !c.add(a, st) {
				return
			}
		}
	}
	c.flush()
}

// hugeSize is the size, in bytes, of the largest page that the kernel makes of others on its
// own account.
const hugeSize = 2 << 20

// ownRuns is runs with pageOwn for the pages that have it, and without pageZero. It looks at
// hugeSize bytes at a time, when the consumer asks for more. Before each look it calls ask,
// whether any page may have pageOwn.
//
// The entry of a page in a huge page does not tell enough. If another process has the rest of
// the huge page, the kernel copies this page, too (mm/memory.c, wp_can_reuse_anon_folio). And
// if a huge page is mapped as a whole (by one PMD), all entries tell of its first page alone.
//
// shared says that there may be such pages. Then the entries around r are looked at, too, and
// no page of a huge page that is mapped as a whole has pageOwn.
func (pm *pagemap) ownRuns(r procmem.Range, ask func() (may, shared bool)) iter.Seq2[pageRun, error] {
	return func(yield func(pageRun, error) bool) {
		buf := entryPool.Get().(*[64 << 10]byte)
		defer entryPool.Put(buf)
		for a := baseDown(r.Start); a < r.End; {
			look := procmem.Range{Start: a, End: a + min(hugeSize, r.End-a)}
			may, shared := ask()
			if shared {
				look.Start = a &^ (hugeSize - 1)
				look.End = look.Start + hugeSize
			}
			es, err := pm.entries(buf[:], look.Start, look.End)
			if err == nil && look.Start+procmem.Addr(len(es)/sys.EntrySize)*basePage <= a {
				err = procmem.ErrGone
			}
			if err != nil {
				yield(pageRun{}, err)
				return
			}
			own := ownBits(es, may)
			if shared && own&sys.EntryAlone != 0 && pm.mayBeHuge(look) {
				own = sys.EntryFile
			}
			c := collector{yield: yield}
			for es = es[(a-look.Start)/basePage*sys.EntrySize:]; len(es) > 0 && a < r.End; es, a = es[sys.EntrySize:], a+basePage {
				if !c.add(a, entryState(binary.LittleEndian.Uint64(es), own)) {
					return
				}
			}
			if !c.flush() {
				return
			}
		}
	}
}

// alone reports whether the page at a is in memory and no other process has it.
func (pm *pagemap) alone(a procmem.Addr) bool {
	var e [sys.EntrySize]byte
	es, err := pm.entries(e[:], a, a+1)
	return err == nil && entryState(binary.LittleEndian.Uint64(es), sys.EntryAlone)&pageOwn != 0
}

// firstAnonymous returns the first page of r that is in memory and no file's, or 0. It does not
// look far.
func (pm *pagemap) firstAnonymous(r procmem.Range) procmem.Addr {
	var buf [4 << 10]byte
	es, _ := pm.entries(buf[:], r.Start, r.End)
	for a := r.Start; len(es) > 0; es, a = es[sys.EntrySize:], a+basePage {
		if binary.LittleEndian.Uint64(es)&(sys.EntryPresent|sys.EntryFile) == sys.EntryPresent {
			return a
		}
	}
	return 0
}

// ownBits returns the bits of which the entry of a page in memory needs one to have pageOwn. If
// another process has one of the anonymous pages, that is only the bit of files. The page of
// zeros counts as such a page.
func ownBits(entries []byte, may bool) uint64 {
	if !may {
		return 0
	}
	for ; len(entries) > 0; entries = entries[sys.EntrySize:] {
		if binary.LittleEndian.Uint64(entries)&(sys.EntryPresent|sys.EntryFile|sys.EntryAlone) == sys.EntryPresent {
			return sys.EntryFile
		}
	}
	return sys.EntryFile | sys.EntryAlone
}

// mayBeHuge reports whether a huge page in r is mapped as a whole, or the kernel does not tell.
func (pm *pagemap) mayBeHuge(r procmem.Range) bool {
	if pm.noScan.Load() {
		return true
	}
	var vec [1]sys.PageRegion
	q := pageScan(r, sys.PageHuge)
	found, err := sys.PagemapNext(pm.f.Fd(), &q, 0, vec[:])
	return len(found) > 0 || err != nil
}
