package capture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/access"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/units"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/snapshot"
)

// Result describes a core that was taken. The core contains the report, too, without values
// that are known only after its end.
type Result struct {
	*core.Report
	Image *procmem.Image // what the core tells of the process
}

// job is one call of this package.
type job struct {
	p       *process.Process
	o       Options
	filter  core.Filter
	all     bool // all memory is wanted, whatever the filter chooses
	began   time.Time
	guard   *guard
	abs     string // path of the core, absolute; "" for no file
	prepErr error  // why preparing failed, which is no error of the process
}

// plan is what a core of the process would be.
type plan struct {
	arch   procmem.Arch
	segs   []core.Segment
	length uint64 // memory in the core, in bytes, zeros included
	data   uint64 // bytes that it takes on a disk at most, but for notes, which add little
	mem    procmem.Sparse
}

// begin starts a job that writes below a folder. "" means no folder. The context is that of all
// work of the job. The job's guard must be ended.
func begin(ctx context.Context, p *process.Process, folder string, o Options) (*job, context.Context, error) {
	j := &job{p: p, o: o, began: time.Now()}
	var err error
	if j.filter, err = o.filter(p); err != nil {
		return nil, ctx, j.failed(err)
	}
	j.guard, ctx = newGuard(ctx, folder)
	return j, ctx, nil
}

// failed returns err as an error of the process, or nil.
func (j *job) failed(err error) error {
	if err == nil {
		return nil
	}
	e := &ProcessError{PID: j.p.PID(), Err: err}
	if j.p.Exists() { // its end needs no explanation
		e.why, _ = access.Explain(e.PID, err)
	}
	return e
}

// choose returns the segments of a core.
func (j *job) choose(img *procmem.Image, mem procmem.Memory) []core.Segment {
	segs := core.Select(img, mem, j.filter)
	if j.o.Only == nil {
		return segs
	}
	for i := range segs {
		s := &segs[i]
		s.Dumped = s.Dumped && slices.ContainsFunc(j.o.Only, func(r procmem.Range) bool { return !r.Intersect(s.Range).Empty() })
	}
	return segs
}

// plan returns what a core would be now.
func (j *job) plan(img *procmem.Image, mem procmem.Sparse) (*plan, error) {
	p := &plan{arch: img.Arch, segs: j.choose(img, mem), mem: mem}
	var err error
	p.length, p.data, err = core.Predict(p.segs, mem)
	return p, j.failed(err)
}

// wants returns the function that chooses the memory to be read.
func (j *job) wants() func(*procmem.Image, procmem.Memory) []procmem.Range {
	if j.all {
		return nil
	}
	return func(img *procmem.Image, mem procmem.Memory) []procmem.Range { return dumped(j.choose(img, mem)) }
}

// dumped returns the ranges whose memory the segments hold.
func dumped(segs []core.Segment) (ranges []procmem.Range) {
	for _, s := range segs {
		if s.Dumped {
			ranges = append(ranges, s.Range)
		}
	}
	return ranges
}

// moment takes a moment. prepare is called before anything is stopped, and returns the store
// for memory that is copied early, or nil for none. With spill, memory that would be read while
// the process is held is copied there, too.
func (j *job) moment(ctx context.Context, spill bool, prepare func(*plan) (snapshot.Store, error)) (*snapshot.Snapshot, error) {
	s, err := snapshot.Take(ctx, j.p, snapshot.Options{
		Method: j.o.Method, MaxPause: j.o.MaxPause, Spill: spill, OnStep: j.step, Want: j.wants(),
		Prepare: func(img *procmem.Image, mem procmem.Sparse) (store snapshot.Store, err error) {
			p, err := j.plan(img, mem)
			if err == nil {
				store, err = prepare(p)
			}
			j.prepErr = err
			return store, err
		},
	})
	if err != nil && j.prepErr != nil {
		return nil, j.prepErr
	}
	if err != nil {
		return nil, j.failed(err)
	}
	j.guard.hold(!s.Over() && s.Method != snapshot.MethodLive)
	if s.Over() || s.Method == snapshot.MethodLive {
		j.o.tell(Event{Kind: EventWriting})
	} else {
		j.o.tell(Event{Kind: EventPausedWriting})
	}
	return s, nil
}

// step passes on the steps of snapshot as events.
func (j *job) step(s snapshot.Step) {
	switch s.Kind {
	case snapshot.StepLook:
		j.o.tell(Event{Kind: EventPlanning})
	case snapshot.StepRound:
		j.o.tell(Event{Kind: EventRound, Round: s.Round})
	case snapshot.StepPause:
		j.o.tell(Event{Kind: EventPaused})
	}
}

// count announces that written counts towards total from now on.
func (j *job) count(written func() int64, total uint64) {
	j.o.tell(Event{Kind: EventCounting, Written: written, Total: int64(total)})
}

// release lets the process go on, once all of the memory has been read.
func (j *job) release(s *snapshot.Snapshot) (time.Duration, error) {
	pause, err := s.Release()
	j.guard.hold(false)
	return pause, j.failed(err)
}

// end closes a moment. A helper that has to wait for the process before it can finish does not
// make the core invalid.
func (j *job) end(s *snapshot.Snapshot) error {
	j.guard.hold(false)
	err := s.Close()
	if errors.Is(err, snapshot.ErrStays) {
		j.o.tell(Event{Kind: EventStays, Err: err})
		return nil
	}
	return j.failed(err)
}

// copy writes the core of a moment with the writer that open returns.
func (j *job) copy(ctx context.Context, s *snapshot.Snapshot, open func([]core.Segment) (*core.Writer, error)) (*Result, error) {
	w, err := open(j.choose(s.Program(), s))
	if err != nil {
		return nil, err
	}
	w.Background = s.Over()
	if err := w.Copy(ctx, s); err != nil {
		return nil, err
	}
	pause, err := j.release(s)
	if err != nil {
		return nil, err
	}
	img := s.Image()
	r := j.report(s, pause)
	return &Result{r, img}, w.Finish(img, r)
}

// report returns the report of a moment that is over.
func (j *job) report(s *snapshot.Snapshot, pause time.Duration) *core.Report {
	r := &core.Report{
		Version: j.o.Creator, Time: s.Taken(), PID: j.p.PID(), Path: j.abs, Method: string(s.Method),
		Rounds: s.Rounds, Why: s.Why,
		PauseMS: milliseconds(pause), TotalMS: milliseconds(time.Since(j.began)),
	}
	for _, t := range s.Torn {
		r.Torn = append(r.Torn, core.Torn{Range: t.Range, Bytes: t.Size(), Reason: t.Reason})
	}
	r.InconsistentReason = inconsistent(s)
	r.Consistent = r.InconsistentReason == ""
	return r
}

// inconsistent returns why not all of a moment is one, or "" if it is.
func inconsistent(s *snapshot.Snapshot) string {
	var size uint64
	for _, t := range s.Torn {
		size += t.Size()
	}
	switch {
	case s.Method == snapshot.MethodLive:
		return "the process went on running while its memory was copied"
	case len(s.Unheld) > 0:
		return strings.Join(s.Unheld, "; ")
	case size > 0:
		return fmt.Sprintf("%s in %s may be of another moment", units.Size(size), units.Count(len(s.Torn), "range"))
	}
	return ""
}

// milliseconds returns a duration in the unit of reports.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
