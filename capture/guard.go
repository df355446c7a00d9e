package capture

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/mappedfile"
	"github.com/procmem/procmem/internal/sink"
	"github.com/procmem/procmem/snapshot"
)

// guard lets a held process go while the destination takes nothing. The destination may be
// waiting for that process, such as the server of its file system, or of the disk below.
type guard struct {
	patience time.Duration
	idle     bool        // it guards nothing
	holding  atomic.Bool // a process is held
	cancel   context.CancelCauseFunc
}

// diskPatience is how long one write to a disk may take while a process is held. Some disks are
// that busy.
const diskPatience = time.Minute

// newGuard returns a guard of writes below a folder. "" means no folder, and nothing is
// guarded. The context that it returns ends when the guard lets the process go.
func newGuard(ctx context.Context, folder string) (*guard, context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	g := &guard{patience: diskPatience, idle: folder == "", cancel: cancel}
	var st unix.Statfs_t
	if folder != "" && (unix.Statfs(folder, &st) != nil || mappedfile.ServedType(st.Type)) {
		g.patience = snapshot.StuckPatience
	}
	return g, ctx
}

// hold tells the guard whether a process is held from now on.
func (g *guard) hold(held bool) { g.holding.Store(held && !g.idle) }

// end releases the context. Nothing may be guarded after it.
func (g *guard) end() { g.cancel(nil) }

// do runs f, which writes something.
func (g *guard) do(f func() error) error {
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

func (f guardedFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.g.do(func() (err error) {
		n, err = f.File.WriteAt(p, off)
		return err
	})
	return n, err
}
