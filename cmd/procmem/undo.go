package main

import (
	"context"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/procmem/procmem/internal/term"
	"golang.org/x/sys/unix"
)

// errInterrupted is the cause of a context that a signal has ended.
type errInterrupted struct{ sig os.Signal }

func (e errInterrupted) Error() string {
	if sig, ok := e.sig.(syscall.Signal); ok && unix.SignalName(sig) != "" {
		return "stopped by " + unix.SignalName(sig) // String calls it "terminated"
	}
	return "stopped by " + e.sig.String()
}

// undoing is for commands that have something to undo. The first SIGINT, SIGTERM, SIGQUIT or
// SIGHUP ends the context, so that the target is let go and half-written files are removed. A
// second signal ends procmem at once, which lets the target go as well. So does a first one
// that does not end procmem in time. Other commands just end.
//
// Control-Z has no effect, because a stopped process cannot let the target go. A signal that
// was ignored when procmem was started stays ignored, as under nohup(1).
func undoing(run func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	ch := make(chan os.Signal, 1)
	signal.Ignore(syscall.SIGTSTP)
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP} {
		if !signal.Ignored(sig) {
			signal.Notify(ch, sig)
		}
	}
	defer signal.Stop(ch)
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case sig := <-ch:
			signal.Stop(ch)
			cancel(errInterrupted{sig})
			endAnyway(ctx, done)
		case <-done:
		}
	}()
	return run(ctx)
}

// exitPatience is how long a command may take to undo its work after a signal.
const exitPatience = 30 * time.Second

// bounded is the number of running operations that end by themselves before long, however long
// that takes on a busy machine.
var bounded atomic.Int32

// endAnyway ends procmem where something does not answer. The process was let go. What is
// half-written keeps the name ….partial, for the next run to take over.
func endAnyway(ctx context.Context, done <-chan struct{}) {
	for wait := true; wait; wait = bounded.Load() > 0 {
		select {
		case <-done:
			return
		case <-time.After(exitPatience):
		}
	}
	term.Fprintf(os.Stderr, "procmem: %v: something that was opened does not answer; what is half-written may be left\n", context.Cause(ctx))
	os.Exit(leave(bySignal + int(signalOf(context.Cause(ctx)))))
}
