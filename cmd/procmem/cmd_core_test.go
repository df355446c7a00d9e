package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/capture"
	"github.com/procmem/procmem/core"
)

// A bound that was not kept is told; how fast the machine is does not matter here.
func TestBeyondBound(t *testing.T) {
	const told = "process 7 was held for 17ms, longer than --max-pause 5ms: the machine, or what the core was written to, was busier than expected"
	for _, c := range []struct {
		pause float64
		bound time.Duration
		want  string
	}{{17, 5 * time.Millisecond, told}, {5, 5 * time.Millisecond, ""}, {17, 0, ""}, {0, time.Nanosecond, ""}} {
		r := &core.Report{PID: 7, PauseMS: c.pause}
		if got := beyondBound(r, c.bound); got != c.want {
			t.Errorf("%v ms, bound %v: %q", c.pause, c.bound, got)
		}
	}
	job := &coreJob{json: true, maxPause: pauseFlag(5 * time.Millisecond)}
	path := filepath.Join(t.TempDir(), "stderr")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	defer func(old *os.File) { os.Stderr = old }(os.Stderr)
	os.Stderr = f
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := job.tell(null, &capture.Result{Report: &core.Report{PID: 7, PauseMS: 17, Consistent: true}, Image: new(procmem.Image)}); err != nil {
		t.Errorf("it is no failure: %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "procmem: "+told+"\n" {
		t.Errorf("stderr: %q, %v", got, err)
	}
}

// A signal is told by the name that one gives it to kill(1).
func TestInterruptedBy(t *testing.T) {
	for sig, want := range map[os.Signal]string{syscall.SIGTERM: "stopped by SIGTERM", syscall.SIGQUIT: "stopped by SIGQUIT"} {
		if got := (errInterrupted{sig}).Error(); got != want {
			t.Errorf("%v: %s", sig, got)
		}
	}
}
