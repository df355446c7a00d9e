package snapshot

import (
	"cmp"
	"maps"
	"slices"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/holders"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/process"
)

// maxShared is the size of shared memory, in bytes, that is copied during a pause. That takes
// some milliseconds.
const maxShared = arenaSize

// sharedPlan is what becomes of shared memory.
type sharedPlan struct {
	inPause []procmem.Mapping // copied during the pause
	tracked []*object         // copied before the pause, and again where it is written
	torn    uint64            // bytes that are read after the pause, though no other process writes to them
}

// boundShared chooses the shared memory that is copied during the pause, the smallest objects
// first. Of the others it chooses those that are tracked, where trackable allows it. It notes
// what of all may be torn.
func (f *pauser) boundShared(shared []procmem.Mapping, trackable func(*object) bool) (out sharedPlan) {
	objects := objectsOf(shared)
	f.lookAround(f.view, objects)
	for _, o := range objects {
		for i := range o.maps {
			o.size += presentSize(f.view, &o.maps[i])
		}
	}
	slices.SortStableFunc(objects, func(a, b *object) int { return cmp.Compare(a.size, b.size) })
	var sum uint64
	for _, o := range objects {
		sum += o.size
		switch {
		case sum <= maxShared:
			out.inPause = append(out.inPause, o.maps...)
		case o.others == "" && f.around[o.id].still && !f.around[o.id].writes: // it is read later
			sum -= o.size
		case o.others == "" && trackable(o):
			sum -= o.size
			out.tracked = append(out.tracked, o)
		default:
			if o.others == "" {
				out.torn += o.size
			}
			f.s.tear(o, cmp.Or(o.others, tornBeyond))
			continue
		}
		why := o.others
		if f.view.Remote(&o.maps[0]) {
			why = tornServer
		}
		f.s.tear(o, why)
	}
	return out
}

// lookAround finds the other processes that may write to objects, once for each object.
func (l *look) lookAround(view *process.View, objects []*object) {
	unknown := slices.DeleteFunc(slices.Clone(objects), func(o *object) bool {
		_, ok := l.around[o.id]
		return ok
	})
	maps.Copy(l.around, lookFor(l.p, view, unknown))
	for _, o := range objects {
		o.others = l.around[o.id].reason()
	}
}

// mayTrack reports whether writes to an object can be tracked.
func (f *pauser) mayTrack(o *object) bool {
	const foreign = procmem.VMUffdMiss | procmem.VMUffdWP | procmem.VMHugeTLB
	for i := range f.maps {
		m := &f.maps[i]
		if m.Shared() && holders.Of(m) == o.id && m.Flags&foreign != 0 && f.shared[o.id] == nil {
			return false
		}
	}
	state, ok := f.view.FileState(&o.maps[0])
	return ok && state.Memory && canTrack() == nil
}

// sharedMappings returns the mappings of maps that share memory and are wanted.
func (f *pauser) sharedMappings(maps []procmem.Mapping) (out []procmem.Mapping) {
	for i := range maps {
		if m := &maps[i]; m.Shared() && !m.Special() && !m.Device() && pageset.Overlaps(f.wanted, m.Range) {
			out = append(out, *m)
		}
	}
	return out
}
