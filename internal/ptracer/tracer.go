package ptracer

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

// How long a thread may take to stop: as long as the scheduler does. One that
// waits in the kernel without being interruptible is not waited for (asleep.go).
const (
	Patience  = 10 * time.Second
	seizeTime = 10 * time.Millisecond // more than it takes to attach
)

// tracer is the one owner of all that is attached to. It is an OS thread of
// its own, as ptrace belongs to a thread: when that ends, in whatever way,
// the kernel lets everything go that it held.
type Tracer struct {
	p       *process.Process
	calls   chan func()
	quit    chan struct{} // closed by release
	end     sync.Once
	done    chan struct{} // closed when the OS thread has nothing more to do
	threads map[int]*traced
	tids    []int // of threads, in the order in which they were found
	tid     int   // of the tracing thread
	exec    bool  // ids of threads may have changed hands
	regs    regReader
	early   map[int]Taken // threads that sleep, and were stopped before the pause
	began   time.Time     // when the first of the others was asked to stop
	pause   time.Duration
	calm    func()       // ends the urgency of the pause
	alarm   *sys.Alarm   // bounds Await; nil before Bound
	Known   map[int]bool // threads that need no looking at, but for their registers; nil: none does
	sharing bool         // the processes that share the memory are held, too
	sharers sharers
	unheld  []string // which of them were not
}

type traced struct {
	asked   bool // to stop
	refused bool // it has not, in its time, and is not waited for
	stopped bool
	signal  int              // to be delivered when the thread goes on
	asleep  *asleep          // nil where it was not seen in state D
	call    *process.Syscall // that it was in when it was given up, nil where that is not known
}

// New returns a tracer of a process, with nothing attached to.
func New(p *process.Process) *Tracer {
	t := &Tracer{p: p, calls: make(chan func()), quit: make(chan struct{}), done: make(chan struct{}), threads: make(map[int]*traced)}
	go t.serve()
	return t
}

func (t *Tracer) serve() {
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
	t.tid = unix.Gettid()
	privilege.RaiseThread()
	defer close(t.done)
	defer func() {
		if t.alarm != nil {
			t.alarm.Close()
		}
	}()
	for {
		select {
		case f := <-t.calls:
			f()
		case <-t.quit:
			return
		}
	}
}

// Do runs f on the tracing thread, and nothing after the release.
func (t *Tracer) Do(f func()) {
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

// Begin has the tracing thread run f, and does not wait for it.
func (t *Tracer) Begin(f func()) {
	select {
	case t.calls <- f:
	case <-t.done:
	}
}

// LetGo lets every thread go on.
func (t *Tracer) LetGo() { t.Do(t.LetAllGo) }

// LetAllGo is LetGo on the tracing thread.
func (t *Tracer) LetAllGo() {
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
	t.letSharersGo()
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

// LetGoLate is LetGo for the threads that have not stopped yet, as long as
// there are any and ctx lasts. Only a tracing thread that lives on needs it.
func (t *Tracer) LetGoLate(ctx context.Context) {
	for left := true; left && ctx.Err() == nil; time.Sleep(time.Millisecond) {
		t.Do(func() {
			for _, tid := range slices.Clone(t.tids) {
				t.look(tid, t.threads[tid])
			}
		})
		t.LetGo()
		t.Do(func() { left = len(t.tids) > 0 })
	}
}

// Release lets every thread go on and ends the tracing thread. It may be
// called again.
func (t *Tracer) Release() {
	t.LetGo()
	// The kernel detaches those that did not stop when the thread ends.
	t.end.Do(func() { close(t.quit) })
	<-t.done
	if len(t.tids) > 0 {
		t.awaitEnd()
	}
}

// endPatience bounds how long the end of an OS thread may take on a busy machine.
const endPatience = time.Second

// awaitEnd waits until the tracing thread has ended, and with it what it has attached
// to: nothing else could attach before.
func (t *Tracer) awaitEnd() {
	for began := time.Now(); time.Since(began) < endPatience; sys.Nap(50 * time.Microsecond) {
		if unix.Tgkill(unix.Getpid(), t.tid, 0) == unix.ESRCH {
			return
		}
	}
}

// Forget drops a thread that has exited.
func (t *Tracer) Forget(tid int) {
	delete(t.threads, tid)
	t.tids = slices.DeleteFunc(t.tids, func(other int) bool { return other == tid })
}

// Held reports whether a thread has stopped and not been let go.
func (t *Tracer) Held(tid int) bool { return t.threads[tid] != nil && t.threads[tid].stopped }

// Stop seizes all threads, then asks them to stop and waits until they have.
// Attaching alone holds nobody, so the time that it takes with thousands of
// threads is no pause. Threads that are born meanwhile are found by looking
// again until there are no others. That a look finds nothing new does not
// suffice: the kernel ends the list of threads where it comes to one that
// exits at that moment.
func (t *Tracer) Stop(ctx context.Context) (err error) {
	t.Do(func() { err = t.StopAll(ctx) })
	return err
}

// StopAll is Stop on the tracing thread.
func (t *Tracer) StopAll(ctx context.Context) error {
	if err := t.SeizeNew(); err != nil {
		return err
	}
	t.unheld = nil
	t.findSharers()
	if err := t.stopQuiet(ctx); err != nil {
		return err
	}
	t.calm = sys.Urgent() // until the pause is over
	t.began = time.Now()
	for pass := time.Duration(1); ; pass++ {
		t.stopSharers(ctx)
		asked := t.Interrupt()
		if err := t.Wait(ctx); err != nil {
			return err
		}
		if t.verify() && t.all() {
			if t.reconsider() && time.Since(t.began) < Patience {
				continue
			}
			if t.awaitSharers(); !t.findNewSharers() {
				break
			}
			continue
		}
		if asked == 0 {
			if time.Since(t.began) > Patience {
				return fmt.Errorf("stop process %d: threads start and end faster than they can be stopped", t.p.PID())
			}
			sys.Nap(min(pass*20*time.Microsecond, time.Millisecond)) // for those that are about to exit
		}
		if err := t.SeizeNew(); err != nil {
			return err
		}
	}
	if len(t.threads) == 0 {
		return fmt.Errorf("stop process %d: %w", t.p.PID(), procmem.ErrGone)
	}
	return nil
}

// verify looks again at all threads where an exec may have given the id of one
// that has stopped to one that has not, and reports whether all is as it was.
func (t *Tracer) verify() bool {
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
func (t *Tracer) all() bool {
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

// Interrupt asks the threads that have not been asked yet to stop.
func (t *Tracer) Interrupt() (asked int) {
	for _, tid := range t.tids {
		if th := t.threads[tid]; !th.asked {
			th.asked = true
			sys.Interrupt(tid) // ESRCH: it has exited, which wait finds out
			asked++
		}
	}
	return asked
}

// Wait waits until all threads that are attached to have stopped, or have
// shown that they will not.
func (t *Tracer) Wait(ctx context.Context) error {
	pending := make(map[int]*traced)
	for tid, th := range t.threads {
		if th.asked && !th.stopped && !th.refused {
			pending[tid] = th
		}
	}
	began := time.Now()
	pause, next := 20*time.Microsecond, firstInquiry
	for len(pending) > 0 {
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
		if waited > Patience {
			for tid, th := range pending {
				t.giveUp(tid, th)
			}
			return nil
		}
		// To look at many takes its time, in which they may have stopped.
		if waited >= next && (len(pending) <= fewPending || waited > 5*time.Millisecond) {
			t.inquire(pending)
			next = time.Since(began) + max(firstInquiry, waited/4)
		}
		sys.Nap(min(pause, max(next-time.Since(began), pause/4)))
		pause = min(pause*2, 5*time.Millisecond)
	}
	return nil
}

// Bound prepares for WaitStop and Await, so that neither blocks for ever.
func (t *Tracer) Bound() (err error) {
	t.Do(func() {
		if t.alarm == nil {
			t.alarm, err = sys.NewAlarm()
		}
	})
	return err
}

// Await waits until a task that is going on stops or ends, on the tracing
// thread. Every now and then it asks patience, an error of which ends that.
func (t *Tracer) Await(tid int, patience func() error) (unix.WaitStatus, error) {
	if t.alarm == nil {
		return poll(tid, patience)
	}
	t.alarm.Start(awaitPeriod)
	defer t.alarm.Stop()
	for {
		status, ok, err := sys.Await(tid)
		if ok || errors.Is(err, unix.ECHILD) {
			return status, err
		}
		if err != nil {
			sys.Nap(time.Millisecond) // nothing that is known; it may pass
		}
		if err := patience(); err != nil {
			return 0, err
		}
	}
}

// poll is Await without an alarm.
func poll(tid int, patience func() error) (unix.WaitStatus, error) {
	for asked := time.Now(); ; sys.Nap(50 * time.Microsecond) {
		status, ok, err := sys.Wait(tid)
		if ok || errors.Is(err, unix.ECHILD) {
			return status, err
		}
		if time.Since(asked) < awaitPeriod {
			continue
		}
		if err := patience(); err != nil {
			return 0, err
		}
		asked = time.Now()
	}
}

// awaitPeriod is long for a system call, and short for a person.
const awaitPeriod = 20 * time.Millisecond

// errLate reports that there was no stop in time.
var errLate = errors.New("no stop in time")

// WaitStop waits for a thread that is going on to its next stop, for a while, or
// until a control group has frozen it: ok is false where there was none. An error tells that the thread is gone.
func (t *Tracer) WaitStop(tid int, most time.Duration) (status unix.WaitStatus, ok bool, err error) {
	began := time.Now()
	status, err = t.Await(tid, func() error {
		if st, err := t.p.ThreadStat(tid); err != nil || st.Zombie() {
			return unix.ESRCH
		}
		if time.Since(began) > most || t.p.ThreadFrozen(tid) {
			return errLate
		}
		// Where the process is killed the news of the leader does not come
		// before that of the others has been taken.
		for _, other := range t.tids {
			if other != tid {
				sys.Wait(other) // what it was, look finds out later
			}
		}
		return nil
	})
	if errors.Is(err, errLate) {
		return 0, false, nil
	}
	return status, err == nil, err
}

// inquire finds out what waiting does not tell about the threads that have not
// stopped yet.
func (t *Tracer) inquire(pending map[int]*traced) {
	// A thread in exec waits until the others, which it has killed, are
	// reaped; some of those are ours, and have stopped already.
	for tid, th := range t.threads {
		t.look(tid, th)
	}
	asleep := 0
	for tid, th := range pending {
		st, err := t.p.ThreadStat(tid)
		switch {
		case err != nil || st.Zombie() && tid == t.p.PID():
			// A leader that has exited says nothing while others live. Any
			// other thread that has is reaped as the next look finds it.
			delete(pending, tid)
			t.Forget(tid)
		case t.sleeps(tid, th, st):
			asleep++
		default:
			// An exec may have given the id to a thread that was not asked.
			sys.Interrupt(tid)
		}
	}
	if asleep < len(pending) {
		return // what those wait for may be a lock that one of the others has
	}
	for tid, th := range pending {
		t.giveUp(tid, th)
	}
	clear(pending)
}

// reconsider finds threads that were given up and have gone on since: they waited for
// one that has stopped by now. It reports whether there are any, which are waited for.
func (t *Tracer) reconsider() (found bool) {
	for _, tid := range slices.Clone(t.tids) {
		th := t.threads[tid]
		if !th.refused || th.stopped || t.look(tid, th) {
			continue
		}
		if st, err := t.p.ThreadStat(tid); err != nil || t.sleeps(tid, th, st) {
			continue
		}
		th.refused, th.call, found = false, nil, true
	}
	return found
}

// look takes the news of a thread, and reports whether it needs no more
// waiting for.
func (t *Tracer) look(tid int, th *traced) bool {
	status, ok, err := sys.Wait(tid)
	switch {
	case errors.Is(err, unix.ECHILD):
		t.exec = true // or reaped while another was attached to
		t.Forget(tid)
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
	t.Forget(tid) // it has exited
	return true
}

// Process returns the process that the tracer is for.
func (t *Tracer) Process() *process.Process { return t.p }

// Threads returns the ids of the threads that are attached to, in the order
// in which they were found. Only the tracing thread may call it.
func (t *Tracer) Threads() []int { return t.tids }

// Signal returns the signal that a held thread will be given when it goes on,
// or 0.
func (t *Tracer) Signal(tid int) int { return t.threads[tid].signal }

// SetSignal sets it.
func (t *Tracer) SetSignal(tid, signal int) { t.threads[tid].signal = signal }

// Pause returns for how long the process has been held so far.
func (t *Tracer) Pause() time.Duration { return t.pause }

// Regset returns a register set of a held thread, or nil where it has none.
func (t *Tracer) Regset(tid int, typ uint32) []byte { return t.regs.get(tid, typ) }
