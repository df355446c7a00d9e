package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/stacks"
)

// printStacks prints the groups for people.
func printStacks(out io.Writer, s *stackSum) error {
	w := bufio.NewWriter(out)
	for i, g := range s.groups {
		if i > 0 {
			term.Fprintf(w, "\n")
		}
		term.Fprintf(w, "%s\n", s.headOf(g))
		for _, line := range callLines(g) {
			term.Fprintf(w, "    %s\n", line)
		}
		printFrames(w, g.frames)
		if g.stop != nil {
			term.Fprintf(w, "      %s\n", s.stopText(g.stop))
		}
	}
	return w.Flush()
}

// headOf names the threads of a group.
func (s *stackSum) headOf(g *stackGroup) string {
	head := count(len(g.threads), "thread") + ": "
	if len(g.threads) == 1 {
		head = "thread "
	}
	head += threadNames(g.threads)
	if s.moments > 1 {
		all := 0
		for _, g := range s.groups {
			all += g.samples
		}
		head = fmt.Sprintf("%.1f%%, %s of %s", 100*float64(g.samples)/float64(all), count(g.samples, "sample"), head)
	}
	return head
}

// mostRanges is how many ranges of thread ids, and mostCalls how many calls of a group are
// listed. --each prints all.
const (
	mostRanges = 16
	mostCalls  = 4
)

// threadNames lists threads by their names: worker 12-19, 21; logger 30.
func threadNames(threads []shownThread) string {
	byName := map[string][]int{}
	var names []string
	for _, t := range threads {
		if byName[t.name] == nil {
			names = append(names, t.name)
		}
		byName[t.name] = append(byName[t.name], t.tid)
	}
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(len(byName[b]), len(byName[a])) })
	var out []string
	left := mostRanges
	told := 0
	for _, name := range names {
		if left == 0 {
			break
		}
		text, ranges, n := idRanges(byName[name], left)
		left -= ranges
		told += n
		out = append(out, strings.TrimSpace(name+" "+text))
	}
	list := strings.Join(out, "; ")
	if more := len(threads) - told; more > 0 {
		list += fmt.Sprintf(" and %d more (--each lists all)", more)
	}
	return list
}

// idRanges lists ascending ids in at most so many ranges. n is how many ids those are.
func idRanges(ids []int, most int) (text string, ranges, n int) {
	var out []string
	for n < len(ids) && len(out) < most {
		first := n
		for n++; n < len(ids) && ids[n] == ids[n-1]+1; n++ {
		}
		r := strconv.Itoa(ids[first])
		if n-first > 1 {
			r += "-" + strconv.Itoa(ids[n-1])
		}
		out = append(out, r)
	}
	return strings.Join(out, ", "), len(out), n
}

// doing is what a thread does, as far as its stack does not tell.
type doing struct{ state, call, wait, err string }

func (d doing) String() string {
	var parts []string
	if d.state != "" {
		parts = append(parts, d.state)
	}
	if d.call != "" {
		parts = append(parts, "in "+d.call)
	}
	if d.wait != "" {
		parts = append(parts, "at "+d.wait+" in the kernel")
	}
	if d.err != "" {
		parts = append(parts, "("+d.err+")")
	}
	return strings.Join(parts, " ")
}

// callLines tells in which states and system calls the threads of a group are. Where there are
// too many, it leaves out the arguments of the calls.
func callLines(g *stackGroup) []string {
	all, counts := countDoing(g.threads, true)
	if len(all) > mostCalls {
		all, counts = countDoing(g.threads, false)
	}
	var lines []string
	for i, d := range all {
		if i == mostCalls {
			return append(lines, fmt.Sprintf("and %d others (--each lists all)", len(all)-i))
		}
		line := d.String()
		if len(all) > 1 && line != "" {
			line = fmt.Sprintf("%d: %s", counts[d], line)
		}
		if line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// countDoing returns what threads do, with what most of them do first.
func countDoing(threads []shownThread, arguments bool) (all []doing, counts map[doing]int) {
	counts = map[doing]int{}
	for _, t := range threads {
		d := doing{t.state, t.call, t.wait, ""}
		if t.err != nil {
			d.err = t.err.Error()
		}
		if name, _, ok := strings.Cut(d.call, "("); ok && !arguments {
			d.call = name + "(…)"
		}
		if counts[d] == 0 {
			all = append(all, d)
		}
		counts[d]++
	}
	slices.SortStableFunc(all, func(a, b doing) int { return cmp.Compare(counts[b], counts[a]) })
	return all, counts
}

// printFrames prints a line for each function.
func printFrames(w io.Writer, frames []shownFrame) {
	width := 0
	for i := range frames {
		if !frames[i].runtime {
			width = max(width, len(frames[i].PC.String()))
		}
	}
	for i := range frames {
		f := &frames[i]
		for _, p := range f.places {
			at := f.PC.String()
			switch {
			case f.runtime:
				at = ""
			case p.Inlined:
				at = "inlined"
			}
			term.Fprintf(w, "  #%-3d %-*s  %s\n", i, width, at, placeText(f, p))
		}
	}
}

// placeText is the function of a frame, with its line and its object.
func placeText(f *shownFrame, p stacks.Place) string {
	text := p.Function
	switch {
	case text == "" && p.Module != "":
		text = fmt.Sprintf("%s+%#x", path.Base(p.Module), uint64(p.Addr))
	case text == "":
		text = "?"
	case p.Offset > 0:
		text += fmt.Sprintf("+%#x", p.Offset)
	}
	if p.File != "" {
		text += fmt.Sprintf(" at %s:%d", p.File, p.Line)
	}
	if p.Module != "" && p.Function != "" && !p.Inlined {
		text += " (" + path.Base(p.Module) + ")"
	}
	if f.Signal {
		text += ", called by a signal"
	}
	return text
}

// stopText says why there are no more frames.
func (s *stackSum) stopText(stop *stacks.StopError) string {
	if stop.Reason == stacks.Limit && stop.Err == nil && s.o.limit > 0 {
		return fmt.Sprintf("more than %s: --limit 0 prints all", count(s.o.limit, "frame"))
	}
	return "ends here: " + stop.Error()
}
