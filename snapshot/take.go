package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/inject"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// Take returns one moment of a process. Close must be called on the snapshot. Take needs the
// rights of a debugger (ptrace(2), access mode checking). All methods but MethodLive also need
// that nothing else traces the process, and fail with EPERM otherwise.
//
// Errors: *RefusedError if no method is expected to meet MaxPause, and ErrBusy if precopy does
// not converge. process.ErrForeignProc if /proc belongs to another pid namespace, and
// procmem.ErrGone if the process has ended.
//
// The end of ctx after Take has returned lets a held process go. Its memory must not be read
// from then on.
func Take(ctx context.Context, p *process.Process, o Options) (*Snapshot, error) {
	o.Method = cmp.Or(o.Method, MethodAuto)
	if o.Method == MethodLive {
		return live(p, o)
	}
	if err := p.CheckNamespace(); err != nil {
		return nil, fmt.Errorf("stop process %d: %w", p.PID(), err)
	}
	t := &taking{p: p, o: o}
	s, err := t.take(ctx)
	if err == nil && o.Spill && t.store != nil && s.tracer != nil {
		if err = s.spill(ctx, t.store, o.want(s.img, s)); err != nil {
			err = errors.Join(err, s.Close())
			s = nil
		}
	}
	if t.ready != nil {
		t.ready.s.Close()
	}
	switch {
	case t.closeStore == nil:
	case s == nil:
		err = errors.Join(err, t.closeStore())
	default:
		s.undo = append(cleanup{t.closeStore}, s.undo...) // run last
	}
	return s, err
}

// taking is one call of Take.
type taking struct {
	p          *process.Process
	o          Options
	store      Store
	closeStore func() error  // nil where the store is the caller's
	held       time.Duration // by attempts that failed
	ready      *pauser       // for the method that comes next; nil: that method looks itself
}

func (t *taking) take(ctx context.Context) (*Snapshot, error) {
	t.o.step(StepLook, 0)
	l, err := lookAt(t.p)
	if err != nil {
		return nil, err
	}
	t.ready = newPauser(l, t.o, nil)
	if err := t.prepare(l); err != nil {
		return nil, err
	}
	t.ready.store = t.store
	if t.o.Method == MethodAuto || t.o.MaxPause > 0 {
		return t.choose(ctx)
	}
	return t.by(ctx, t.o.Method, 0)
}

// prepare finds the store for memory that is copied early.
func (t *taking) prepare(l *look) (err error) {
	if t.o.Prepare != nil {
		t.store, err = t.o.Prepare(&l.img, l.view)
		return err
	}
	t.store, t.closeStore = memoryStore(l)
	return nil
}

// maxTries bounds how often a moment is begun again.
const maxTries = 4

// by takes a moment by one method. It begins again where the process has executed another
// program meanwhile, a signal has interrupted, or the kernel was short of memory for a moment.
// What an attempt in vain left in the store is forgotten.
func (t *taking) by(ctx context.Context, m Method, bound time.Duration) (*Snapshot, error) {
	for try := 1; ; try++ {
		s, err := t.once(ctx, m, bound)
		if err == nil {
			return s, nil
		}
		if t.store != nil {
			if err := t.store.Forget(everything); err != nil {
				return nil, err
			}
		}
		vanished := errors.Is(err, unix.ESRCH) // the first thread vanishes while another one executes a program
		again := errors.Is(err, inject.ErrExec) || errors.Is(err, inject.ErrSignalled) || vanished
		if errors.Is(err, unix.ENOMEM) && try == 1 { // the kernel gets pages back; a limit stays
			again = true
			sys.Nap(shortOfMemory)
		}
		if !again || try == maxTries {
			if vanished {
				err = fmt.Errorf("%w: %w", procmem.ErrGone, err)
			}
			return nil, err
		}
	}
}

// shortOfMemory is how long the kernel is given to get memory back.
const shortOfMemory = 50 * time.Millisecond

func (t *taking) once(ctx context.Context, m Method, bound time.Duration) (*Snapshot, error) {
	f, err := t.begin(m, bound)
	if err == nil {
		switch m {
		case MethodStop:
			err = f.stop(ctx)
		case MethodFork:
			err = f.fork(ctx)
		case MethodPrecopy:
			err = f.precopy(ctx)
		default:
			err = fmt.Errorf("unknown method %q", m)
		}
	}
	if err != nil {
		if f != nil {
			f.s.Close()
			t.held += f.s.pause
		}
		return nil, err
	}
	f.s.pause += t.held
	return f.s, nil
}

// begin returns a planned pauser, made from the look that is ready or from a new one.
func (t *taking) begin(m Method, bound time.Duration) (*pauser, error) {
	f := t.ready
	t.ready = nil
	if f == nil {
		t.o.step(StepLook, 0)
		l, err := lookAt(t.p)
		if err != nil {
			return nil, err
		}
		f = newPauser(l, t.o, t.store)
	}
	f.s.Method, f.o.MaxPause = m, bound
	return f, f.plan()
}
