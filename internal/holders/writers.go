package holders

import (
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// Reasons why a copy of an object may be torn (snapshot.Torn).
const (
	tornUnseen  = "shared: other processes, which may not all be looked at, may have written to it while it was copied"
	tornProcess = "shared: process %d may have written to it while it was copied"
	tornHolder  = "shared: process %d has it open, and may have written to it while it was copied"
	tornSeveral = "shared: process %d and %d more may have written to it while it was copied"
)

// pssRounding is by how many bytes the sum of several sizes may be wrong.
const pssRounding = 64 << 10

// Object is a file, or memory without a name, that mappings of a process share.
type Object struct {
	ID   ID
	Maps []procmem.Mapping // those of the process that show it
}

// Objects groups shared mappings by the object that they show.
func Objects(shared []procmem.Mapping) (out []*Object) {
	known := make(map[ID]*Object)
	for _, m := range shared {
		id := Of(&m)
		if known[id] == nil {
			known[id] = &Object{ID: id}
			out = append(out, known[id])
		}
		known[id].Maps = append(known[id].Maps, m)
	}
	return out
}

// stillFile is the time after which a file on a disk that has not changed counts as not being
// written. It is longer than the kernel leaves pages unwritten.
const stillFile = 2 * time.Minute

// Writers is who may write to an object, seen from one process that maps it.
type Writers struct {
	Self   bool // the process itself may write to it
	Open   bool // the process itself has it open for writing
	Mapped bool // its pages are mapped more often than by the process
	Still  bool // it is on a disk, and has not been written for 2 minutes
	others []holder
	unseen bool // not all processes could be looked at
}

// WritersOf finds out who may write to objects of a process. It leaves out the calling process,
// and processes that share the memory of p and are held with it. view is a view of p.
func WritersOf(p *process.Process, view *process.View, objects []*Object) map[ID]Writers {
	out := make(map[ID]Writers, len(objects))
	if len(objects) == 0 {
		return out
	}
	var files []ID
	for _, o := range objects {
		files = append(files, o.ID)
	}
	pids, err := process.List()
	pids = slices.DeleteFunc(pids, func(pid int) bool { return pid == os.Getpid() })
	answer := find(pids, files)
	for _, o := range objects {
		w := Writers{unseen: err != nil || answer.unseen > 0, Mapped: o.mappedByOthers()}
		if state, ok := view.FileState(&o.Maps[0]); ok {
			// Pages that were written to disk are written to again by a fault, which changes
			// the time.
			w.Still = !state.Memory && time.Since(state.Changed) > stillFile
		}
		for _, h := range answer.holders[o.ID] {
			if h.pid == p.PID() {
				w.Open, w.Self = w.Open || h.descriptor, true
				continue
			}
			var same bool
			privilege.Raised(func() { same, _ = sys.SameMemory(p.PID(), h.pid) })
			if same {
				w.Open, w.Self = w.Open || h.descriptor, true // it may have another table of files
				continue
			}
			w.others = append(w.others, h)
		}
		out[o.ID] = w
	}
	return out
}

// Reason returns why an object may change while the process is held, as one clause for people.
// It returns "" if nobody else can change the object.
func (w Writers) Reason() string {
	switch n := len(w.others); {
	case n > 1:
		return fmt.Sprintf(tornSeveral, w.others[0].pid, n-1)
	case n == 1 && w.others[0].mapped:
		return fmt.Sprintf(tornProcess, w.others[0].pid)
	case n == 1:
		return fmt.Sprintf(tornHolder, w.others[0].pid)
	case w.unseen && w.Mapped && !w.Still:
		return tornUnseen
	}
	return ""
}

// mappedByOthers reports whether other processes have pages of an object in their memory, by
// how often its pages are mapped. If this process maps the object several times, each page
// counts in parts whose sum is one.
func (o *Object) mappedByOthers() bool {
	var most, parts, several uint64
	known := 0
	for i := range o.Maps {
		u := o.Maps[i].Usage
		if u == nil {
			continue // the mapping is new
		}
		known++
		most, parts, several = max(most, u.RSS), parts+u.PSS, several+u.SharedClean+u.SharedDirty
	}
	return known == 0 || several > 0 && (known == 1 || parts+pssRounding < most)
}

// Until returns w without the processes that started after a time (Ticks).
func (w Writers) Until(ticks uint64) Writers {
	w.others = slices.DeleteFunc(w.others, func(h holder) bool { return bornAfter(h.pid, ticks) })
	return w
}

// bornAfter reports whether a process started after a time, in clock ticks since boot.
func bornAfter(pid int, ticks uint64) bool {
	p, err := process.Open(pid)
	if err != nil {
		return true
	}
	defer p.Close()
	return p.StartTime() > ticks
}

// Ticks returns the time since boot in the unit of process.Process.StartTime, which is 10 ms.
func Ticks() uint64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) // it cannot fail
	return uint64(t.Nano()) / uint64(10*time.Millisecond)
}
