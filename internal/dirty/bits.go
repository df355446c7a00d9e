package dirty

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/procfs"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// Bits copies memory of a running process into a store, and knows by the soft-dirty bits of its
// page tables which pages have been written since (Documentation/admin-guide/mm/soft-dirty.rst).
// It needs nothing of the process, and kernels before 6.7 have it. A Tracker is quicker.
//
// All bits are cleared at once, and there is no clearing of what was read alone. So the bits may
// be cleared before anything is copied, or while all threads are held.
//
// A page is trusted to be as it was copied if its bit is clear, and one of two things holds. It
// is in the page frame in which it was copied. Or it is in memory, and mapped nowhere else, or
// in swap space, and neither of two things may have happened that keep clear bits though the
// page is another one: a page table was moved by mremap(2), or pages were merged by the kernel
// (KSM). A page of zeros that is read where a page was dropped is in another frame, and counts
// as mapped nowhere.
//
// A Bits is not safe for concurrent use.
type Bits struct {
	copier
	pm     *os.File          // /proc/PID/pagemap
	refs   *os.File          // /proc/PID/clear_refs
	ksm    *os.File          // /sys/kernel/mm/ksm/run; nil where there is none
	maps   []procmem.Mapping // when the bits were cleared last
	copies entries           // of pages, when they were copied
	seen   map[procmem.Addr]uint64
	buf    []uint64
}

// ErrBitsInUse reports that somebody else uses the soft-dirty bits of the process.
var ErrBitsInUse = errors.New("somebody else uses the soft-dirty bits of the process (another procmem, or CRIU)")

// blockPages is the number of entries in a page of a page table. Such a page is moved as a whole
// where its alignment allows it.
const (
	blockPages = 512
	blockSize  = blockPages * procmem.PageSize
)

// entries are entries of the pagemap by address.
type entries map[procmem.Addr]*[blockPages]uint64

func (e entries) block(a procmem.Addr) *[blockPages]uint64 { return e[a&^(blockSize-1)] }

func (e entries) set(a procmem.Addr, entry uint64) {
	b := e.block(a)
	if b == nil {
		b = new([blockPages]uint64)
		e[a&^(blockSize-1)] = b
	}
	b[a/procmem.PageSize%blockPages] = entry
}

// NewBits returns a Bits for a process. It fails with EACCES if the caller may not write to
// /proc/PID/clear_refs, which belongs to the user of the process, and with ErrBitsInUse. Close
// must be called.
func NewBits(p *process.Process, view *process.View, store Store) (*Bits, error) {
	pm, err := p.OpenMem("pagemap")
	if err != nil {
		return nil, err
	}
	refs, err := p.OpenClearRefs()
	if err == nil {
		if err = unix.Flock(int(refs.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			refs.Close()
			err = ErrBitsInUse
		}
	}
	if err != nil {
		pm.Close()
		return nil, err
	}
	ksm, _ := os.Open("/sys/kernel/mm/ksm/run")
	b := &Bits{pm: pm, refs: refs, ksm: ksm, copies: make(entries), buf: make([]uint64, blockPages)}
	b.start(view, store)
	return b, nil
}

// Close stops the copying threads and closes files. The bits stay as they are: they mean nothing
// to the process.
func (b *Bits) Close() error {
	b.stop()
	b.ksm.Close() // fails if it is nil
	return errors.Join(b.pm.Close(), b.refs.Close())
}

// Clear clears the bits of all pages. maps are the mappings of the process, of just before. The
// kernel walks all page tables, with the address space locked.
func (b *Bits) Clear(maps []procmem.Mapping) error {
	b.maps, b.seen = maps, nil
	for {
		_, err := unix.Write(int(b.refs.Fd()), []byte("4"))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("clear the soft-dirty bits: %w", err)
		}
		return nil
	}
}

// Round copies the pages of ascending ranges that are not copied yet. It fails as Tracker.Round
// does.
func (b *Bits) Round(ctx context.Context, ranges []procmem.Range) (written Work, err error) {
	defer func() {
		if derr := b.drain(); err == nil {
			err = derr
		}
		b.rounds++
	}()
	for _, r := range ranges {
		for r := r; !r.Empty(); {
			if ctx.Err() != nil {
				return written, context.Cause(ctx)
			}
			step := procmem.Range{Start: r.Start, End: min(r.End, (r.Start|(blockSize-1))+1)}
			more, err := b.step(step)
			if written.add(more); err != nil {
				return written, err
			}
			r.Start = step.End
		}
	}
	return written, nil
}

// step is Round for a part of one block.
func (b *Bits) step(r procmem.Range) (written Work, err error) {
	found, err := readEntries(b.pm, r, b.buf)
	if err != nil {
		return written, err
	}
	var run procmem.Range
	flush := func() {
		if !run.Empty() && err == nil {
			written.add(Work{run.Size(), 1})
			err = b.copyRun(run, nil)
		}
	}
	for i, e := range found {
		a := r.Start + procmem.Addr(i)*procmem.PageSize
		if !copyable(e) || b.has(a) {
			continue
		}
		b.copies.set(a, e)
		if run.End != a {
			flush()
			run.Start = a
		}
		run.End = a + procmem.PageSize
	}
	flush()
	return written, err
}

// has reports whether the page at a was copied, or is being copied.
func (b *Bits) has(a procmem.Addr) bool {
	block := b.copies.block(a)
	return block != nil && block[a/procmem.PageSize%blockPages] != 0
}

// copyable reports whether a page exists and belongs to the process.
func copyable(e uint64) bool {
	return e&(sys.EntryPresent|sys.EntrySwapped) != 0 && e&(sys.EntryFile|sys.EntryGuard) == 0
}

// readEntries reads the entries of r into buf.
func readEntries(pm *os.File, r procmem.Range, buf []uint64) ([]uint64, error) {
	found, err := sys.PagemapEntries(pm.Fd(), uint64(r.Start), procmem.PageSize, buf[:r.Size()/procmem.PageSize])
	switch {
	case err != nil:
		return nil, fmt.Errorf("read pagemap at %v: %w", r.Start, err)
	case len(found) == 0:
		return nil, procmem.ErrGone
	}
	return found, nil
}

// maxSeen bounds how many written pages are remembered.
const maxSeen = 64

// Written returns how much of ascending ranges has been written since it was copied, or exists
// and was not copied. The process may run.
func (b *Bits) Written(ctx context.Context, ranges []procmem.Range, maps []procmem.Mapping) (w Work, err error) {
	b.seen = make(map[procmem.Addr]uint64, maxSeen)
	look, err := b.Look(ctx, ranges, maps)
	if err != nil {
		return w, err
	}
	for _, v := range look {
		if v.Categories&AsCopied == 0 && v.Categories&sys.PageFile == 0 {
			w.add(Work{v.End - v.Start, 1})
		}
	}
	b.remember(look)
	return w, nil
}

// remember keeps some written pages of a look. Their bits stay set until somebody clears them.
func (b *Bits) remember(look []sys.PageRegion) {
	for _, v := range look {
		if v.Categories&(AsCopied|sys.PageFile|sys.PageSwapped) != 0 || len(b.seen) == maxSeen {
			continue
		}
		a := procmem.Addr(v.Start)
		found, err := readEntries(b.pm, procmem.Range{Start: a, End: a + procmem.PageSize}, b.buf)
		const own = sys.EntryPresent | sys.EntryAlone | sys.EntryWritten
		if err == nil && found[0]&own == own {
			b.seen[a] = found[0]
		}
	}
}

// Check fails with ErrBitsInUse where somebody else has cleared bits since Written.
func (b *Bits) Check() error {
	for a, e := range b.seen {
		found, err := readEntries(b.pm, procmem.Range{Start: a, End: a + procmem.PageSize}, b.buf)
		if err == nil && found[0]^e == sys.EntryWritten {
			return ErrBitsInUse
		}
	}
	return nil
}

// Forget notes that all that was written by a look must be copied again.
func (b *Bits) Forget(look []sys.PageRegion) {
	var known pageset.Set
	for _, v := range look {
		if v.Categories&AsCopied != 0 {
			known.Add(procmem.Range{Start: procmem.Addr(v.Start), End: procmem.Addr(v.End)})
		}
	}
	for at, block := range b.copies {
		for unknown := range known.Gaps(procmem.Range{Start: at, End: at + blockSize}) {
			b.forget(unknown)
			clear(block[(unknown.Start-at)/procmem.PageSize : (unknown.End-at)/procmem.PageSize])
		}
	}
}

// AsCopied is a category of our own: the pages are known to be as they were copied.
const AsCopied = 1 << 63

// unlessMoved is a category of our own: the pages are as they were copied, unless page tables
// were moved, or pages were merged.
const unlessMoved = 1 << 62

// Look looks at all pages of ascending ranges, with several threads. maps are the mappings of
// the process now.
func (b *Bits) Look(ctx context.Context, ranges []procmem.Range, maps []procmem.Mapping) (look []sys.PageRegion, err error) {
	parts := split(ranges)
	found := make([][]sys.PageRegion, len(parts))
	errs := make([]error, len(parts))
	var next atomic.Int64
	work := func() {
		buf := make([]uint64, blockPages)
		for {
			i := int(next.Add(1)) - 1
			if i >= len(parts) || ctx.Err() != nil {
				return
			}
			found[i], errs[i] = b.part(parts[i], buf)
		}
	}
	var helpers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(parts)) - 1 {
		helpers.Go(work)
	}
	work()
	helpers.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	moved := sync.OnceValue(func() bool { return b.merging() || b.moved(maps) })
	for _, regions := range found {
		for _, v := range regions {
			if v.Categories&unlessMoved != 0 {
				v.Categories &^= unlessMoved
				if !moved() {
					v.Categories |= AsCopied
				}
			}
			look = add(look, v)
		}
	}
	return look, nil
}

// add adds a region that follows the others.
func add(out []sys.PageRegion, v sys.PageRegion) []sys.PageRegion {
	switch k := len(out) - 1; {
	case v.Categories == 0:
	case k >= 0 && out[k].End == v.Start && out[k].Categories == v.Categories:
		out[k].End = v.End
	default:
		out = append(out, v)
	}
	return out
}

// partSize is how many bytes one thread looks at before it takes the next part.
const partSize = 64 * blockSize

func split(ranges []procmem.Range) (parts []procmem.Range) {
	for _, r := range ranges {
		for !r.Empty() {
			end := min(r.End, (r.Start|(partSize-1))+1)
			parts = append(parts, procmem.Range{Start: r.Start, End: end})
			r.Start = end
		}
	}
	return parts
}

// part is Look for one part.
func (b *Bits) part(r procmem.Range, buf []uint64) (out []sys.PageRegion, err error) {
	for !r.Empty() {
		step := procmem.Range{Start: r.Start, End: min(r.End, (r.Start|(blockSize-1))+1)}
		found, err := readEntries(b.pm, step, buf)
		if err != nil {
			return nil, err
		}
		block := b.copies.block(step.Start)
		for i, e := range found {
			a := step.Start + procmem.Addr(i)*procmem.PageSize
			var copied uint64
			if block != nil {
				copied = block[a/procmem.PageSize%blockPages]
			}
			out = add(out, sys.PageRegion{Start: uint64(a), End: uint64(a) + procmem.PageSize, Categories: categories(e, copied)})
		}
		r.Start = step.End
	}
	return out, nil
}

// Regions adds the existing pages of r to out, with their categories, as the entries of a
// pagemap tell them.
func Regions(pm *os.File, r procmem.Range, out []sys.PageRegion) ([]sys.PageRegion, error) {
	buf := make([]uint64, blockPages)
	for !r.Empty() {
		step := procmem.Range{Start: r.Start, End: min(r.End, (r.Start|(blockSize-1))+1)}
		found, err := readEntries(pm, step, buf)
		if err != nil {
			return nil, err
		}
		for i, e := range found {
			a := uint64(step.Start) + uint64(i)*procmem.PageSize
			out = add(out, sys.PageRegion{Start: a, End: a + procmem.PageSize, Categories: categories(e, 0)})
		}
		r.Start = step.End
	}
	return out, nil
}

// categories returns the categories of a page by its entry, and by the one with which it was
// copied, or 0.
func categories(e, copied uint64) (c uint64) {
	switch {
	case e&sys.EntryGuard != 0:
		return sys.PageGuard
	case e&sys.EntryPresent != 0:
		c = sys.PagePresent
	case e&sys.EntrySwapped != 0:
		c = sys.PageSwapped
	default:
		return 0
	}
	switch {
	case e&sys.EntryFile != 0:
		return c | sys.PageFile
	case copied == 0:
		return c
	case e&sys.EntryWritten != 0:
		return c | sys.PageTracked | sys.PageWritten
	case sameFrame(e, copied):
		return c | AsCopied
	case e&sys.EntrySwapped != 0 || e&sys.EntryAlone != 0:
		return c | unlessMoved
	}
	return c
}

// sameFrame reports whether a page is known to be in the frame in which it was copied.
func sameFrame(e, copied uint64) bool {
	return e&copied&sys.EntryPresent != 0 && e&sys.EntryFrame != 0 && (e^copied)&sys.EntryFrame == 0
}

// merging reports whether the kernel may merge pages (KSM).
func (b *Bits) merging() bool {
	var text [1]byte
	if b.ksm == nil {
		return false
	}
	n, err := b.ksm.ReadAt(text[:], 0)
	return err != nil || n == 0 || text[0] != '0'
}

// moved reports whether page tables may have been moved since the bits were cleared. The mapping
// that had them is gone then, or is another one. All pages of a new mapping count as written.
func (b *Bits) moved(now []procmem.Mapping) bool {
	k := 0
	for i := range b.maps {
		m := &b.maps[i]
		if !Private(m) || (m.Start+blockSize-1)&^(blockSize-1)+blockSize > m.End {
			continue
		}
		for k < len(now) && now[k].Start < m.Start {
			k++
		}
		if k == len(now) || !procfs.SameLine(m, &now[k]) || b.allWritten(m.Range) {
			return true
		}
	}
	return false
}

// allWritten reports whether the bits of all pages of r are set, as in a new mapping.
func (b *Bits) allWritten(r procmem.Range) bool {
	for !r.Empty() {
		step := procmem.Range{Start: r.Start, End: min(r.End, (r.Start|(blockSize-1))+1)}
		found, err := readEntries(b.pm, step, b.buf)
		if err != nil {
			return true
		}
		for _, e := range found {
			if e&sys.EntryWritten == 0 {
				return false
			}
		}
		r.Start = step.End
	}
	return true
}

// SoftDirty returns nil where the kernel has soft-dirty bits (CONFIG_MEM_SOFT_DIRTY). It asks
// for that of a page of its own.
func SoftDirty() error {
	page, err := unix.Mmap(-1, 0, procmem.PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(page) }()
	page[0] = 1
	pm, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return err
	}
	defer pm.Close()
	found, err := sys.PagemapEntries(pm.Fd(), sys.Address(page), procmem.PageSize, make([]uint64, 1))
	if err != nil {
		return err
	}
	if len(found) == 0 || found[0]&sys.EntryWritten == 0 {
		return errors.New("the kernel has no soft-dirty bits (CONFIG_MEM_SOFT_DIRTY)")
	}
	return nil
}
