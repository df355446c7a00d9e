// Package background runs work on threads that give way to all others: a copy of a process must
// not take the processor from the process. If nothing is left for such threads, they insist on
// about a tenth of it, since the work must come to an end.
package background

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// starved is how long a piece of work, which takes some milliseconds, may take before its
// thread counts as starved.
const starved = 100 * time.Millisecond

// Thread is an OS thread for pieces of work. It is not safe for concurrent use.
type Thread struct {
	calls   chan func()
	insists bool
}

// New starts a thread. Close must be called.
func New() *Thread {
	t := &Thread{}
	t.start(unix.SchedAttr{Policy: unix.SCHED_IDLE})
	return t
}

// start has the calls served by a new OS thread, since only a privileged one could change to a
// higher priority.
func (t *Thread) start(attr unix.SchedAttr) {
	calls := make(chan func())
	t.calls = calls
	go func() {
		runtime.LockOSThread() // for good: the OS thread ends with this
		attr.Size = unix.SizeofSchedAttr
		unix.SchedSetAttr(0, &attr, 0) // without it the work is done as well
		for f := range calls {
			f()
		}
	}()
}

// Do runs f on the thread, and waits for it.
func (t *Thread) Do(f func()) {
	began := time.Now()
	done := make(chan struct{})
	t.calls <- func() {
		defer close(done)
		f()
	}
	<-done
	if !t.insists && time.Since(began) > starved {
		t.insists = true
		close(t.calls)
		t.start(unix.SchedAttr{Policy: unix.SCHED_BATCH, Nice: 10})
	}
}

// Close ends the thread. Do must not be called afterwards.
func (t *Thread) Close() { close(t.calls) }
