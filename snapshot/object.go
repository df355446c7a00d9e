package snapshot

import (
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/holders"
	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// Reasons why an object may be torn (Torn).
const (
	tornUnseen  = "shared: other processes, which may not all be looked at, may have written to it while it was copied"
	tornProcess = "shared: process %d may have written to it while it was copied"
	tornHolder  = "shared: process %d has it open, and may have written to it while it was copied"
	tornSeveral = "shared: process %d and %d more may have written to it while it was copied"
)

// pssRounding is by how many bytes the sum of several sizes may be wrong.
const pssRounding = 64 << 10

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
