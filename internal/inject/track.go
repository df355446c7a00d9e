package inject

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/dirty"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// track has the target make a userfaultfd, takes it, closes that of the
// target, and hands it over. It is kept here, too, so that what was done with
// it is undone in small steps even if the other end is killed.
func (k *helper) track() error {
	fd := -1
	var left []int // descriptors of the target that are still to be closed
	err := callIn(k.ctx, k.p, func(c *Injector, tid int, regs []byte) error {
		ours, theirs, err := c.takeUserfaultfd(tid, regs)
		if fd = ours; theirs >= 0 {
			left = append(left, theirs)
		}
		return err
	})
	for _, theirs := range left {
		if cerr := closeIn(k.p, theirs); err == nil {
			err = cerr
		}
	}
	if fd >= 0 {
		defer unix.Close(fd)
	}
	if err != nil {
		return fmt.Errorf("track the writes of process %d: %w", k.p.PID(), err)
	}
	k.out.rights = unix.UnixRights(fd)
	if err := k.enc.Encode(&News{Descriptor: true}); err != nil {
		return err
	}
	<-k.ctx.Done()
	dirty.Untrack(k.p, fd)
	return nil
}

// takeUserfaultfd runs two system calls, between which the target has a file
// descriptor more. It returns that, too, unless the second call has closed it:
// a signal may come first, which the thread must take before it can go on.
func (c *Injector) takeUserfaultfd(tid int, regs []byte) (ours, theirs int, err error) {
	const flags = unix.O_CLOEXEC | unix.O_NONBLOCK | sys.UserModeOnly
	res, err := c.call(tid, regs, callUserfaultfd, flags)
	if err == nil {
		err = trackError(res.errno())
	}
	if err != nil {
		return -1, -1, err
	}
	theirs = int(res.value)
	ours, err = sys.TakeDescriptor(c.t.Process().PID(), theirs)
	if closed, cerr := c.call(tid, regs, callClose, uint64(theirs)); cerr == nil && closed.errno() == 0 {
		theirs = -1
	}
	return ours, theirs, err
}

// trackError explains what userfaultfd(2) in the target failed with.
func trackError(e unix.Errno) error {
	switch e {
	case 0:
		return nil
	case unix.EMFILE, unix.ENFILE:
		return fmt.Errorf("it has as many files open as it may: %w", e)
	case unix.ENOSYS, unix.EPERM:
		return fmt.Errorf("the kernel gives it no userfaultfd: %w", e)
	}
	return e
}

// closeIn has the target close a userfaultfd that was made in it.
func closeIn(p *process.Process, fd int) error {
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		// Nothing else that may have got this number since.
		link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", p.PID(), fd))
		if err != nil || link != "anon_inode:[userfaultfd]" {
			return nil
		}
		err = callIn(context.Background(), p, func(c *Injector, tid int, regs []byte) error {
			_, err := c.call(tid, regs, callClose, uint64(fd))
			return err
		})
		if err == nil || !p.Exists() {
			return nil
		}
		if time.Since(began) > ptracer.Patience {
			return fmt.Errorf("close the userfaultfd %d of the target: %w", fd, err)
		}
	}
}

// callIn stops one thread of a process, runs a function that makes calls in
// it, and lets it go on. It tries others where that one is not fit.
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
		if last != errNotStopped && last != ErrSignalled && !errors.Is(last, procmem.ErrGone) || !p.Exists() || time.Since(began) > callPatience {
			return last
		}
	}
}

// callPatience is how long a thread is looked for that is fit for a call.
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

// callable returns threads to try a call in: those first that are blocked, and
// among them those that will not notice that they were stopped.
func callable(p *process.Process) ([]int, error) {
	tids, err := p.Threads()
	if err != nil {
		return nil, err
	}
	// Whoever traces one thread most likely traces all: none is touched then.
	if st, err := p.Status(); err == nil && st.TracerPID != 0 {
		return nil, fmt.Errorf("seize thread %d: %w", p.PID(), unix.EPERM)
	}
	var best, good, others []int
	for _, tid := range tids {
		sc, err := p.ThreadSyscall(tid)
		switch {
		case err != nil:
		case sc.Running || sc.Number < 0:
			others = append(others, tid)
		case noticesStop[int(sc.Number)]:
			good = append(good, tid)
		default:
			if best = append(best, tid); len(best) == maxCandidates {
				return best, nil
			}
		}
	}
	all := append(append(best, good...), others...)
	return all[:min(len(all), maxCandidates)], nil
}
