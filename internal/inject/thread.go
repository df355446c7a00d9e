package inject

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// callIn stops one thread of a process, runs a function that makes calls in it, and lets the
// thread go on. It tries other threads if that one is unsuitable.
func callIn(ctx context.Context, p *process.Process, f func(c *Injector, tid int, regs []byte) error) error {
	for began := time.Now(); ; sys.Nap(time.Millisecond) {
		tids, err := callable(p)
		if err != nil {
			return err
		}
		var last error = procmem.ErrGone
		for _, tid := range tids {
			done, err := callInThread(ctx, p, tid, f)
			if done {
				return err
			}
			last = err
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
		// Threads may come and go, and be about to take a signal.
		if !errors.Is(last, errNotStopped) && !errors.Is(last, ErrSignalled) && !errors.Is(last, procmem.ErrGone) || !p.Exists() || time.Since(began) > callPatience {
			return last
		}
	}
}

// callPatience is how long callIn looks for a suitable thread.
const callPatience = 2 * time.Second

func callInThread(ctx context.Context, p *process.Process, tid int, f func(c *Injector, tid int, regs []byte) error) (done bool, err error) {
	t := ptracer.New(p)
	defer t.Release()
	c, err := New(p, t)
	if err != nil {
		return true, err
	}
	defer c.close()
	t.Do(func() {
		if err = t.Attach(tid); err != nil {
			return
		}
		t.Interrupt()
		if err = t.Wait(ctx); err != nil {
			return
		}
		err = c.one(func(tid int, regs []byte) error {
			err := f(c, tid, regs)
			done = err == nil
			return err
		})
	})
	return done, err
}

// callable returns threads to try a call in. Blocked threads come first, and among them those
// that will not notice that they were stopped.
func callable(p *process.Process) ([]int, error) {
	tids, err := p.Threads()
	if err != nil {
		return nil, err
	}
	// A tracer of one thread most likely traces all, so then none is touched.
	if st, err := p.Status(); err == nil && st.TracerPID != 0 {
		return nil, fmt.Errorf("seize thread %d: %w", p.PID(), unix.EPERM)
	}
	var best, good, others, asleep []int
	for _, tid := range tids {
		sc, err := p.ThreadSyscall(tid)
		st, serr := p.ThreadStat(tid)
		switch {
		case err != nil || serr != nil:
		case st.State == 'D':
			asleep = append(asleep, tid) // it does not stop
		case sc.Running || sc.Number < 0:
			others = append(others, tid)
		case noticesStop[int(sc.Number)]:
			good = append(good, tid)
		default:
			if best = append(best, tid); len(best) == MaxCandidates {
				return best, nil
			}
		}
	}
	all := slices.Concat(best, good, others, asleep)
	return all[:min(len(all), MaxCandidates)], nil
}
