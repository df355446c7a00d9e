package main

import (
	"cmp"
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/target"
)

func newStacks(g *globals) *cobra.Command {
	var o stacksFlags
	cmd := g.addJSON(&cobra.Command{
		Use:   "stacks TARGET",
		Short: "Tell what every thread is doing: system call, functions, lines",
		Long: `Tell what every thread of a process or a core is doing: its state, the system
call that it is in, and the functions that have yet to return, with lines where
debug information is at hand. Identical stacks are printed once.

A process is held for about a millisecond, for registers and stacks to be
copied; the rest is done afterwards. What the pause was is printed on stderr.

With --every, many moments are added up: a picture of where time goes, waiting
included. Each moment interrupts blocked system calls. Nearly all go on; those
of the epoll_wait(2) kind return EINTR (signal(7)), which a program has to
expect. How many could have is printed.

Debug information is looked for in the files of the target, in
/usr/lib/debug, and on the servers that DEBUGINFOD_URLS names.`,
		Example: "  procmem stacks 1234\n  procmem stacks core.1234 --each\n" +
			"  procmem stacks 1234 --every 100ms -n 50 --fold | flamegraph.pl > time.svg",
		Args: oneList,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd, g); err != nil {
				return err
			}
			return undoing(func(ctx context.Context) error { return o.run(ctx, g, args[0]) })
		},
	})
	fl := cmd.Flags()
	fl.BoolVar(&o.each, "each", false, "print each thread by itself, even where stacks are identical")
	fl.IntSliceVar(&o.tids, "thread", nil, "only the thread `TID`; may be repeated")
	fl.IntVar(&o.limit, "limit", usualFrames, "at most N frames of a stack; 0 means all, which --fold and --pprof print anyway")
	fl.BoolVar(&o.fold, "fold", false, "print folded stacks, for flame graphs: functions from the outermost, and how often")
	fl.StringVar(&o.pprof, "pprof", "", "write a profile to `FILE`, for go tool pprof")
	fl.DurationVar(&o.every, "every", 0, "take a moment every `TIME`, such as 100ms, and add them up")
	fl.IntVarP(&o.count, "count", "n", usualMoments, "with --every: how many moments")
	return cmd
}

const (
	usualFrames  = 256
	usualMoments = 50
)

// check refuses what makes no sense.
func (o *stacksFlags) check(cmd *cobra.Command, g *globals) error {
	set := cmd.Flags().Changed
	switch {
	case o.limit < 0:
		return usagef("--limit %d: want 0 or more", o.limit)
	case set("every") && o.every <= 0:
		return usagef("--every %v: want a time, such as 100ms", o.every)
	case set("count") && !set("every"):
		return usagef("--count is how many moments --every takes: give both")
	case o.count < 1:
		return usagef("--count %d: want 1 or more", o.count)
	case o.fold && g.json:
		return usagef("--fold and --json are two formats: choose one")
	case o.each && o.fold:
		return usagef("--each lists threads, which --fold has no place for")
	}
	if (o.fold || o.pprof != "") && !set("limit") {
		o.limit = 0
	}
	if !set("every") {
		o.count = 1
	}
	return nil
}

func (o *stacksFlags) run(ctx context.Context, g *globals, word string) error {
	list, err := target.ParseList(word)
	if err != nil {
		return err
	}
	switch {
	case list.All:
		return usagef("all processes are not stopped for this: name those that are meant")
	case list.Several() && o.pprof != "":
		return usagef("--pprof takes one TARGET: a profile is of one process")
	}
	heads := headings{on: list.Several() && !g.json && !o.fold}
	return eachTarget(list, usual, openTarget, func(t *target.Target) error {
		if t.Process != nil && isSelf(t.Process.PID()) {
			return usagef("procmem cannot hold itself still")
		}
		sum, err := o.take(ctx, t)
		if err != nil {
			return onTarget(t, err)
		}
		defer sum.close()
		heads.next(whoseOf(t))
		if err := o.print(ctx, g, sum); err != nil {
			return err
		}
		return orCutOff(context.Cause(ctx), t)
	})
}

// take returns the stacks of a target, of one moment or of several.
func (o *stacksFlags) take(ctx context.Context, t *target.Target) (*stackSum, error) {
	sum := newStackSum(o, t)
	add := sum.addProcess
	if t.Core != nil {
		add = sum.addCore
	}
	if err := add(ctx); err != nil {
		sum.close()
		return nil, err
	}
	return sum, nil
}

// reportStacks prints the stacks of a core beside what else is told of it.
func reportStacks(ctx context.Context, g *globals, t *target.Target) error {
	o := &stacksFlags{limit: usualFrames, count: 1}
	sum, err := o.take(ctx, t)
	if err != nil {
		return err
	}
	defer sum.close()
	if !g.json {
		term.Fprintf(os.Stdout, "\n")
	}
	return o.print(ctx, g, sum)
}

// print prints what was taken, in the format that was asked for.
func (o *stacksFlags) print(ctx context.Context, g *globals, sum *stackSum) error {
	// What was gathered until Control-C is worth printing.
	sum.finish(context.WithoutCancel(ctx))
	sum.tell()
	if o.pprof != "" {
		if err := writePprof(o.pprof, sum); err != nil {
			return err
		}
	}
	switch {
	case g.json:
		return printJSON(stacksJSON(sum))
	case o.fold:
		return stdoutError(printFolded(os.Stdout, sum))
	case o.pprof != "":
		return nil
	}
	return stdoutError(printStacks(os.Stdout, sum))
}

// tell prints what the process has been through.
func (s *stackSum) tell() {
	if s.target.Core != nil {
		return
	}
	text := "held for " + duration(milliseconds(s.pause.longest))
	if s.moments > 1 {
		text = count(s.moments, "moment") + ", " + text + " at most and " + duration(milliseconds(s.pause.total)) + " in all"
	}
	if s.quiet > s.pause.longest {
		text += "; threads that slept for up to " + duration(milliseconds(s.quiet))
	}
	notice("process %d: %s", s.target.Process.PID(), text)
	if s.interrupted > 0 {
		notice("process %d: %s that may have returned EINTR, such as %s (procmem stacks --help)",
			s.target.Process.PID(), count(s.interrupted, "system call"), cmp.Or(s.interruptedIn, "epoll_wait"))
	}
	if s.late != nil {
		term.Fprintf(os.Stderr, "procmem: %v\n", s.late)
	}
}
