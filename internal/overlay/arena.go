package overlay

import (
	"cmp"
	"slices"
	"sort"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
)

// Store takes memory by address, where it does not fit in memory.
type Store interface {
	// Put keeps whole pages from a page-aligned address on. If it fails, p may still be in use,
	// and is not written to again.
	Put(addr procmem.Addr, p []byte) error
	// ReadAt reads what was put.
	ReadAt(p []byte, addr procmem.Addr) (int, error)
}

// Sizes in bytes.
const (
	maxArena  = 128 << 20 // bound of the memory that exists beforehand
	maxGrowth = 32 << 20  // bound of what is added at once
)

// arena holds what is copied. Its memory exists beforehand, so that the copy is as fast as
// memory. What does not fit goes to the store.
type arena struct {
	mapped  []byte // what close unmaps
	buf     []byte // what is being filled; first, mapped
	used    int
	chunks  []chunk // sorted by seal
	store   Store   // nil for none
	spilled pageset.Set
	faults  []procmem.Fault
	missing []procmem.Range // faults in what should have been copied
	err     error           // of a write to the store
}

// chunk is one range that was copied, and what it held.
type chunk struct {
	procmem.Range
	data []byte
}

// newArena returns an arena for size bytes, or for maxArena where that is less.
func newArena(size uint64, store Store) (*arena, error) {
	size = (min(size, maxArena) + procmem.PageSize - 1) &^ (procmem.PageSize - 1)
	a := &arena{store: store}
	if size == 0 {
		return a, nil
	}
	var err error
	a.mapped, err = unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	a.buf = a.mapped
	return a, err
}

// close gives the memory back. A second call does nothing.
func (a *arena) close() {
	if a.mapped != nil {
		_ = unix.Munmap(a.mapped) // it is a mapping
		a.mapped, a.buf, a.chunks = nil, nil, nil
	}
}

// spillBlock is the size, in bytes, of one write of memory that does not fit.
const spillBlock = 1 << 20

// copy copies r, page-aligned, from mem. What cannot be read becomes a fault.
func (a *arena) copy(mem procmem.Memory, r procmem.Range) {
	for a.err == nil && !r.Empty() {
		free := len(a.buf) - a.used
		if free == 0 && a.store == nil {
			a.buf, a.used = make([]byte, max(spillBlock, min(r.Size(), maxGrowth))), 0 // the chunks refer to the old one
			free = len(a.buf)
		}
		part := procmem.Range{Start: r.Start, End: r.Start + procmem.Addr(min(r.Size(), uint64(free)))}
		if free > 0 {
			a.keep(mem, part)
		} else {
			part.End = r.Start + procmem.Addr(min(r.Size(), spillBlock))
			a.spill(mem, part)
		}
		r.Start = part.End
	}
}

// gather copies ranges like copy, as many at once as read can. read returns how many bytes of
// its buffer it has filled.
func (a *arena) gather(read func(p []byte, ranges []procmem.Range) int, mem procmem.Memory, ranges []procmem.Range) {
	for len(ranges) > 0 {
		free, n := a.buf[a.used:], 0
		size := 0
		for n < len(ranges) && size+int(ranges[n].Size()) <= len(free) {
			size += int(ranges[n].Size())
			n++
		}
		done := read(free[:size], ranges[:n])
		if size = int(ranges[0].Size()); done < size {
			break
		}
		for ; len(ranges) > 0 && done >= int(ranges[0].Size()); ranges = ranges[1:] {
			size := int(ranges[0].Size())
			a.chunks = append(a.chunks, chunk{ranges[0], a.buf[a.used : a.used+size]})
			a.used, done = a.used+size, done-size
		}
	}
	for _, r := range ranges {
		a.copy(mem, r)
	}
}

// keep reads a part for which there is room.
func (a *arena) keep(mem procmem.Memory, r procmem.Range) {
	buf := a.buf[a.used : a.used+int(r.Size())]
	if _, err := mem.ReadAt(buf, r.Start); err == nil {
		a.chunks = append(a.chunks, chunk{r, buf})
		a.used += len(buf)
		return
	}
	a.piecemeal(mem, r)
}

// piecemeal reads, page by page, a range of which some page cannot be read.
func (a *arena) piecemeal(mem procmem.Memory, r procmem.Range) {
	for at := r.Start; at < r.End; at += procmem.PageSize {
		page := a.buf[a.used : a.used+procmem.PageSize]
		if _, err := mem.ReadAt(page, at); err != nil {
			a.missPage(at, err)
			continue
		}
		a.chunks = append(a.chunks, chunk{procmem.Range{Start: at, End: at + procmem.PageSize}, page})
		a.used += procmem.PageSize
	}
}

// spill reads a part into the store.
func (a *arena) spill(mem procmem.Memory, r procmem.Range) {
	buf := make([]byte, r.Size())
	for at := r.Start; at < r.End && a.err == nil; {
		n, err := mem.ReadAt(buf[:r.End-at], at)
		n &^= procmem.PageSize - 1
		if n > 0 {
			a.err = a.store.Put(at, buf[:n])
			a.spilled.Add(procmem.Range{Start: at, End: at + procmem.Addr(n)})
			at += procmem.Addr(n)
		}
		if err != nil {
			a.missPage(at, err)
			at += procmem.PageSize
		}
	}
}

// miss notes that r should have been copied and could not be read.
func (a *arena) miss(r procmem.Range, err error) {
	a.fault(r, err)
	a.missing = append(a.missing, r)
}

// missPage is miss for one page.
func (a *arena) missPage(at procmem.Addr, err error) {
	a.miss(procmem.Range{Start: at, End: at + procmem.PageSize}, procmem.Cause(err))
}

// fault notes that r cannot be read.
func (a *arena) fault(r procmem.Range, err error) {
	a.faults = append(a.faults, procmem.Fault{Range: r, Err: err})
}

// seal makes the arena ready for lookups.
func (a *arena) seal() error {
	slices.SortFunc(a.chunks, func(x, y chunk) int { return cmp.Compare(x.Start, y.Start) })
	slices.SortFunc(a.faults, func(x, y procmem.Fault) int { return cmp.Compare(x.Start, y.Start) })
	return a.err
}

// at returns what the arena has from addr on. If it has nothing, data is nil, and end says up
// to which address.
func (a *arena) at(addr procmem.Addr) (data []byte, end procmem.Addr) {
	i := sort.Search(len(a.chunks), func(i int) bool { return a.chunks[i].End > addr })
	switch {
	case i == len(a.chunks):
		return nil, ^procmem.Addr(0)
	case a.chunks[i].Start > addr:
		return nil, a.chunks[i].Start
	}
	return a.chunks[i].data[addr-a.chunks[i].Start:], a.chunks[i].End
}

// faultAt is at for faults: it returns the error at addr, and where that ends or the next one
// begins.
func (a *arena) faultAt(addr procmem.Addr) (end procmem.Addr, err error) {
	i := sort.Search(len(a.faults), func(i int) bool { return a.faults[i].End > addr })
	switch {
	case i == len(a.faults):
		return ^procmem.Addr(0), nil
	case a.faults[i].Start > addr:
		return a.faults[i].Start, nil
	}
	return a.faults[i].End, a.faults[i].Err
}
