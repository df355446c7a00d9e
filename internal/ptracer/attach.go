package ptracer

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/sys"
)

// SeizeNew attaches to the threads of the process that are not attached to yet. Only the
// tracing thread may call it. It fails if one of them cannot be seized.
func (t *Tracer) SeizeNew() error {
	tids, err := t.p.Threads()
	if err != nil {
		return err
	}
	for _, tid := range tids {
		if t.threads[tid] != nil {
			continue
		}
		if err := t.Attach(tid); err != nil {
			return err
		}
	}
	return nil
}

// Attach attaches to one thread. Only the tracing thread may call it. It returns nil without
// attaching if the thread has exited or is in exec, and procmem.ErrGone if another process has
// its id.
func (t *Tracer) Attach(tid int) error {
	if err := t.p.CheckNamespace(); err != nil {
		return fmt.Errorf("stop process %d: %w", t.p.PID(), err)
	}
	for try := 1; ; try++ {
		err := t.seize(tid)
		if err == nil && t.p.HasThread(tid) {
			t.add(tid)
			return nil
		}
		if err == nil {
			status, ok, err := sys.Wait(tid)
			switch {
			case errors.Is(err, unix.ECHILD):
				t.exec = true // the thread has executed a program, and since then has the id of the leader
				return nil
			case ok && !status.Stopped():
				return nil // it has exited
			}
			// A thread of another process has the id now. The end of the tracing thread
			// releases it untouched.
			return fmt.Errorf("stop thread %d: %w", tid, procmem.ErrGone)
		}
		status, serr := t.p.ThreadStatus(tid)
		switch {
		case errors.Is(err, unix.ESRCH), serr != nil, status.State == 'Z', status.State == 'X':
			return nil
		case errors.Is(err, unix.EPERM) && status.TracerPID == unix.Gettid():
			// A thread in exec keeps its tracer when it takes over the leader's id.
			t.add(tid)
			return nil
		case errors.Is(err, unix.EPERM) && status.TracerPID == 0 && try < 3:
			// The id was that of a leader that had exited, and is now that of a thread in exec.
		default:
			return fmt.Errorf("seize thread %d: %w", tid, err)
		}
	}
}

func (t *Tracer) add(tid int) {
	t.threads[tid] = &traced{}
	t.tids = append(t.tids, tid)
}

// seize attaches to one thread. While a process is in exec, the kernel makes attaching tracers
// wait. The exec itself waits until the other threads, which it has killed, are reaped. A
// traced thread can be reaped by its tracer alone, though on any of the tracer's OS threads.
// Without that, exec and tracer would wait for each other for ever.
func (t *Tracer) seize(tid int) error {
	stop, stopped := make(chan struct{}), make(chan struct{})
	timer := time.AfterFunc(seizeTime, func() {
		defer close(stopped)
		for {
			for _, tid := range t.tids {
				sys.Wait(tid) // look finds out later what it was
			}
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	err := sys.Seize(tid)
	if !timer.Stop() {
		close(stop)
		<-stopped
	}
	return err
}
