// Package present tells what of a memory is there to be looked at. Memory that was never
// touched is not, nor is what is swapped out, unless it is asked for.
package present

import (
	"iter"
	"slices"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
)

// Plan is what is to be looked at. It is not safe for concurrent use.
type Plan struct {
	mem     procmem.Memory
	in      []procmem.Range
	swapped bool
	left    uint64
}

// NewPlan returns the plan for the memory in some ranges, which may overlap; nil is all
// addresses. With swapped, it includes what is swapped out, which reading brings back.
func NewPlan(mem procmem.Memory, in []procmem.Range, swapped bool) *Plan {
	p := &Plan{mem: mem, in: []procmem.Range{{End: ^procmem.Addr(0)}}, swapped: swapped}
	if in != nil {
		p.in = pageset.Merge(slices.Clone(in))
	}
	return p
}

// Ranges yields the memory, ascending. An error, of the memory, ends the sequence. It may be
// called once.
func (p *Plan) Ranges() iter.Seq2[procmem.Range, error] {
	return func(yield func(procmem.Range, error) bool) {
		for _, in := range p.in {
			for r, err := range In(p.mem, in, p.swapped) {
				if !yield(r, err) || err != nil {
					return
				}
			}
			p.countSwapped(in)
		}
	}
}

// Swapped returns how many bytes Ranges has left out because they are swapped out.
func (p *Plan) Swapped() uint64 { return p.left }

// countSwapped counts what Data has and Resident has not. Both change as the process runs.
func (p *Plan) countSwapped(in procmem.Range) {
	resident, ok1 := p.mem.(procmem.Resident)
	sparse, ok2 := p.mem.(procmem.Sparse)
	if !ok1 || !ok2 || p.swapped || !p.maySwap(in) {
		return
	}
	all, there := size(sparse.Data(in)), size(resident.Resident(in))
	p.left += max(all, there) - there
}

// maySwap reports whether the mappings tell that any part of a range was swapped out, or do not
// tell.
func (p *Plan) maySwap(in procmem.Range) bool {
	maps, err := p.mem.Mappings()
	if err != nil {
		return true
	}
	for i := procmem.FindMapping(maps, in.Start); i < len(maps) && maps[i].Start < in.End; i++ {
		if u := maps[i].Usage; u == nil || u.Swap > 0 {
			return true
		}
	}
	return false
}

func size(ranges iter.Seq2[procmem.Range, error]) (n uint64) {
	for r, err := range ranges {
		if err == nil {
			n += r.Size()
		}
	}
	return n
}

// In yields the memory in a range that is to be looked at, as a Plan with swapped does.
func In(mem procmem.Memory, r procmem.Range, swapped bool) iter.Seq2[procmem.Range, error] {
	if m, ok := mem.(procmem.Resident); ok && !swapped {
		return m.Resident(r)
	}
	if m, ok := mem.(procmem.Sparse); ok {
		return m.Data(r)
	}
	return func(yield func(procmem.Range, error) bool) {
		maps, err := mem.Mappings()
		if err != nil {
			yield(procmem.Range{}, err)
			return
		}
		for i := procmem.FindMapping(maps, r.Start); i < len(maps) && maps[i].Start < r.End; i++ {
			if x := maps[i].Intersect(r); !x.Empty() && !yield(x, nil) {
				return
			}
		}
	}
}
