package snapshot

import (
	"cmp"
	"maps"
	"slices"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/holders"
	"github.com/procmem/procmem/internal/overlay"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/process"
)

// maxShared is the size of shared memory, in bytes, that is copied during a pause. That takes
// some milliseconds.
const maxShared = littleMemory

// sharedPlan is what becomes of shared memory.
type sharedPlan struct {
	inPause []procmem.Mapping // copied during the pause
	tracked []*holders.Object // copied before the pause, and again where it is written
	torn    uint64            // bytes that are read after the pause, though no other process writes to them
}

// boundShared chooses the shared memory that is copied during the pause, the smallest objects
// first. Of the others it chooses those that are tracked, where trackable allows it. It notes
// what of all may be torn.
func (f *pauser) boundShared(shared []procmem.Mapping, trackable func(*holders.Object) bool) (out sharedPlan) {
	objects := holders.Objects(shared)
	f.lookAround(f.view, objects)
	sizes := make(map[holders.ID]uint64, len(objects))
	for _, o := range objects {
		for i := range o.Maps {
			sizes[o.ID] += overlay.KeepSize(f.view, &o.Maps[i])
		}
	}
	slices.SortStableFunc(objects, func(a, b *holders.Object) int { return cmp.Compare(sizes[a.ID], sizes[b.ID]) })
	var sum uint64
	for _, o := range objects {
		size, writers := sizes[o.ID], f.writers[o.ID]
		others := writers.Reason()
		sum += size
		switch {
		case sum <= maxShared:
			out.inPause = append(out.inPause, o.Maps...)
		case others == "" && writers.Still && !writers.Self: // it is read later
			sum -= size
		case others == "" && trackable(o):
			sum -= size
			out.tracked = append(out.tracked, o)
		default:
			if others == "" {
				out.torn += size
			}
			f.s.tear(o, cmp.Or(others, tornBeyond))
			continue
		}
		why := others
		if f.view.Remote(&o.Maps[0]) {
			why = tornServer
		}
		f.s.tear(o, why)
	}
	return out
}

// lookAround finds out who may write to objects, once for each object.
func (l *look) lookAround(view *process.View, objects []*holders.Object) {
	unknown := slices.DeleteFunc(slices.Clone(objects), func(o *holders.Object) bool {
		_, ok := l.writers[o.ID]
		return ok
	})
	maps.Copy(l.writers, holders.WritersOf(l.p, view, unknown))
}

// mayTrack reports whether writes to an object can be tracked.
func (f *pauser) mayTrack(o *holders.Object) bool {
	const foreign = procmem.VMUffdMiss | procmem.VMUffdWP | procmem.VMHugeTLB
	for i := range f.maps {
		m := &f.maps[i]
		if m.Shared() && holders.Of(m) == o.ID && m.Flags&foreign != 0 && f.shared[o.ID] == nil {
			return false
		}
	}
	state, ok := f.view.FileState(&o.Maps[0])
	return ok && state.Memory && f.canTrackByFaults() == nil
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
