package snapshot

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// track has the target make a userfaultfd, takes it, closes that of the
// target, and hands it over. It is kept here, too, so that what was done with
// it is undone in small steps even if the other end is killed.
func (k *keeping) track() error {
	fd := -1
	err := callIn(k.ctx, k.p, func(c *caller, tid int, regs []byte) (err error) {
		fd, err = c.takeUserfaultfd(tid, regs)
		return err
	})
	if err != nil {
		return fmt.Errorf("track the writes of process %d: %w", k.p.PID(), err)
	}
	defer unix.Close(fd)
	k.out.rights = unix.UnixRights(fd)
	if err := k.enc.Encode(&news{Descriptor: true}); err != nil {
		return err
	}
	<-k.ctx.Done()
	untrack(k.p, fd)
	return nil
}

// takeUserfaultfd runs two system calls, between which the target has a file
// descriptor more.
func (c *caller) takeUserfaultfd(tid int, regs []byte) (int, error) {
	const flags = unix.O_CLOEXEC | unix.O_NONBLOCK | sys.UserModeOnly
	res, err := c.call(tid, regs, callUserfaultfd, flags)
	if err == nil && res.errno() != 0 {
		err = res.errno()
	}
	if err != nil {
		return -1, err
	}
	fd, err := sys.TakeDescriptor(c.t.p.PID(), int(res.value))
	for range 3 { // a signal may come first
		closed, cerr := c.call(tid, regs, callClose, res.value)
		if cerr == nil && closed.errno() == 0 {
			break
		}
		if err == nil {
			err = cerr
		}
	}
	return fd, err
}

// callIn stops one thread of a process, runs a function that makes calls in
// it, and lets it go on. It tries others where that one is not fit.
func callIn(ctx context.Context, p *process.Process, f func(c *caller, tid int, regs []byte) error) error {
	var last error = procmem.ErrGone
	tids, err := callable(p)
	if err != nil {
		return err
	}
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
	return last
}

func callInThread(ctx context.Context, p *process.Process, tid int, f func(c *caller, tid int, regs []byte) error) (done bool, err error) {
	t := newTracer(p)
	defer t.release()
	c, err := newCaller(p, t)
	if err != nil {
		return true, err
	}
	defer c.close()
	t.do(func() {
		if err = t.attach(tid); err != nil {
			return
		}
		t.interrupt()
		if err = t.wait(ctx); err != nil {
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

// untrackStep is how much memory stops being tracked at once, while nobody can
// map or unmap memory in the target: less than a millisecond.
const untrackStep = 16 << 20

// untrack ends the tracking of writes in small steps. Closing the userfaultfd
// would do it in a large one.
func untrack(p *process.Process, uffd int) {
	maps, err := p.Mappings()
	if err != nil {
		return // the process is gone
	}
	for i := range maps {
		for r := maps[i].Range; !r.Empty(); {
			end := min(r.End, (r.Start|(untrackStep-1))+1)
			switch err := sys.UffdUnregister(uffd, uint64(r.Start), uint64(end)); err {
			case nil:
				r.Start = end
			case unix.ENOMEM: // as many mappings as may be: none can be split
				sys.UffdUnregister(uffd, uint64(r.Start), uint64(r.End))
				r.Start = r.End
			default: // it is not tracked, or gone
				r.Start = r.End
			}
		}
	}
}
