package snapshot

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// How long a thread may take to stop. An interruptible one takes as long as
// the scheduler does; one that waits in the kernel without being
// interruptible cannot be waited for.
const (
	patience       = 10 * time.Second
	patienceAsleep = 500 * time.Millisecond
	seizeTime      = 10 * time.Millisecond // more than it takes to attach
)

// tracer is the one owner of all that is attached to. It is an OS thread of
// its own, as ptrace belongs to a thread: when that ends, in whatever way,
// the kernel lets everything go that it held.
type tracer struct {
	p       *process.Process
	calls   chan func()
	quit    chan struct{} // closed by release
	end     sync.Once
	done    chan struct{} // closed when the OS thread has nothing more to do
	threads map[int]*traced
	tids    []int // of threads, in the order in which they were found
	exec    bool  // ids of threads may have changed hands
	regs    regReader
	early   map[int]taken // threads that sleep, and were stopped before the pause
	began   time.Time     // when the first of the others was asked to stop
	pause   time.Duration
	calm    func()       // ends the urgency of the pause
	known   map[int]bool // threads that need no looking at, but for their registers; nil: none does
}

type traced struct {
	asked   bool // to stop
	refused bool // it has not, in its time
	stopped bool
	signal  int // to be delivered when the thread goes on
}

func newTracer(p *process.Process) *tracer {
	t := &tracer{p: p, calls: make(chan func()), quit: make(chan struct{}), done: make(chan struct{}), threads: make(map[int]*traced)}
	go t.serve()
	return t
}

func (t *tracer) serve() {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The runtime keeps the first thread of a process for ever: take
		// another one, which this one stays locked for.
		go t.serve()
		<-t.done
		runtime.UnlockOSThread()
		return
	}
	// Never unlocked: the end of the goroutine ends the OS thread.
	privilege.RaiseThread()
	defer close(t.done)
	for {
		select {
		case f := <-t.calls:
			f()
		case <-t.quit:
			return
		}
	}
}

// do runs f on the tracing thread, and nothing after the release.
func (t *tracer) do(f func()) {
	ran := make(chan struct{})
	call := func() {
		defer close(ran)
		f()
	}
	select {
	case t.calls <- call:
		<-ran
	case <-t.done:
	}
}

// begin has the tracing thread run f, and does not wait for it.
func (t *tracer) begin(f func()) {
	select {
	case t.calls <- f:
	case <-t.done:
	}
}

// letGo lets every thread go on.
func (t *tracer) letGo() { t.do(t.letAllGo) }

// letAllGo is letGo on the tracing thread.
func (t *tracer) letAllGo() {
	// Who was stopped first goes on first, but for those that sleep.
	for _, tid := range t.tids {
		if th := t.threads[tid]; th.stopped && !t.isEarly(tid) {
			sys.Detach(tid, th.signal) // ESRCH: it was killed
		}
	}
	if !t.began.IsZero() {
		t.pause += time.Since(t.began)
		t.began = time.Time{}
		t.calm()
	}
	t.letQuietGo()
	t.early = nil
	t.tids = slices.DeleteFunc(t.tids, func(tid int) bool {
		gone := t.threads[tid].stopped
		if gone {
			delete(t.threads, tid)
		}
		return gone
	})
}

// letGoLate is letGo for the threads that have not stopped yet, as long as
// there are any and ctx lasts. Only a tracing thread that lives on needs it.
func (t *tracer) letGoLate(ctx context.Context) {
	for left := true; left && ctx.Err() == nil; time.Sleep(time.Millisecond) {
		t.do(func() {
			for _, tid := range slices.Clone(t.tids) {
				t.look(tid, t.threads[tid])
			}
		})
		t.letGo()
		t.do(func() { left = len(t.tids) > 0 })
	}
}

// release lets every thread go on and ends the tracing thread. It may be
// called again.
func (t *tracer) release() {
	t.letGo()
	// The kernel detaches those that did not stop when the thread ends.
	t.end.Do(func() { close(t.quit) })
	<-t.done
}

// forget drops a thread that has exited.
func (t *tracer) forget(tid int) {
	delete(t.threads, tid)
	t.tids = slices.DeleteFunc(t.tids, func(other int) bool { return other == tid })
}

func (t *tracer) held(tid int) bool { return t.threads[tid] != nil && t.threads[tid].stopped }

// stop seizes all threads, then asks them to stop and waits until they have.
// Attaching alone holds nobody, so the time that it takes with thousands of
// threads is no pause. Threads that are born meanwhile are found by looking
// again until there are no others. That a look finds nothing new does not
// suffice: the kernel ends the list of threads where it comes to one that
// exits at that moment.
func (t *tracer) stop(ctx context.Context) (err error) {
	t.do(func() { err = t.stopAll(ctx) })
	return err
}

// stopAll is stop on the tracing thread.
func (t *tracer) stopAll(ctx context.Context) error {
	if err := t.seizeNew(); err != nil {
		return err
	}
	if err := t.stopQuiet(ctx); err != nil {
		return err
	}
	t.calm = sys.Urgent() // until the pause is over
	t.began = time.Now()
	for pass := time.Duration(1); ; pass++ {
		asked := t.interrupt()
		if err := t.wait(ctx); err != nil {
			return err
		}
		if t.verify() && t.all() {
			break
		}
		if asked == 0 {
			if time.Since(t.began) > patience {
				return fmt.Errorf("stop process %d: threads start and end faster than they can be stopped", t.p.PID())
			}
			nap(min(pass*20*time.Microsecond, time.Millisecond)) // for those that are about to exit
		}
		if err := t.seizeNew(); err != nil {
			return err
		}
	}
	if len(t.threads) == 0 {
		return fmt.Errorf("stop process %d: %w", t.p.PID(), procmem.ErrGone)
	}
	return nil
}

// nap is time.Sleep for threads that are locked: the runtime's timers would
// come later.
func nap(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	unix.Nanosleep(&ts, nil)
}

// verify looks again at all threads where an exec may have given the id of one
// that has stopped to one that has not, and reports whether all is as it was.
func (t *tracer) verify() bool {
	if !t.exec {
		return true
	}
	t.exec = false
	for tid, th := range t.threads {
		if t.look(tid, th); !th.stopped {
			th.asked = false
		}
	}
	return false
}

// all reports whether the process has no other threads than those that are
// attached to, which is quicker to ask than to list thousands of them.
func (t *tracer) all() bool {
	status, err := t.p.Status()
	if err != nil {
		return true // it is gone
	}
	known := len(t.threads)
	if t.threads[t.p.PID()] == nil && (status.State == 'Z' || status.State == 'X') {
		known++ // a leader that has exited stays until the last thread does
	}
	return status.Threads == known
}

// interrupt asks the threads that have not been asked yet to stop.
func (t *tracer) interrupt() (asked int) {
	for _, tid := range t.tids {
		if th := t.threads[tid]; !th.asked {
			th.asked = true
			sys.Interrupt(tid) // ESRCH: it has exited, which wait finds out
			asked++
		}
	}
	return asked
}

// wait waits until all threads that are attached to have stopped, or have
// shown that they will not.
func (t *tracer) wait(ctx context.Context) error {
	pending := make(map[int]*traced)
	for tid, th := range t.threads {
		if th.asked && !th.stopped && !th.refused {
			pending[tid] = th
		}
	}
	began := time.Now()
	pause := 20 * time.Microsecond
	for round := 1; len(pending) > 0; round++ {
		for tid, th := range pending {
			if t.look(tid, th) {
				delete(pending, tid)
			}
		}
		if len(pending) == 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		waited := time.Since(began)
		if waited > patience {
			for _, th := range pending {
				th.refused = true
			}
			return nil
		}
		if round%8 == 0 {
			t.inquire(pending, waited)
		}
		nap(pause)
		pause = min(pause*2, 5*time.Millisecond)
	}
	return nil
}

// waitStop waits for a thread that is going on to its next stop. Where the
// process is killed meanwhile the news of the leader does not come before
// that of the others has been taken.
func (t *tracer) waitStop(tid int) (unix.WaitStatus, error) {
	pause := 10 * time.Microsecond
	for round := 1; ; round++ {
		if status, ok, err := sys.Wait(tid); ok || err != nil {
			return status, err
		}
		if round%32 == 0 {
			if st, err := t.p.ThreadStat(tid); err != nil || st.Zombie() {
				return 0, unix.ESRCH
			}
			for _, other := range t.tids {
				if other != tid {
					sys.Wait(other) // what it was, look finds out later
				}
			}
			pause = min(2*pause, time.Millisecond)
		}
		nap(pause)
	}
}

// inquire finds out what waiting does not tell about the threads that have not
// stopped yet.
func (t *tracer) inquire(pending map[int]*traced, waited time.Duration) {
	// A thread in exec waits until the others, which it has killed, are
	// reaped; some of those are ours, and have stopped already.
	for tid, th := range t.threads {
		t.look(tid, th)
	}
	for tid, th := range pending {
		st, err := t.p.ThreadStat(tid)
		switch {
		case err != nil || st.Zombie() && tid == t.p.PID():
			// A leader that has exited says nothing while others live. Any
			// other thread that has is reaped as the next look finds it.
			delete(pending, tid)
			t.forget(tid)
		case st.State == 'D' && waited > patienceAsleep:
			delete(pending, tid)
			th.refused = true
		default:
			// An exec may have given the id to a thread that was not asked.
			sys.Interrupt(tid)
		}
	}
}

// look takes the news of a thread, and reports whether it needs no more
// waiting for.
func (t *tracer) look(tid int, th *traced) bool {
	status, ok, err := sys.Wait(tid)
	switch {
	case errors.Is(err, unix.ECHILD):
		t.exec = true // or reaped while another was attached to
		t.forget(tid)
		return true
	case !ok:
		th.stopped = false
		return false
	case status.Stopped():
		th.stopped = true
		th.signal = 0
		if event := int(status) >> 16; event != sys.EventStop {
			// A signal was about to be delivered: it will be, once.
			th.signal = int(status.StopSignal())
		}
		return true
	}
	t.forget(tid) // it has exited
	return true
}
