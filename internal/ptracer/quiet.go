package ptracer

import (
	"context"
	"slices"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/sys"
)

// Most of thousands of threads sleep. To stop and let go all of them takes a tenth of a second.
// While they wake up to be stopped, they take the processors from those that work. So the quiet
// ones are stopped first, a few at a time, and let go last: the pause is that of the others.

const (
	Crowd = 64 // number of threads up to which all are stopped at once
	// batch is how many quiet threads are stopped, or let go, at a time. On a busy machine each
	// batch waits for a processor, so there are no more than maxBatches of them.
	batch      = 32
	maxBatches = 256
)

// batchOf returns how many of n quiet threads are stopped, or let go, at a time.
func batchOf(n int) int { return max(batch, n/maxBatches) }

// runs returns how often each thread has been given a processor. It returns nil if there is no
// crowd.
func (t *Tracer) runs() map[int]uint64 {
	if len(t.tids) <= Crowd {
		return nil
	}
	out := make(map[int]uint64, len(t.tids))
	for _, tid := range t.tids {
		if n, err := t.p.ThreadRuns(tid); err == nil {
			out[tid] = n
		}
	}
	return out
}

// stopQuiet stops the threads that have not run for quietTime, and reads their registers.
func (t *Tracer) stopQuiet(ctx context.Context) error {
	before := t.runs()
	if before == nil {
		return nil
	}
	sys.Nap(quietTime)
	after := t.runs()
	var quiet []int
	for _, tid := range t.tids {
		if n, ok := before[tid]; ok && n == after[tid] {
			quiet = append(quiet, tid)
		}
	}
	arch, err := t.p.Arch()
	if err != nil {
		return err
	}
	t.early = make(map[int]Taken, len(quiet))
	t.quiet.began = time.Now()
	for tids := range slices.Chunk(quiet, batchOf(len(quiet))) {
		asked := make(map[int]*traced, len(tids))
		for _, tid := range tids {
			if th := t.threads[tid]; th != nil { // the thread has not exited since
				th.asked = true
				t.interrupt(tid)
				asked[tid] = th
			}
		}
		if err := t.await(ctx, asked); err != nil {
			return err
		}
		t.takeQuiet(tids, arch)
	}
	return nil
}

// takeQuiet reads the registers of quiet threads that were asked to stop.
func (t *Tracer) takeQuiet(tids []int, arch procmem.Arch) {
	taken := make([]Taken, 0, len(tids))
	for _, tid := range tids {
		if t.threads[tid] != nil && t.Held(tid) {
			th := t.TakeOne(tid, arch)
			t.early[tid] = th
			taken = append(taken, th)
		}
	}
	if t.OnQuiet != nil {
		t.OnQuiet(taken)
	}
}

// quiet is for how long quiet threads were held.
type quiet struct {
	began time.Time // when the first was asked to stop
	held  time.Duration
}

// QuietPause returns for how long quiet threads have been held so far, before, in and after the
// pause: 0 where there was no crowd.
func (t *Tracer) QuietPause() time.Duration { return t.quiet.held }

// quietTime is how long a thread must not have run to be a quiet one.
const quietTime = 10 * time.Millisecond

// letQuietGo lets the threads go on that were stopped early.
func (t *Tracer) letQuietGo() {
	defer func() {
		if !t.quiet.began.IsZero() {
			t.quiet.held += time.Since(t.quiet.began)
			t.quiet.began = time.Time{}
		}
	}()
	n, size := 0, batchOf(len(t.early))
	for _, tid := range t.tids {
		if th := t.threads[tid]; t.isEarly(tid) && th.stopped {
			t.detach(tid, th)
			if n++; n%size == 0 {
				sys.Nap(100 * time.Microsecond) // for the threads that work
			}
		}
	}
}

func (t *Tracer) isEarly(tid int) bool {
	_, ok := t.early[tid]
	return ok
}
