package snapshot

import (
	"iter"
	"math"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
)

// overlay is the memory of a moment that is over. Some of it was kept, and a base still has the
// rest. It is a procmem.Sparse.
type overlay struct {
	maps []procmem.Mapping
	// own are the ranges that were kept, ascending. What they hold is in the arena or in the
	// store, a fault, or zeros.
	own   []procmem.Range
	arena *arena
	store Store
	held  pageset.Set     // pages that are in the store
	data  []procmem.Range // the parts of own that may hold data, ascending
	// base has what is not in own.
	base procmem.Sparse
}

// seal makes the overlay ready to be read. own and data may have been appended to in any order.
func (o *overlay) seal() error {
	o.own = pageset.Merge(o.own)
	o.data = pageset.Merge(append(o.data, o.arena.missing...))
	return o.arena.seal()
}

// Mappings implements procmem.Memory.
func (o *overlay) Mappings() ([]procmem.Mapping, error) { return o.maps, nil }

// ReadAt implements procmem.Memory.
func (o *overlay) ReadAt(p []byte, addr procmem.Addr) (int, error) {
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
func (o *overlay) readOwn(p []byte, addr procmem.Addr) (int, error) {
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
		n, err := o.readHeld(rest, a)
		if done += n; err != nil {
			return done, err
		}
	}
	return done, nil
}

// readHeld reads what is in the store, and zeros elsewhere.
func (o *overlay) readHeld(p []byte, addr procmem.Addr) (int, error) {
	done := 0
	r := procmem.Range{Start: addr, End: addr + procmem.Addr(len(p))}
	for h := range o.held.Ranges(r) {
		h = h.Intersect(r)
		clear(p[done : h.Start-addr])
		n, err := o.store.ReadAt(p[h.Start-addr:h.End-addr], h.Start)
		done = int(h.Start-addr) + n
		if err != nil {
			return done, err
		}
	}
	clear(p[done:])
	return len(p), nil
}

// Data implements procmem.Sparse.
func (o *overlay) Data(r procmem.Range) iter.Seq2[procmem.Range, error] {
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
