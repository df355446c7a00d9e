package stacks

import (
	"context"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/symbols"
)

// Place is where a frame is, for people.
type Place struct {
	Function string       // "" if it is not known
	Offset   uint64       // of the frame's PC from the beginning of the function, in bytes; 0 where Inlined
	File     string       // of the source, "" if it is not known
	Line     int          // 0 if it is not known
	Inlined  bool         // into the next Place: it has no frame of its own
	Module   string       // path of the mapped file, or its name in brackets; "" for memory without one
	Addr     procmem.Addr // of the frame's PC in the module's memory: PC less the beginning of the file's first mapping
}

// PlacesFunc tells the functions that hold an address, from the innermost, which may be inlined
// into the next, to the outermost. Offsets are those of the address. It returns nil if nothing
// is known.
type PlacesFunc func(ctx context.Context, a procmem.Addr) []Place

// BySymbols returns a PlacesFunc for the names of a symbol table, without files and lines.
func BySymbols(t *symbols.Table) PlacesFunc {
	return func(_ context.Context, a procmem.Addr) []Place {
		name, off, ok := t.Lookup(a)
		if !ok {
			return nil
		}
		return []Place{{Function: name, Offset: off}}
	}
}

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
