package dirty

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

const (
	// untrackStep is how many bytes are unprotected at once, while no thread of the target can
	// map or unmap memory: some tenths of a millisecond.
	untrackStep = 8 << 20
	// untrackWork is the time after which other threads get hold of the address space for
	// untrackRest. Without a rest they may have to wait for all of the work.
	untrackWork = 500 * time.Microsecond
	untrackRest = 100 * time.Microsecond
)

// untracker ends the tracking of writes in small steps. Closing the userfaultfd would do it in
// one large step.
type untracker struct {
	uffd       int
	boundaries boundaries
	pages      finder
	rested     time.Time
}

// Untrack ends the tracking of all mappings of a process by a userfaultfd. Mappings of a
// process that cannot be read any more are left to the end of the userfaultfd.
func Untrack(p *process.Process, uffd int) {
	file, err := p.OpenMem("maps")
	if err != nil {
		return // the process is gone
	}
	defer file.Close()
	pm, err := p.OpenMem("pagemap")
	if err != nil {
		return
	}
	defer pm.Close()
	maps, err := p.Mappings()
	if err != nil {
		return
	}
	u := untracker{uffd, boundaries{file}, finder{pm: pm}, time.Now()}
	for len(maps) > 0 {
		run := touching(maps, untrackStep)
		maps = maps[len(run):]
		if u.run(run) || len(run) == 1 {
			continue
		}
		for i := range run { // some of it is not tracked, or no longer exists
			u.run(run[i : i+1])
		}
	}
}

// run ends the tracking of mappings that touch, and reports whether it could. It unprotects the
// pages first, in steps, because that takes long.
func (u *untracker) run(maps []procmem.Mapping) bool {
	r := hull(maps)
	for a := r.Start; a < r.End; {
		// The first step of a mapping also tells whether it is tracked by us.
		if a > r.Start && len(maps) == 1 {
			if first, ok, err := u.pages.next(procmem.Range{Start: a, End: r.End}); err == nil && !ok {
				break
			} else if err == nil {
				a = max(a, first&^(untrackStep-1))
			}
		}
		end := min(r.End, (a|(untrackStep-1))+1) // aligned, so that huge pages stay whole
		if err := sys.UffdUnprotect(u.uffd, uint64(a), uint64(end)); errors.Is(err, unix.ENOENT) {
			return false
		} else if err != nil {
			break // pages of hugetlbfs that are larger than a step
		}
		u.rest()
		a = end
	}
	defer u.rest()
	return u.boundaries.are(r) && sys.UffdUnregister(u.uffd, uint64(r.Start), uint64(r.End)) == nil
}

func (u *untracker) rest() {
	if time.Since(u.rested) > untrackWork {
		sys.Nap(untrackRest)
		u.rested = time.Now()
	}
}

// touching returns leading mappings that touch each other, or the first one alone. They are as
// many as one step can handle, and at most size bytes together.
func touching(maps []procmem.Mapping, size uint64) []procmem.Mapping {
	n := 1
	for n < len(maps) && n < registerStep && maps[n].Start == maps[n-1].End && uint64(maps[n].End-maps[0].Start) <= size {
		n++
	}
	return maps[:n]
}

// hull returns the range of mappings that touch each other.
func hull(maps []procmem.Mapping) procmem.Range {
	return procmem.Range{Start: maps[0].Start, End: maps[len(maps)-1].End}
}
