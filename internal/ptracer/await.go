package ptracer

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/sys"
)

// Bound prepares for WaitStop and Await, so that neither blocks for ever. It fails if there can
// be no timer.
func (t *Tracer) Bound() (err error) {
	t.Do(func() {
		if t.alarm == nil {
			t.alarm, err = sys.NewAlarm()
		}
	})
	return err
}

// Await waits until a running task stops or ends, and returns its status. It calls patience
// about every awaitPeriod, and returns its error if there is one. Only the tracing thread may
// call it.
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
			sys.Nap(time.Millisecond) // an unknown error, which may pass
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

// WaitStop waits for the next stop of a running thread and returns its status. ok is false if
// there was no stop within most, or a control group has frozen the thread. An error says that
// the thread is gone. Only the tracing thread may call it.
func (t *Tracer) WaitStop(tid int, most time.Duration) (status unix.WaitStatus, ok bool, err error) {
	began := time.Now()
	status, err = t.Await(tid, func() error {
		if st, err := t.p.ThreadStat(tid); err != nil || st.Zombie() {
			return unix.ESRCH
		}
		if time.Since(began) > most || t.p.ThreadFrozen(tid) {
			return errLate
		}
		// In a killed process the leader's news comes only after that of the others has been
		// taken.
		for _, other := range t.tids {
			if other != tid {
				sys.Wait(other) // look finds out later what it was
			}
		}
		return nil
	})
	if errors.Is(err, errLate) {
		return 0, false, nil
	}
	return status, err == nil, err
}
