package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/diff"
	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/internal/units"
	"github.com/procmem/procmem/target"
)

// The exit statuses of diff, as those of diff(1).
const (
	exitSame      = 0
	exitDifferent = 1
	exitTrouble   = 2
)

// diffFlags are the flags of diff.
type diffFlags struct {
	in      []string
	after   pauseFlag
	hex     bool
	swapped bool
}

func newDiff(g *globals) *cobra.Command {
	o := &diffFlags{}
	cmd := g.addJSON(&cobra.Command{
		Use:   "diff A B",
		Short: "Tell what is different in two memories, or in one after a while",
		Long: `Compare two memories, each of a process or a core: which mappings came, went,
grew, shrank or are protected in another way, which ranges of the memory that
both have mapped differ, and where these lie in each mapping (how many of its
pages, drawn from its start to its end). Changes with less than 16 equal bytes
between are one range.

With --after there is one process, and its memory is compared with what it is
after that time. Until then it, or what --in chooses of it, waits in a file
without a name in $TMPDIR; for how long the process was held for that is told.
The second memory, as that of every process, is read while the process goes on.
How much has changed is then printed first, and what has after that.

Memory is compared by address: two processes whose addresses were laid out at
random have little in common. What was never touched equals zeros. What one of
the two cannot show, as what a core does not hold, is listed on stderr and no
difference. What is swapped out is not read without --swapped, except that
--after keeps it too.

Exit status: 0 no difference; 1 there are some; 2 trouble, which is also that
a core is cut off or damaged.`,
		Example: "  procmem diff core.before core.after\n  procmem diff core.1234 1234 --in '[heap]' --hex\n  procmem diff 1234 --after 5s",
		Args: func(cmd *cobra.Command, args []string) error {
			if o.after == 0 || len(args) == 0 {
				return exactly("A", "B")(cmd, args)
			}
			if len(args) > 1 {
				return usagef("--after compares one process with itself, and %q is a second target", args[1])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return troubled(undoing(func(ctx context.Context) error { return o.run(ctx, g, args) }))
		},
	})
	fl := cmd.Flags()
	fl.Var(&o.after, "after", "compare one process with what it is after this time, such as 5s")
	fl.StringArrayVar(&o.in, "in", nil, "compare this `RANGE` alone; may be repeated")
	fl.BoolVar(&o.hex, "hex", false, "print the bytes of both, side by side")
	fl.BoolVar(&o.swapped, "swapped", false, "read what is swapped out too")
	return cmd
}

// troubled gives an error the exit status that diff(1) has for trouble.
func troubled(err error) error {
	var status statusError
	err = stdoutError(err)
	if err == nil || errors.As(err, &status) || signalOf(err) != 0 {
		return err
	}
	complain(err)
	return statusError(exitTrouble)
}

// diffSide is one of the two memories.
type diffSide struct {
	word string // as on the command line
	mem  procmem.Sparse
	wrap func(error) error // explains an error of the memory
}

func (o *diffFlags) run(ctx context.Context, g *globals, words []string) error {
	var specs []target.Spec
	for _, w := range o.in {
		s, err := target.ParseRange(w)
		if err != nil {
			return err
		}
		specs = append(specs, s)
	}
	sides, done, err := o.open(ctx, words, specs)
	defer done()
	if err != nil {
		return err
	}
	return o.compare(ctx, g, sides, specs)
}

// open opens both memories. done must be called even with an error.
func (o *diffFlags) open(ctx context.Context, words []string, specs []target.Spec) (sides [2]diffSide, done func(), err error) {
	var undo []func()
	done = func() {
		for _, f := range slices.Backward(undo) {
			f()
		}
	}
	if o.after != 0 {
		kept, err := keepBefore(ctx, words[0], specs, time.Duration(o.after))
		if err != nil {
			return sides, done, err
		}
		undo = append(undo, func() { kept.Close() })
		sides[0] = diffSide{words[0] + " before", kept, func(err error) error { return err }}
		sides[1].word = words[0] + " after"
	}
	for i := range sides {
		if sides[i].mem != nil {
			continue
		}
		word := words[min(i, len(words)-1)]
		t, err := openTarget(word)
		if err != nil {
			return sides, done, err
		}
		undo = append(undo, func() { t.Close() })
		mem, close, err := t.Memory()
		if err != nil {
			return sides, done, err
		}
		undo = append(undo, close)
		if sides[i].word == "" {
			sides[i].word = word
		}
		sides[i].mem, sides[i].wrap = mem, func(err error) error { return onTarget(t, err) }
		tellSide(t)
	}
	return sides, done, nil
}

// tellSide prints what one should know of a memory before trusting the result.
func tellSide(t *target.Target) {
	switch {
	case t.Process != nil:
		notice("process %d goes on while it is compared: what it writes meanwhile may show", t.Process.PID())
	case t.Core.Report() == nil && len(t.Core.Truncated()) == 0:
		notice("%s was not taken by procmem: it may not tell all mappings, their names, or which are shared", t.Word)
	}
}

// compare compares the memories and prints what is different.
func (o *diffFlags) compare(ctx context.Context, g *globals, sides [2]diffSide, specs []target.Spec) error {
	var maps [2][]procmem.Mapping
	for i, s := range sides {
		ms, err := s.mem.Mappings()
		if err != nil {
			return s.wrap(err)
		}
		maps[i] = ms
	}
	in, err := resolveEither(specs, maps)
	if err != nil {
		return err
	}
	d, err := diff.New(sides[0].mem, sides[1].mem, diff.Options{In: in, Swapped: o.swapped})
	if err != nil {
		return explained(sides, err)
	}
	out := newDiffOutput(g, maps[0], o.hex)
	if text, ok := out.(*diffText); ok && o.after != 0 {
		if out, err = newDiffSummary(text); err != nil {
			return err
		}
	}
	for _, m := range d.Mappings() {
		if err := out.mapping(m); err != nil {
			return err
		}
	}
	if err := o.changes(ctx, d, sides, maps[0], out); err != nil {
		return err
	}
	s := d.Stats()
	if o.after != 0 {
		tellKept(&s)
	}
	if err := out.end(len(d.Mappings()), &s); err != nil {
		return err
	}
	return diffVerdict(sides, len(d.Mappings()), &s)
}

// changes prints what differs in the memory.
func (o *diffFlags) changes(ctx context.Context, d *diff.Diff, sides [2]diffSide, before []procmem.Mapping, out diffOutput) error {
	if o.after != 0 || !term.IsTerminal(os.Stdout) { // on a terminal, lines and a bar would get in each other's way
		p := startProgress(sides[0].word + " and " + sides[1].word)
		p.enter("comparing")
		p.count(d.Done, dataBytes(sides[0].mem, before))
		defer p.end()
	}
	changes := d.Changes(ctx)
	if !o.hex {
		changes = diff.Join(changes)
	}
	for c, err := range changes {
		if err == nil {
			err = out.change(c)
		}
		if err != nil {
			return explained(sides, err)
		}
	}
	return nil
}

// explained has an error of one of the memories explained by its process, if there is one.
func explained(sides [2]diffSide, err error) error {
	if e, ok := errors.AsType[*diff.Error](err); ok {
		return sideOf(sides, e.Side).wrap(e.Err)
	}
	return err
}

// resolveEither resolves ranges by the mappings of both memories, because what a name means may
// have grown.
func resolveEither(specs []target.Spec, maps [2][]procmem.Mapping) (in []procmem.Range, err error) {
	for _, s := range specs {
		a, errA := s.Resolve(maps[0])
		b, errB := s.Resolve(maps[1])
		if errA != nil && errB != nil {
			return nil, errA
		}
		in = append(append(in, a...), b...)
	}
	return in, nil
}

// dataBytes returns about how many bytes there are to read, or 0 where that is unknown.
func dataBytes(mem procmem.Sparse, ms []procmem.Mapping) (n int64) {
	if len(ms) == 0 || !term.IsTerminal(os.Stderr) {
		return 0
	}
	for r, err := range mem.Data(procmem.Range{Start: ms[0].Start, End: ms[len(ms)-1].End}) {
		if err != nil {
			return 0
		}
		n += int64(r.Size())
	}
	return n
}

// diffVerdict prints what was not compared, and returns the exit status.
func diffVerdict(sides [2]diffSide, mappings int, s *diff.Stats) error {
	status := exitSame
	if mappings > 0 || s.Changed > 0 {
		status = exitDifferent
	}
	for i, m := range s.Missing {
		if damaged(m.Err) {
			status = exitTrouble
		}
		if i < mostLines {
			notice("not compared %v: %s: %s (%s)", m.Range, sideOf(sides, m.Side).word, m.Err.Error(), bytesOf(m.Size()))
		}
	}
	if s.MissingRanges > mostLines {
		notice("not compared: %s more; %s in all (--json lists them)", count(int(s.MissingRanges-mostLines), "range"), units.Size(s.MissingBytes))
	}
	if s.Swapped > 0 {
		notice("not compared: %s swapped out (--swapped reads that too, which brings it back into memory)", units.Size(s.Swapped))
	}
	if status == exitSame {
		return nil
	}
	return statusError(status)
}

func sideOf(sides [2]diffSide, s diff.Side) *diffSide {
	if s == diff.A {
		return &sides[0]
	}
	return &sides[1]
}

// damaged distinguishes faults that occur only when something is wrong from faults that are
// normal.
func damaged(err error) bool {
	for _, usual := range []error{procmem.ErrNotDumped, procmem.ErrNotMapped, procmem.ErrDevice, procmem.ErrUntouched, procmem.ErrUnreadable} {
		if errors.Is(err, usual) {
			return false
		}
	}
	return true
}
