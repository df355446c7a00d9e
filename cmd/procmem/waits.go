package main

import (
	"context"
	"os"
	"sync/atomic"
	"time"

	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/process"
)

// tellWaits prints what the work waits for, each thing once.
func tellWaits(p *process.Process) {
	said := make(chan map[string]bool, 1)
	said <- map[string]bool{}
	p.OnWait(func(what string) {
		all := <-said
		defer func() { said <- all }()
		if !all[what] {
			all[what] = true
			notice("process %d: waiting for %s", p.PID(), what)
		}
	})
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
	os.Exit(exitFailed)
}
