package stacks

import (
	"context"

	"github.com/procmem/procmem"
)

// Places returns where a frame is. The last is the function that has the frame; those before it
// have been inlined into it. There is always one, which may have no function.
func (w *Walker) Places(ctx context.Context, f Frame) []Place {
	var all []Place
	if w.places != nil {
		all = w.places(ctx, f.Lookup())
	}
	if len(all) == 0 {
		all = []Place{{}}
	}
	m := w.mappingOf(f.PC)
	for i := range all {
		p := &all[i]
		if p.Function != "" && !p.Inlined {
			p.Offset += uint64(f.PC - f.Lookup())
		}
		if m != nil {
			p.Module, p.Addr = m.Path, f.PC-w.begin(m)
		}
	}
	return all
}

// begin returns where the file of a mapping begins in memory, or would begin.
func (w *Walker) begin(m *procmem.Mapping) procmem.Addr {
	if !m.HasFile() {
		return m.Start
	}
	return m.Start - procmem.Addr(min(m.Offset, uint64(m.Start)))
}

// mappingOf returns the mapping that holds an address, nil if there is none.
func (w *Walker) mappingOf(a procmem.Addr) *procmem.Mapping {
	ms := w.img.Mappings
	i := procmem.FindMapping(ms, a)
	if i == len(ms) || !ms[i].Contains(a) {
		return nil
	}
	return &ms[i]
}
