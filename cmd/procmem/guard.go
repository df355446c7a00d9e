package main

import (
	"context"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/sink"
	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/snapshot"
)

// guard lets a process go that is held while what is written to takes nothing: it may
// be what is waited for, as the server of that file system, or of the disk below.
type guard struct {
	patience time.Duration
	holding  atomic.Bool // a process
	cancel   context.CancelCauseFunc
}

// diskPatience is how long one write to a disk may take while a process is held: some
// are that busy.
const diskPatience = time.Minute

// newGuard returns a guard of what is written below a folder. The context that it
// returns ends when the process is let go for that.
func newGuard(ctx context.Context, folder string) (*guard, context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	g := &guard{patience: diskPatience, cancel: cancel}
	var st unix.Statfs_t
	if unix.Statfs(folder, &st) != nil || process.ServedType(st.Type) {
		g.patience = snapshot.StuckPatience
	}
	return g, ctx
}

// hold tells whether a process is held from now on.
func (g *guard) hold(held bool) { g.holding.Store(held) }

// end comes last.
func (g *guard) end() { g.cancel(nil) }

// do runs f, which writes something.
func (g *guard) do(f func() (int, error)) (int, error) {
	timer := time.AfterFunc(g.patience, func() {
		if g.holding.Load() {
			g.cancel(snapshot.ErrStuck)
		}
	})
	defer timer.Stop()
	return f()
}

// guardedFile is a file whose writes are guarded.
type guardedFile struct {
	*sink.File
	g *guard
}

func (f guardedFile) WriteAt(p []byte, off int64) (int, error) {
	return f.g.do(func() (int, error) { return f.File.WriteAt(p, off) })
}

// tellWaits prints what is waited for, each thing once.
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

// exitPatience is how long a command may take to undo what it did, after a signal. An
// object store alone is given ten seconds of it to forget an upload.
const exitPatience = 25 * time.Second

// endAnyway ends procmem where something does not answer: the process was let go, and
// what is half-written keeps the name ….partial, for the next run to take over.
func endAnyway(ctx context.Context, done <-chan struct{}) {
	select {
	case <-done:
		return
	case <-time.After(exitPatience):
	}
	term.Fprintf(os.Stderr, "procmem: %v: something that was opened does not answer; what is half-written may be left\n", context.Cause(ctx))
	os.Exit(exitFailed)
}
