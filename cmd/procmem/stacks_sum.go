package main

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/glimpse"
	"github.com/procmem/procmem/internal/callwords"
	"github.com/procmem/procmem/snapshot"
	"github.com/procmem/procmem/stacks"
	"github.com/procmem/procmem/target"
)

// stacksFlags are the flags of stacks.
type stacksFlags struct {
	each  bool
	tids  []int
	limit int
	fold  bool
	pprof string
	every time.Duration
	count int
}

// shownFrame is a frame of a stack as it is printed. It is a native one, whose places are found
// in the end, or one of a runtime, whose place is known.
type shownFrame struct {
	stacks.Frame
	runtime bool
	places  []stacks.Place
}

// shownThread is a thread that was seen on a stack.
type shownThread struct {
	tid         int
	name, state string
	call, wait  string // of the last moment; "" for none
	err         error  // why its registers are not whole
	samples     int    // moments in which it was on the stack
}

// stackGroup is a stack with the threads that were seen on it.
type stackGroup struct {
	frames  []shownFrame
	stop    *stacks.StopError
	threads []shownThread // ascending
	at      map[int]int   // index in threads, by id
	samples int
}

// expander turns the native frames of a thread into those that are printed. A runtime puts its
// own frames in their place.
type expander func(ctx context.Context, th *procmem.Thread, s stacks.Stack) []shownFrame

func nativeFrames(_ context.Context, _ *procmem.Thread, s stacks.Stack) []shownFrame {
	out := make([]shownFrame, len(s.Frames))
	for i, f := range s.Frames {
		out[i].Frame = f
	}
	return out
}

// stackSum adds up the stacks of the moments of one target.
type stackSum struct {
	o      *stacksFlags
	target *target.Target
	walk   stackWalk
	expand expander

	img     *procmem.Image // of the last moment
	groups  []*stackGroup
	byKey   map[string]*stackGroup
	moments int
	first   time.Time // of the moments
	last    time.Time
	pause   pauses
	quiet   time.Duration // the longest for which threads that slept were held
	copied  uint64        // bytes, at most in one moment

	interrupted   int    // calls that may have returned EINTR
	interruptedIn string // the name of one
	late          error  // why there are fewer moments than asked for
}

// pauses are those of all moments.
type pauses struct{ total, longest time.Duration }

func newStackSum(o *stacksFlags, t *target.Target) *stackSum {
	return &stackSum{o: o, target: t, walk: stackWalk{target: t, most: o.limit}, expand: nativeFrames, byKey: map[string]*stackGroup{}}
}

// close gives back what the sum holds. Only reads went through it, so an error costs nothing.
func (s *stackSum) close() { _ = s.walk.close() }

// addCore adds the moment of a core.
func (s *stackSum) addCore(ctx context.Context) error {
	mem, done, err := s.target.Memory()
	if err != nil {
		return err
	}
	s.walk.done = done
	s.first, s.last = time.Time{}, time.Time{}
	return s.add(ctx, s.target.Core.Image(), mem)
}

// addProcess adds the moments of a process.
func (s *stackSum) addProcess(ctx context.Context) error {
	t, err := glimpse.New(s.target.Process, glimpse.Options{})
	if err != nil {
		return err
	}
	s.walk.taker = t
	next := time.Now()
	for s.moments < s.o.count {
		g, err := t.Take(ctx)
		if err == nil {
			s.addGlimpse(g)
			err = s.add(ctx, g.Image, g.Memory)
		}
		switch {
		case err != nil && s.moments == 0:
			return err
		case errors.Is(err, procmem.ErrGone):
			s.late = onProcess(s.target.Process, err)
			return nil
		case ctx.Err() != nil:
			return nil // what there is, is printed
		case err != nil:
			return err
		case s.moments == s.o.count:
			return nil
		}
		next = next.Add(s.o.every)
		if now := time.Now(); next.Before(now) {
			next = now // it takes longer than that
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Until(next)):
		}
	}
	return nil
}

// addGlimpse adds what a moment has cost.
func (s *stackSum) addGlimpse(g *glimpse.Glimpse) {
	if s.moments == 0 {
		s.first = g.Taken
	}
	s.last = g.Taken
	s.pause.total += g.Pause
	s.pause.longest = max(s.pause.longest, g.Pause)
	s.quiet = max(s.quiet, g.Quiet)
	s.copied = max(s.copied, g.Copied)
}

// add adds the stacks of one moment.
func (s *stackSum) add(ctx context.Context, img *procmem.Image, mem procmem.Memory) error {
	if err := s.walk.begin(img, mem, func() { s.resolve(context.WithoutCancel(ctx)) }); err != nil {
		return err
	}
	s.img = img
	files := descriptorNames(s.target)
	found := false
	for i := range img.Threads {
		th := &img.Threads[i]
		if len(s.o.tids) > 0 && !slices.Contains(s.o.tids, th.TID) {
			continue
		}
		found = true
		if ctx.Err() != nil && s.moments > 0 {
			return nil
		}
		stack := s.walk.Walk(ctx, th)
		s.addStack(s.expand(ctx, th, stack), stack.Stop, s.threadOf(th, files))
	}
	if !found && s.moments == 0 && len(s.o.tids) > 0 {
		return lackError{noThread(s.o.tids[0])}
	}
	s.moments++
	return nil
}

// threadOf returns what is printed of a thread beside its stack.
func (s *stackSum) threadOf(th *procmem.Thread, files func(int) string) shownThread {
	t := shownThread{tid: th.TID, name: th.Name, state: state(th.State), wait: th.Wait, err: th.Err}
	number, args, ok := snapshot.CallIn(s.img.Arch, th, s.wasLiveCore())
	if !ok {
		return t
	}
	c := callwords.Call{Number: number, Args: args}
	t.call = callwords.Of(s.img.Arch, c, files)
	if s.target.Core == nil && callwords.Interruptible(s.img.Arch, c) {
		s.interrupted++
		s.interruptedIn = snapshot.CallOf(s.img.Arch, th, false)
	}
	return t
}

// addStack adds the stack of one thread.
func (s *stackSum) addStack(frames []shownFrame, stop *stacks.StopError, th shownThread) {
	key := stackKey(frames, stop)
	if s.o.each {
		key += string(binary.LittleEndian.AppendUint64(nil, uint64(th.tid)))
	}
	g := s.byKey[key]
	if g == nil {
		g = &stackGroup{frames: frames, stop: stop, at: map[int]int{}}
		s.byKey[key] = g
		s.groups = append(s.groups, g)
	}
	g.samples++
	i, seen := g.at[th.tid]
	if !seen {
		i = len(g.threads)
		g.at[th.tid] = i
		g.threads = append(g.threads, th)
	}
	th.samples = g.threads[i].samples + 1
	if seen {
		g.threads[i] = th
	} else {
		g.threads[i].samples = 1
	}
}

// stackKey is the same for stacks that are the same to a reader.
func stackKey(frames []shownFrame, stop *stacks.StopError) string {
	var b []byte
	if stop != nil {
		b = append(b, byte(stop.Reason))
	}
	for i := range frames {
		f := &frames[i]
		kind := byte(0)
		if f.Signal {
			kind = 1
		}
		b = binary.LittleEndian.AppendUint64(append(b, kind), uint64(f.PC))
		if f.runtime {
			for _, p := range f.places {
				b = append(append(append(b, p.Function...), 0), p.File...)
				b = binary.LittleEndian.AppendUint64(append(b, 0), uint64(p.Line))
			}
		}
	}
	return string(b)
}

// finish finds places, and puts the groups in order: with --each by thread, else those with the
// most samples first.
func (s *stackSum) finish(ctx context.Context) {
	s.resolve(ctx)
	for _, g := range s.groups {
		slices.SortFunc(g.threads, func(a, b shownThread) int { return cmp.Compare(a.tid, b.tid) })
	}
	if s.o.each {
		return
	}
	slices.SortStableFunc(s.groups, func(a, b *stackGroup) int {
		return cmp.Or(cmp.Compare(b.samples, a.samples), cmp.Compare(a.threads[0].tid, b.threads[0].tid))
	})
}

// resolve finds the places of all native frames that have none.
func (s *stackSum) resolve(ctx context.Context) {
	for _, g := range s.groups {
		for i := range g.frames {
			if f := &g.frames[i]; f.places == nil {
				f.places = s.walk.places(ctx, f.Frame)
			}
		}
	}
}

// wasLiveCore reports whether the threads of the target ran on when a core was taken.
func (s *stackSum) wasLiveCore() bool { return wasLive(s.target, snapshot.MethodStop) }
