package snapshot

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/holders"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/process"
)

// Reasons for Torn. Package holders has those that name other processes.
const (
	tornBeyond  = "shared, and too large to be copied during the pause: it was copied later"
	tornWritten = "shared: the process has it open, and may have written to it by a system call, which leaves no trace in page tables"
	tornServer  = "shared, and its file is on a server: what the process has not touched was read after the pause"
	tornPinned  = "its pages may have been written without a fault since they were copied: %s"
	tornCall    = "a thread that could not be stopped is in a system call that may write to it"
)

// tearCalls notes as torn what system calls may write to while the process is held. These are
// the calls of threads that were not waited for. mem is the process's memory, in which calls
// may name ranges.
func (s *Snapshot) tearCalls(calls []*process.Syscall, mem procmem.Memory) {
	for _, r := range pageset.Merge(ptracer.Writes(s.img.Arch, calls, mem)) {
		for _, part := range s.writable(r) {
			s.Torn = append(s.Torn, Torn{part, tornCall})
		}
	}
	s.sortTorn()
}

// writable returns the parts of r that are mapped and that the process may write to.
func (s *Snapshot) writable(r procmem.Range) (out []procmem.Range) {
	maps := s.img.Mappings
	for i := procmem.FindMapping(maps, r.Start); i < len(maps) && maps[i].Start < r.End; i++ {
		if maps[i].Perm&procmem.PermWrite != 0 {
			out = append(out, maps[i].Range.Intersect(r))
		}
	}
	return pageset.Merge(out)
}

// tear notes that an object may be of another moment, unless why is empty.
func (s *Snapshot) tear(o *holders.Object, why string) {
	for i := range o.Maps {
		r := o.Maps[i].Range
		if why != "" && !slices.ContainsFunc(s.Torn, func(t Torn) bool { return t.Range == r }) {
			s.Torn = append(s.Torn, Torn{r, why})
		}
	}
	s.sortTorn()
}

func (s *Snapshot) sortTorn() {
	slices.SortStableFunc(s.Torn, func(a, b Torn) int { return cmp.Compare(a.Start, b.Start) })
}

// tearPinned notes as torn what was copied before the pause, if somebody may have written to it
// without a fault.
func (f *pauser) tearPinned() {
	if f.tracker == nil && f.bits == nil {
		return
	}
	if f.pins = cmp.Or(f.pins, holders.Pinned(f.p)); f.pins == "" {
		return
	}
	for _, m := range f.pinnable() {
		f.s.Torn = append(f.s.Torn, Torn{m.Range, fmt.Sprintf(tornPinned, f.pins)})
	}
	f.s.sortTorn()
}
