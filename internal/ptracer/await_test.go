package ptracer

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/internal/testproc"
	"github.com/procmem/procmem/process"
)

// A wait for a running thread that does not stop has a bound. With more time, it lasts until
// the thread stops.
func TestAwait(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	proc, err := process.Open(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	tr := New(proc)
	defer tr.Release()
	if err := tr.Bound(); err != nil {
		t.Fatal(err)
	}
	tr.Do(func() {
		if err := tr.SeizeNew(); err != nil {
			t.Error(err)
			return
		}
		enough, asked := errors.New("enough"), 0
		_, err := tr.Await(p.PID(), func() error {
			if asked++; asked == 3 {
				return enough
			}
			return nil
		})
		if err != enough {
			t.Errorf("a wait in vain: %v", err)
		}
		if _, ok, err := tr.WaitStop(p.PID(), time.Millisecond); ok || err != nil {
			t.Errorf("a wait in vain: %v, %v", ok, err)
		}
		began := time.Now()
		status, err := tr.Await(p.PID(), func() error {
			sys.Interrupt(p.PID())
			return nil
		})
		if err != nil || !status.Stopped() || int(status)>>16 != sys.EventStop {
			t.Errorf("after %v: status %#x, %v", time.Since(began), status, err)
		}
		if err := unix.Kill(p.PID(), unix.SIGKILL); err != nil {
			t.Error(err)
		}
		if status, err := tr.Await(p.PID(), func() error { return nil }); err != nil || !status.Signaled() {
			t.Errorf("at its end: %#x, %v", status, err)
		}
	})
}
