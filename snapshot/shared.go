package snapshot

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/holders"
	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// Reasons for Torn.
const (
	tornUnseen  = "shared: other processes, which may not all be looked at, may have written to it while it was copied"
	tornBeyond  = "shared, and too large to be copied during the pause: it was copied later"
	tornWritten = "shared: the process has it open, and may have written to it by a system call, which leaves no trace in page tables"
	tornProcess = "shared: process %d may have written to it while it was copied"
	tornHolder  = "shared: process %d has it open, and may have written to it while it was copied"
	tornSeveral = "shared: process %d and %d more may have written to it while it was copied"
	maxShared   = arenaSize // bytes of shared memory copied during a pause: a matter of some milliseconds
	pssRounding = 64 << 10  // bytes by which the sum of several sizes may be wrong
)

// object is a file, or memory without a name, that mappings of the process share.
type object struct {
	id     holders.ID
	maps   []procmem.Mapping // the wanted ones
	size   uint64            // to copy, in bytes
	others string            // which others may write to it, so that no copy of it is of one moment; "" for none
}

// objectsOf groups shared mappings by the object that they show.
func objectsOf(shared []procmem.Mapping) (out []*object) {
	known := make(map[holders.ID]*object)
	for _, m := range shared {
		id := holders.Of(&m)
		if known[id] == nil {
			known[id] = &object{id: id}
			out = append(out, known[id])
		}
		known[id].maps = append(known[id].maps, m)
	}
	return out
}

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

// tear notes that an object may be of another moment, unless why is empty.
func (s *Snapshot) tear(o *object, why string) {
	for i := range o.maps {
		r := o.maps[i].Range
		if why != "" && !slices.ContainsFunc(s.Torn, func(t Torn) bool { return t.Range == r }) {
			s.Torn = append(s.Torn, Torn{r, why})
		}
	}
	s.sortTorn()
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

// stillFile is the time after which a file on a disk that has not changed counts as not being
// written. It is longer than the kernel leaves pages unwritten.
const stillFile = 2 * time.Minute

// around is what is known of an object outside of the process.
type around struct {
	others []holders.Holder
	unseen bool // not all processes could be looked at
	mapped bool // its pages are mapped more often than by the process
	still  bool // it is on a disk, and has not been written for stillFile
	writes bool // the process itself may write to it
	open   bool // the process itself has it open for writing
}

// lookFor finds the processes that may write to objects. It leaves out this process, and
// processes that share the target's memory and are held with it.
func lookFor(p *process.Process, view *process.View, objects []*object) map[holders.ID]around {
	out := make(map[holders.ID]around, len(objects))
	if len(objects) == 0 {
		return out
	}
	var files []holders.ID
	for _, o := range objects {
		files = append(files, o.id)
	}
	pids, err := process.List()
	pids = slices.DeleteFunc(pids, func(pid int) bool { return pid == os.Getpid() })
	answer := holders.Find(pids, files)
	for _, o := range objects {
		a := around{unseen: err != nil || answer.Unseen > 0, mapped: o.mappedByOthers()}
		if state, ok := view.FileState(&o.maps[0]); ok {
			// Pages that were written to disk are written to again by a fault, which changes
			// the time.
			a.still = !state.Memory && time.Since(state.Changed) > stillFile
		}
		for _, h := range answer.Holders[o.id] {
			if h.PID == p.PID() {
				a.open, a.writes = a.open || h.Descriptor, true
				continue
			}
			var same bool
			privilege.Raised(func() { same, _ = sys.SameMemory(p.PID(), h.PID) })
			if same {
				a.open, a.writes = a.open || h.Descriptor, true // it may have another table of files
				continue
			}
			a.others = append(a.others, h)
		}
		out[o.id] = a
	}
	return out
}

// reason returns why an object may change while the process is held, or "".
func (a around) reason() string {
	switch n := len(a.others); {
	case n > 1:
		return fmt.Sprintf(tornSeveral, a.others[0].PID, n-1)
	case n == 1 && a.others[0].Mapped:
		return fmt.Sprintf(tornProcess, a.others[0].PID)
	case n == 1:
		return fmt.Sprintf(tornHolder, a.others[0].PID)
	case a.unseen && a.mapped && !a.still:
		return tornUnseen
	}
	return ""
}

// mappedByOthers reports whether other processes have pages of an object in their memory, by
// how often its pages are mapped. Where this process maps the object several times, each page
// counts in parts whose sum is one.
func (o *object) mappedByOthers() bool {
	var most, parts, several uint64
	known := 0
	for i := range o.maps {
		u := o.maps[i].Usage
		if u == nil {
			continue // the mapping is new
		}
		known++
		most, parts, several = max(most, u.RSS), parts+u.PSS, several+u.SharedClean+u.SharedDirty
	}
	return known == 0 || several > 0 && (known == 1 || parts+pssRounding < most)
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
