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

// Patience is how long a thread may take to stop: as long as the scheduler takes. A thread in
// an uninterruptible wait of the kernel is given up earlier (asleep.go).
const (
	Patience  = 10 * time.Second
	seizeTime = 10 * time.Millisecond // more than it takes to attach
)

// Tracer owns all that is attached to of one process. It is an OS thread of its own, because
// ptrace belongs to a thread. When that thread ends, for whatever reason, the kernel releases
// all that it held.
type Tracer struct {
	p       *process.Process
	calls   chan func()
	quit    chan struct{} // closed by Release
	end     sync.Once
	done    chan struct{} // closed when the OS thread has nothing more to do
	threads map[int]*traced
	tids    []int // of threads, in the order in which they were found
	tid     int   // of the tracing thread
	exec    bool  // ids of threads may have changed hands
	regs    regReader
	early   map[int]Taken // quiet threads, which were stopped before the pause
	began   time.Time     // when the first of the others was asked to stop
	pause   time.Duration
	calm    func()       // ends the urgency of the pause
	tries   int          // attempts left for requests that fail (persist)
	alarm   *sys.Alarm   // bounds Await; nil before Bound
	Known   map[int]bool // threads looked at before the stop; Take sets Info for all others; nil: for none
	// General has the general purpose registers read alone, and what is needed to walk a stack.
	General bool
	// OnQuiet is called with quiet threads that have been stopped before the pause, some at a
	// time. It runs on the tracing thread, and may be nil.
	OnQuiet func([]Taken)
	quiet   quiet
	sharing bool // the processes that share the memory are held, too
	sharers sharers
	unheld  []string // those sharers that were not held
}

type traced struct {
	asked    bool // it was asked to stop
	refused  bool // it did not stop in time, and is not waited for
	stopped  bool
	detached bool             // it has been let go
	signal   int              // to be delivered when the thread goes on
	asleep   *asleep          // nil if it was not seen in state D
	call     *process.Syscall // the call in which it was given up; nil if that is not known
}

// New returns a tracer of a process that is attached to nothing yet. Release must be called.
func New(p *process.Process) *Tracer {
	t := &Tracer{p: p, calls: make(chan func()), quit: make(chan struct{}), done: make(chan struct{}), threads: make(map[int]*traced)}
	t.tries = persistenceForAll
	go t.serve()
	return t
}

func (t *Tracer) serve() {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The runtime keeps the first thread of a process for ever. So another thread serves,
		// and this one stays locked meanwhile.
		go t.serve()
		<-t.done
		runtime.UnlockOSThread()
		return
	}
	// The thread is never unlocked, so the end of the goroutine ends it.
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

// Do runs f on the tracing thread and waits for it. After Release it does nothing.
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

// Begin has the tracing thread run f, and does not wait for the end of f.
func (t *Tracer) Begin(f func()) {
	select {
	case t.calls <- f:
	case <-t.done:
	}
}

// LetGo lets all threads go on.
func (t *Tracer) LetGo() { t.Do(t.LetAllGo) }

// LetAllGo is LetGo on the tracing thread.
func (t *Tracer) LetAllGo() {
	t.tries = persistenceForAll // whatever it took to stop them
	// Threads go on in the order in which they were stopped, the quiet ones last.
	for _, tid := range t.tids {
		if th := t.threads[tid]; th.stopped && !t.isEarly(tid) {
			t.detach(tid, th)
		}
	}
	if !t.began.IsZero() {
		t.pause += time.Since(t.began)
		t.began = time.Time{}
		t.calm()
	}
	t.LetSharersGo()
	t.letQuietGo()
	t.early = nil
	t.tids = slices.DeleteFunc(t.tids, func(tid int) bool {
		gone := t.threads[tid].detached
		if gone {
			delete(t.threads, tid)
		}
		return gone
	})
}

// LetGoLate is LetGo for the threads that have not stopped yet. It returns when there are none
// left or ctx ends. Only a tracing thread that lives on needs it.
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

// Release lets all threads go on and ends the tracing thread. It may be called again.
func (t *Tracer) Release() {
	t.LetGo()
	// The end of the OS thread has the kernel detach the threads that did not stop.
	t.end.Do(func() { close(t.quit) })
	<-t.done
	if len(t.tids) > 0 {
		t.awaitEnd()
	}
}

// endPatience bounds how long the end of an OS thread may take on a busy machine.
const endPatience = time.Second

// awaitEnd waits until the tracing thread has ended, and with it all attachments. Nothing else
// could attach earlier.
func (t *Tracer) awaitEnd() {
	for began := time.Now(); time.Since(began) < endPatience; sys.Nap(50 * time.Microsecond) {
		if unix.Tgkill(unix.Getpid(), t.tid, 0) == unix.ESRCH {
			return
		}
	}
}

// Forget drops a thread that has exited. Only the tracing thread may call it.
func (t *Tracer) Forget(tid int) {
	delete(t.threads, tid)
	t.tids = slices.DeleteFunc(t.tids, func(other int) bool { return other == tid })
}

// Held reports whether a thread has stopped and has not been let go. Only the tracing thread
// may call it.
func (t *Tracer) Held(tid int) bool { return t.threads[tid] != nil && t.threads[tid].stopped }

// Stop holds all threads of the process. It seizes them, asks them to stop, and waits until
// they have. Attaching alone holds no thread, so the time that it takes with thousands of
// threads is no pause.
//
// Stop finds threads that are born meanwhile by looking again until there are no others. A look
// that finds nothing new does not suffice. The kernel ends the list of threads where it comes
// to one that exits at that moment.
//
// Stop fails with procmem.ErrGone if no thread is left, with the cause of ctx if that ends, and
// if a thread cannot be seized. Threads that do not stop are no failure: GivenUp returns them.
func (t *Tracer) Stop(ctx context.Context) (err error) {
	t.Do(func() { err = t.StopAll(ctx) })
	return err
}

// StopAll is Stop on the tracing thread.
func (t *Tracer) StopAll(ctx context.Context) error {
	if err := t.SeizeNew(); err != nil {
		return err
	}
	t.unheld, t.tries = nil, persistenceForAll
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
			sys.Nap(min(pass*20*time.Microsecond, time.Millisecond)) // for threads that are about to exit
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

// verify looks again at all threads after an exec, and reports whether there was none. An exec
// may have given the id of a thread that has stopped to one that has not.
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

// all reports whether the process has no other threads than those that are attached to. That is
// quicker to ask than to list thousands of threads.
func (t *Tracer) all() bool {
	status, err := t.p.Status()
	if err != nil {
		return true // the process is gone
	}
	known := len(t.threads)
	if t.threads[t.p.PID()] == nil && (status.State == 'Z' || status.State == 'X') {
		known++ // a leader that has exited stays until the last thread does
	}
	return status.Threads == known
}

// Interrupt asks the threads to stop that have not been asked yet, and returns their number.
// Only the tracing thread may call it.
func (t *Tracer) Interrupt() (asked int) {
	for _, tid := range t.tids {
		if th := t.threads[tid]; !th.asked {
			th.asked = true
			t.interrupt(tid)
			asked++
		}
	}
	return asked
}

// Wait waits until all threads that were asked to stop have stopped, exited, or been given up.
// It fails only with the cause of ctx. Only the tracing thread may call it.
func (t *Tracer) Wait(ctx context.Context) error {
	pending := make(map[int]*traced)
	for tid, th := range t.threads {
		if th.asked && !th.stopped && !th.refused {
			pending[tid] = th
		}
	}
	return t.await(ctx, pending)
}

// await is Wait for some of the threads.
func (t *Tracer) await(ctx context.Context, pending map[int]*traced) error {
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
		// Looking at many threads takes its time, in which they may have stopped.
		if waited >= next && (len(pending) <= maxEarlyInquiries || waited > 5*time.Millisecond) {
			t.inquire(pending)
			next = time.Since(began) + max(firstInquiry, waited/4)
		}
		sys.Nap(min(pause, max(next-time.Since(began), pause/4)))
		pause = min(pause*2, 5*time.Millisecond)
	}
	return nil
}

// inquire finds out what waiting does not tell about the threads that have not stopped yet.
func (t *Tracer) inquire(pending map[int]*traced) {
	// A thread in exec waits until the threads that it has killed are reaped. Some of them are
	// traced by us, and have stopped already.
	for tid, th := range t.threads {
		t.look(tid, th)
	}
	asleep := 0
	for tid, th := range pending {
		st, err := t.p.ThreadStat(tid)
		switch {
		case err != nil || st.Zombie() && tid == t.p.PID():
			// A leader that has exited sends no news while others live. Any other thread that
			// has exited is reaped as the next look finds it.
			delete(pending, tid)
			t.Forget(tid)
		case t.sleeps(tid, th, st):
			asleep++
		default:
			// An exec may have given the id to a thread that was not asked to stop.
			t.interrupt(tid)
		}
	}
	if asleep < len(pending) {
		return // those may wait for a lock that one of the others has
	}
	for tid, th := range pending {
		t.giveUp(tid, th)
	}
	clear(pending)
}

// reconsider finds threads that were given up and have gone on since, such as those that waited
// for a thread that has stopped by now. It reports whether there are any. They are waited for
// again.
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

// look takes the news of a thread, and reports whether it needs no more waiting for.
func (t *Tracer) look(tid int, th *traced) bool {
	status, ok, err := sys.Wait(tid)
	switch {
	case errors.Is(err, unix.ECHILD):
		t.exec = true // or it was reaped while another thread was attached to
		t.Forget(tid)
		return true
	case !ok:
		th.stopped = false
		return false
	case status.Stopped():
		th.stopped = true
		th.signal = 0
		if event := int(status) >> 16; event != sys.EventStop {
			// A signal was about to be delivered. It will be delivered once.
			th.signal = int(status.StopSignal())
		}
		return true
	}
	t.Forget(tid) // the thread has exited
	return true
}

// Process returns the process that the tracer is for.
func (t *Tracer) Process() *process.Process { return t.p }

// Threads returns the ids of the threads that are attached to, in the order in which they were
// found. Only the tracing thread may call it.
func (t *Tracer) Threads() []int { return t.tids }

// Signal returns the signal that a held thread will be given when it goes on, or 0. Only the
// tracing thread may call it.
func (t *Tracer) Signal(tid int) int { return t.threads[tid].signal }

// SetSignal sets the signal that Signal returns. Only the tracing thread may call it.
func (t *Tracer) SetSignal(tid, signal int) { t.threads[tid].signal = signal }

// Pause returns for how long the process has been held so far.
func (t *Tracer) Pause() time.Duration { return t.pause }

// Regset returns a register set of a held thread, or nil if it has none. Only the tracing
// thread may call it.
func (t *Tracer) Regset(tid int, typ uint32) []byte { return t.regs.get(tid, typ) }
