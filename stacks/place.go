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
