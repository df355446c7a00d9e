package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/internal/units"
)

// splitCut returns what the file ends before, and the other damage. A part without bytes that
// should be there, such as the checksums, is missing because of the cut.
func splitCut(all []core.Damage) (cut, other []core.Damage) {
	short := slices.ContainsFunc(all, isCut)
	for _, d := range all {
		if isCut(d) || short && d.Empty() && d.Size == 0 {
			cut = append(cut, d)
		} else {
			other = append(other, d)
		}
	}
	return cut, other
}

// tellCut prints in two lines what a file ends before, which may be thousands of ranges.
func tellCut(path string, cut []core.Damage) {
	if len(cut) == 0 {
		return
	}
	var bytes uint64
	ranges, notes := 0, false
	for _, d := range cut {
		if d.Empty() {
			notes = true
			continue
		}
		ranges++
		bytes += d.Range.Size()
	}
	memory := "all of its memory is there"
	if ranges > 0 {
		memory = fmt.Sprintf("%s of memory is missing, in %s (--json lists them)", units.Size(bytes), count(ranges, "range"))
	}
	rest := "what is there is as it was written, but for what is listed here"
	if notes {
		rest = "threads, names or checksums come after that and are missing, too: what is there can be read, and not be compared"
	}
	term.Fprintf(os.Stdout, "%s: cut off: %s\n%s\n", path, memory, rest)
}
