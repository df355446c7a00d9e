package dirty

import (
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/sys"
)

// Whose writes are tracked is told the kernel by addresses. Where such a range
// begins or ends inside of a mapping the kernel cuts that in two, for as long
// as the tracking lasts, and then mremap(2) of the whole fails in the target
// with EFAULT, as in a realloc(3). So tracking begins and ends with whole
// mappings only. The list they are from may be old by some milliseconds: their
// edges are looked at again just before, and what was cut all the same, since
// it came in that microsecond, becomes one again just after (tracker.cover).

// boundaries knows the borders of the mappings of a process.
type boundaries struct{ maps *os.File } // /proc/PID/maps

// are reports whether a mapping begins where r does, and one ends where r
// does. On kernels that do not tell (before 6.11) they do.
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

// cover has whole mappings tracked, and whatever they turn out to be a part
// of.
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
