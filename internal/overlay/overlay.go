// Package overlay is memory that is kept in front of a base. The memory is what was copied of a
// process. The base is what does not change any more, such as the files behind mappings or a
// copy of the process.
//
// Start with New, which takes the memory for what will be copied. Own says which ranges the
// overlay has; Copy, Gather and Keep fill them. Seal ends that. From then on a Memory can be
// read.
//
// What could hurt a target, and what prevents it: a process may be held while it is copied.
//   - A long hold: the memory exists before, so that a copy is as fast as memory. What does not
//     fit goes to the Store, whose Put must therefore return in bounded time.
//   - A server that does not answer: Keep reads of its files what the process has touched, from
//     the process itself.
package overlay

import (
	"iter"
	"math"
	"slices"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
)

// everything is the range of all addresses that can hold pages of a process.
var everything = procmem.Range{End: 1 << 63}

// Memory is memory of which some was kept, and a base still has the rest. It is a
// procmem.Sparse once it is sealed.
type Memory struct {
	maps []procmem.Mapping
	// own are the ranges that were kept, ascending once sealed. What they hold is in the arena
	// or in the store, a fault, or zeros.
	own    []procmem.Range
	arena  *arena
	stored pageset.Set     // pages that are in the store
	data   []procmem.Range // the parts of own that may hold data, ascending; from Seal on
	base   procmem.Sparse  // has what is not in own
}

// New returns a memory that can take size bytes at once, or 128 MiB where that is less. More
// goes to the store; without one (nil), memory is added when it is needed. Close must be
// called. New fails if the memory cannot be had.
func New(size uint64, store Store) (*Memory, error) {
	a, err := newArena(size, store)
	if err != nil {
		return nil, err
	}
	return &Memory{arena: a}, nil
}

// Close gives the memory back. What was kept must not be read afterwards. A second call does
// nothing.
func (o *Memory) Close() { o.arena.close() }

// Own says that r is read from here and not from the base. It holds zeros where nothing else is
// said. Ranges may come in any order, and overlap.
func (o *Memory) Own(r procmem.Range) { o.own = append(o.own, r) }

// Copy copies r, page-aligned, from mem. What cannot be read becomes a fault. If the store
// fails, Copy does nothing from then on (Err).
func (o *Memory) Copy(mem procmem.Memory, r procmem.Range) { o.arena.copy(mem, r) }

// Gather copies ranges like Copy, as many at once as read can. read returns how many bytes of
// its buffer it has filled. What it does not read is copied from mem.
func (o *Memory) Gather(read func(p []byte, ranges []procmem.Range) int, mem procmem.Memory, ranges []procmem.Range) {
	o.arena.gather(read, mem, ranges)
}

// MarkStored says that r is in the store already.
func (o *Memory) MarkStored(r procmem.Range) { o.stored.Add(r) }

// Miss says that r should have been copied and could not be read, and why.
func (o *Memory) Miss(r procmem.Range, err error) { o.arena.miss(r, err) }

// Fault says that r cannot be read, and why. Unlike with Miss, it holds nothing.
func (o *Memory) Fault(r procmem.Range, err error) { o.arena.fault(r, err) }

// Err returns the first error of the store, or nil.
func (o *Memory) Err() error { return o.arena.err }

// Seal makes the memory ready to be read. maps are its mappings. base has what is not its own;
// nil has nothing. Seal returns the first error of the store.
func (o *Memory) Seal(maps []procmem.Mapping, base procmem.Sparse) error {
	if base == nil {
		base = nothing{}
	}
	o.maps, o.base = maps, base
	o.own = pageset.Merge(o.own)
	for r := range o.arena.spilled.Ranges(everything) {
		o.stored.Add(r)
	}
	data := slices.Clone(o.arena.missing)
	for _, c := range o.arena.chunks {
		data = append(data, c.Range)
	}
	for r := range o.stored.Ranges(everything) {
		data = append(data, r)
	}
	o.data = pageset.Merge(data)
	return o.arena.seal()
}

// Stored returns the pages that are in the store. All of them are known once the memory is
// sealed. The result must not be changed.
func (o *Memory) Stored() *pageset.Set { return &o.stored }

// Mappings implements procmem.Memory.
func (o *Memory) Mappings() ([]procmem.Mapping, error) { return o.maps, nil }

// ReadAt implements procmem.Memory.
func (o *Memory) ReadAt(p []byte, addr procmem.Addr) (int, error) {
	done := 0
	for done < len(p) {
		a := addr + procmem.Addr(done)
		i := pageset.Index(o.own, a)
		end := procmem.Addr(math.MaxUint64)
		read := o.base.ReadAt
		switch {
		case i == len(o.own):
		case o.own[i].Start > a:
			end = o.own[i].Start
		default:
			end, read = o.own[i].End, o.readOwn
		}
		n, err := read(p[done:done+int(min(uint64(len(p)-done), uint64(end-a)))], a)
		if done += n; err != nil {
			return done, err
		}
	}
	return done, nil
}

// readOwn reads a part of one range of own.
func (o *Memory) readOwn(p []byte, addr procmem.Addr) (int, error) {
	done := 0
	for done < len(p) {
		a := addr + procmem.Addr(done)
		rest := p[done:]
		data, end := o.arena.at(a)
		if data != nil {
			done += copy(rest, data)
			continue
		}
		until, err := o.arena.faultAt(a)
		if err != nil {
			return done, &procmem.FaultError{Addr: a, Err: err, Until: until}
		}
		rest = rest[:min(uint64(len(rest)), uint64(min(end, until)-a))]
		n, err := o.readStored(rest, a)
		if done += n; err != nil {
			return done, err
		}
	}
	return done, nil
}

// readStored reads what is in the store, and zeros elsewhere.
func (o *Memory) readStored(p []byte, addr procmem.Addr) (int, error) {
	done := 0
	r := procmem.Range{Start: addr, End: addr + procmem.Addr(len(p))}
	for h := range o.stored.Ranges(r) {
		h = h.Intersect(r)
		clear(p[done : h.Start-addr])
		n, err := o.arena.store.ReadAt(p[h.Start-addr:h.End-addr], h.Start)
		done = int(h.Start-addr) + n
		if err != nil {
			return done, err
		}
	}
	clear(p[done:])
	return len(p), nil
}

// Data implements procmem.Sparse.
func (o *Memory) Data(r procmem.Range) iter.Seq2[procmem.Range, error] {
	return func(yield func(procmem.Range, error) bool) {
		for at := r.Start; at < r.End; {
			i := pageset.Index(o.own, at)
			end := r.End
			inside := false
			if i < len(o.own) {
				if inside = o.own[i].Start <= at; inside {
					end = min(end, o.own[i].End)
				} else {
					end = min(end, o.own[i].Start)
				}
			}
			piece := procmem.Range{Start: at, End: end}
			if inside {
				for k := pageset.Index(o.data, at); k < len(o.data) && o.data[k].Start < end; k++ {
					if !yield(o.data[k].Intersect(piece), nil) {
						return
					}
				}
			} else {
				for d, err := range o.base.Data(piece) {
					if !yield(d, err) || err != nil {
						return
					}
				}
			}
			at = end
		}
	}
}

// nothing is a procmem.Sparse that holds nothing.
type nothing struct{}

func (nothing) Mappings() ([]procmem.Mapping, error) { return nil, nil }

func (nothing) ReadAt(_ []byte, addr procmem.Addr) (int, error) {
	return 0, &procmem.FaultError{Addr: addr, Err: procmem.ErrNotDumped}
}

func (nothing) Data(procmem.Range) iter.Seq2[procmem.Range, error] {
	return func(func(procmem.Range, error) bool) {}
}
