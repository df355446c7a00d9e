package dirty

import (
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/sys"
)

// The kernel is told by addresses whose writes to track. If such a range begins or ends inside
// a mapping, the kernel cuts the mapping in two for as long as the tracking lasts. In the
// target, mremap(2) of the whole then fails with EFAULT, as in a realloc(3). So tracking begins
// and ends with whole mappings only.
//
// The list of mappings may be some milliseconds old. So their boundaries are asked for again
// just before. A mapping that grows in the microsecond after that is cut all the same, and
// becomes one again just after (Tracker.cover).

// boundaries knows the mapping boundaries of a process.
type boundaries struct{ maps *os.File } // /proc/PID/maps

// are reports whether one mapping begins where r does, and one ends where r does. Kernels
// before 6.11 do not tell, and are then reports true.
func (b boundaries) are(r procmem.Range) bool {
	first, err := sys.MappingAt(b.maps.Fd(), uint64(r.Start))
	if errors.Is(err, unix.ENOTTY) {
		return true
	}
	last, lerr := sys.MappingAt(b.maps.Fd(), uint64(r.End)-1)
	return err == nil && lerr == nil && first.Start == uint64(r.Start) && last.End == uint64(r.End)
}

// beside returns the private mappings that touch r.
func (b boundaries) beside(r procmem.Range) (out []procmem.Range) {
	add := func(a procmem.Addr, touches func(m procmem.Range) bool) {
		b, err := sys.MappingAt(b.maps.Fd(), uint64(a))
		m := procmem.Range{Start: procmem.Addr(b.Start), End: procmem.Addr(b.End)}
		if err == nil && !b.Shared && touches(m) {
			out = append(out, m)
		}
	}
	add(r.Start-1, func(m procmem.Range) bool { return m.End == r.Start })
	add(r.End, func(m procmem.Range) bool { return m.Start == r.End })
	return out
}

// cover has whole mappings tracked, and all that they turn out to be a part of. It reports
// whether they are.
func (t *Tracker) cover(r procmem.Range) bool {
	before := t.boundaries.beside(r)
	if !t.boundaries.are(r) || sys.UffdRegister(t.uffd, uint64(r.Start), uint64(r.End)) != nil {
		return false
	}
	t.fresh(r)
	for _, m := range t.boundaries.beside(r) {
		if !slices.Contains(before, m) && !t.tracks(m.Start) {
			t.cover(m)
		}
	}
	return true
}
