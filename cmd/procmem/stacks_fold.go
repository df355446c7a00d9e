package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/stacks"
)

// printFolded prints a line for each stack: the name of the thread and the functions from the
// outermost, with semicolons between, and the number of samples.
func printFolded(out io.Writer, s *stackSum) error {
	counts := map[string]int{}
	for _, g := range s.groups {
		tail := folded(g)
		for _, t := range g.threads {
			counts[foldedName(cmp.Or(t.name, "?"))+tail] += t.samples
		}
	}
	w := bufio.NewWriter(out)
	for _, line := range slices.Sorted(maps.Keys(counts)) {
		term.Fprintf(w, "%s %d\n", line, counts[line])
	}
	return w.Flush()
}

func folded(g *stackGroup) string {
	var b strings.Builder
	if g.stop != nil {
		b.WriteString(";[" + foldedName(g.stop.Reason.String()) + "]")
	}
	for _, f := range slices.Backward(g.frames) {
		for _, p := range slices.Backward(f.places) {
			b.WriteString(";" + foldedName(functionName(&f, p)))
		}
	}
	return b.String()
}

// functionName is the function of a frame, or where that is not known its object.
func functionName(f *shownFrame, p stacks.Place) string {
	switch {
	case p.Function != "":
		return p.Function
	case p.Module != "":
		return fmt.Sprintf("%s+%#x", path.Base(p.Module), uint64(p.Addr))
	}
	return f.PC.String()
}

// foldedName is a name without the semicolon, which separates names.
func foldedName(name string) string { return strings.ReplaceAll(name, ";", ",") }
