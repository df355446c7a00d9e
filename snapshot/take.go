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
	"github.com/procmem/procmem/process"
)

// Options say how a moment is taken. The zero value takes it by MethodAuto, and
// copies in memory what has to be copied while the process goes on.
type Options struct {
	// Method is MethodAuto where it is empty.
	Method Method
	// MaxPause bounds for how long the process is expected to be held. Zero is
	// no bound; MethodAuto then strives for 20 ms.
	MaxPause time.Duration
	// Want returns which memory will be read, as ascending ranges; nil wants
	// all. It is called before the pause with what is known then, and again when
	// the mappings have changed.
	Want func(img *procmem.Image, mem procmem.Memory) []procmem.Range
	// Prepare is called once, before anything is stopped, with the process as it
	// is then. It returns where memory goes that is copied early, nil for nowhere:
	// MethodPrecopy is impossible then. An error ends Take. The arguments must not
	// be used after it has returned. MethodLive has no use for the store.
	//
	// A nil Prepare keeps that memory in memory, where enough is available.
	Prepare func(img *procmem.Image, mem procmem.Sparse) (Store, error)
	// Spill has the memory that is wanted put into the store where it would
	// otherwise be read while the process is held. It is for readers that may be slow.
	Spill bool
	// OnStep is told each step before it begins. It must return at once: the
	// process may be held.
	OnStep func(Step)
}

// StepKind is a kind of step.
type StepKind uint8

// The steps of Take.
const (
	StepLook  StepKind = iota // at the process, which goes on
	StepRound                 // memory is copied while the process goes on
	StepPause                 // the process is held
)

// Step is a part of the work of Take.
type Step struct {
	Kind  StepKind
	Round int // of StepRound, from 1
}

func (o *Options) step(kind StepKind, round int) {
	if o.OnStep != nil {
		o.OnStep(Step{kind, round})
	}
}

func (o *Options) want(img procmem.Image, mem procmem.Memory) []procmem.Range {
	if o.Want != nil {
		return o.Want(&img, mem)
	}
	var all []procmem.Range
	for i := range img.Mappings {
		all = append(all, img.Mappings[i].Range)
	}
	return all
}

// Take takes a moment of a process. It needs the rights of a debugger (ptrace(2),
// access mode checking) and, but for MethodLive, that nothing else traces the
// process: EPERM otherwise. Close must be called on the snapshot.
//
// Errors: RefusedError where no method is expected to meet MaxPause, ErrBusy where
// precopy does not converge, process.ErrForeignProc where /proc is not that of this
// pid namespace, procmem.ErrGone where the process has ended.
//
// Where ctx ends later, a process that is still held is let go, and its memory
// must not be read any more.
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
		s.undo = append(cleanup{t.closeStore}, s.undo...) // the last to go
	}
	return s, err
}

// taking is one call of Take.
type taking struct {
	p          *process.Process
	o          Options
	store      Store
	closeStore func() error // nil where the store is the caller's
	ready      *pauser      // for the method that comes next; nil where it has to look itself
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

// prepare finds a place for memory that is copied early.
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

// by takes a moment by one method, again where the process executed another program
// meanwhile, or a signal came in the way. What an attempt in vain left in the
// store is forgotten.
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
		vanished := errors.Is(err, unix.ESRCH) // as the first thread does while another one executes a program
		if !errors.Is(err, inject.ErrExec) && !errors.Is(err, inject.ErrSignalled) && !vanished || try == maxTries {
			if vanished {
				err = fmt.Errorf("%w: %w", procmem.ErrGone, err)
			}
			return nil, err
		}
	}
}

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
		}
		return nil, err
	}
	return f.s, nil
}

// begin returns the plan of a pause, with the look that is ready, or a new one.
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
