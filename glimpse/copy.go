package glimpse

import (
	"cmp"
	"slices"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/internal/sys"
)

const (
	// redZone is how much below the stack pointer a function may use, in bytes (System V ABI).
	redZone = 128
	// usualStack is the memory that is made beforehand for each stack, in bytes.
	usualStack = 8 << 10
	// leastStack is what is copied of a stack where the total is short.
	leastStack = 4 << 10
)

// part is what is to be copied of one stack.
type part struct {
	tid    int
	sp     procmem.Addr
	end    procmem.Addr // of its mapping
	stacks procmem.Addr // beginning of its mapping
}

// copyStacks copies those of threads that are held. It runs on the tracing thread.
func (h *hold) copyStacks(threads []ptracer.Taken) {
	parts := make([]part, 0, len(threads))
	for i := range threads {
		th := &threads[i]
		h.kept.done[th.TID] = true
		_, sp, ok := h.img.Arch.PC(&procmem.Thread{Regsets: th.Regsets})
		if p, found := h.partOf(th.TID, sp); ok && found {
			parts = append(parts, p)
		}
	}
	slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(a.sp, b.sp) })
	for i, p := range parts {
		end := p.end
		if i+1 < len(parts) {
			// Stacks may lie side by side in one mapping (glibc 2.42), and a stack ends below
			// the next one.
			end = min(end, (parts[i+1].sp - redZone).PageDown())
		}
		h.copyStack(p, end)
	}
}

// partOf finds the mapping of a stack.
func (h *hold) partOf(tid int, sp procmem.Addr) (p part, ok bool) {
	m, ok := h.mappingOf(sp)
	return part{tid: tid, sp: sp, end: m.End, stacks: m.Start}, ok
}

// mappingOf returns the mapping that holds an address, which may be newer than the list of
// mappings. Device memory is never read.
func (h *hold) mappingOf(a procmem.Addr) (procmem.Range, bool) {
	i := procmem.FindMapping(h.maps, a)
	if i == len(h.maps) || !h.maps[i].Contains(a) {
		return h.newMapping(a)
	}
	return h.maps[i].Range, !h.maps[i].Device() && !h.maps[i].Special()
}

// newMapping is mappingOf for a thread that was born since the mappings were read. Only kernels
// from 6.11 on tell in time.
func (h *hold) newMapping(a procmem.Addr) (procmem.Range, bool) {
	b, err := sys.MappingAt(h.lines.Fd(), uint64(a))
	return procmem.Range{Start: procmem.Addr(b.Start), End: procmem.Addr(b.End)}, err == nil && !b.Shared && b.Inode == 0
}

// copyStack copies what exists from the stack pointer upwards, up to end or a bound.
func (h *hold) copyStack(p part, end procmem.Addr) {
	r := procmem.Range{Start: (p.sp - min(redZone, p.sp)).PageDown(), End: end}
	bound := h.bound()
	if h.left--; r.Size() > bound {
		r.End = r.Start + procmem.Addr(bound)
	}
	h.kept.stacks[p.stacks] = true
	_ = h.view.CopyPresent(r, h.kept.room, h.kept.keep) // what is lacking becomes a fault
	if r.End < end {
		h.kept.cuts = append(h.kept.cuts, procmem.Range{Start: r.End, End: end})
	}
}

// bound returns how much of the next stack may be copied: its part of what is left of the
// total.
func (h *hold) bound() uint64 {
	share := (h.o.Total - min(h.o.Total, h.kept.used)) / uint64(max(h.left, 1))
	return min(h.o.Stack, max(share, leastStack)) &^ (procmem.PageSize - 1)
}
