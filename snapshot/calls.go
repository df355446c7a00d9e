package snapshot

import (
	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/process"
)

// tearCalls notes what system calls may write to while the process is held: those of
// threads that were not waited for. mem is its memory, where the calls may name ranges.
func (s *Snapshot) tearCalls(calls []*process.Syscall, mem procmem.Memory) {
	for _, r := range pageset.Merge(ptracer.Writes(s.img.Arch, calls, mem)) {
		for _, part := range s.writable(r) {
			s.Torn = append(s.Torn, Torn{part, tornCall})
		}
	}
	s.sortTorn()
}

// writable returns the parts of r that are mapped, and that the process may write.
func (s *Snapshot) writable(r procmem.Range) (out []procmem.Range) {
	maps := s.img.Mappings
	for i := procmem.FindMapping(maps, r.Start); i < len(maps) && maps[i].Start < r.End; i++ {
		if maps[i].Perm&procmem.PermWrite != 0 {
			out = append(out, maps[i].Range.Intersect(r))
		}
	}
	return pageset.Merge(out)
}

// callsOf returns the system calls of the threads that were not waited for.
func callsOf(threads []ptracer.Taken) (out []*process.Syscall) {
	for _, th := range threads {
		if th.Call != nil {
			out = append(out, th.Call)
		}
	}
	return out
}
