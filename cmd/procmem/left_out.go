package main

import (
	"errors"
	"fmt"
	"sort"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/units"
)

// leftOut is memory that was to be looked at, and that cores do not hold: by default they leave out
// what files have.
type leftOut struct {
	bytes uint64
	file  string // of which some is left out, or ""
}

// add adds what a target lacks of some ranges. A process lacks nothing.
func (l *leftOut) add(o *opened, in []procmem.Range) {
	if o.Core == nil {
		return
	}
	held := heldBy(o.Core)
	for _, r := range pageset.Merge(append([]procmem.Range(nil), in...)) {
		i := sort.Search(len(held), func(i int) bool { return held[i].End > r.Start })
		for ; i < len(held) && held[i].Start < r.End; i++ {
			l.gap(o.maps, procmem.Range{Start: r.Start, End: held[i].Start})
			r.Start = min(held[i].End, r.End)
		}
		l.gap(o.maps, r)
	}
}

// heldBy returns the memory that a core holds, or that nobody could read in the process, ascending.
func heldBy(c *core.File) (held []procmem.Range) {
	for _, s := range c.Segments() {
		if s.Dumped || s.Perm&(procmem.PermRead|procmem.PermWrite|procmem.PermExec) == 0 {
			held = append(held, s.Range)
		}
	}
	return held
}

// gap adds what is mapped in a range.
func (l *leftOut) gap(ms []procmem.Mapping, r procmem.Range) {
	for i := procmem.FindMapping(ms, r.Start); i < len(ms) && ms[i].Start < r.End; i++ {
		x := ms[i].Intersect(r)
		if x.Empty() || ms[i].Special() {
			continue
		}
		l.bytes += x.Size()
		if p := ms[i].Path; l.file == "" && p != "" && p[0] == '/' {
			l.file = p
		}
	}
}

// tell prints it for a listing, whatever is in that: another program looks for something there. err
// is how the listing has ended.
func (l *leftOut) tell(err error) {
	if _, done := errors.AsType[statusError](err); err != nil && !done {
		return
	}
	if text := l.text(); text != "" {
		notice("%s", text)
	}
}

// text says how much was not searched, and what would search it. It is "" where nothing is left out.
func (l *leftOut) text() string {
	switch {
	case l.bytes == 0:
		return ""
	case l.file == "":
		return fmt.Sprintf("not searched: %s that the core does not hold; procmem core --all takes all memory", units.Size(l.bytes))
	}
	return fmt.Sprintf("not searched: %s that the core does not hold, as of %s: search such files with grep -a, or a core of procmem core --all",
		units.Size(l.bytes), l.file)
}
