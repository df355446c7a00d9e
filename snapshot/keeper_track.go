package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

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
	var left []int // descriptors of the target that are still to be closed
	err := callIn(k.ctx, k.p, func(c *caller, tid int, regs []byte) error {
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
	if err := k.enc.Encode(&news{Descriptor: true}); err != nil {
		return err
	}
	<-k.ctx.Done()
	untrack(k.p, fd)
	return nil
}

// takeUserfaultfd runs two system calls, between which the target has a file
// descriptor more. It returns that, too, unless the second call has closed it:
// a signal may come first, which the thread must take before it can go on.
func (c *caller) takeUserfaultfd(tid int, regs []byte) (ours, theirs int, err error) {
	const flags = unix.O_CLOEXEC | unix.O_NONBLOCK | sys.UserModeOnly
	res, err := c.call(tid, regs, callUserfaultfd, flags)
	if err == nil {
		err = trackError(res.errno())
	}
	if err != nil {
		return -1, -1, err
	}
	theirs = int(res.value)
	ours, err = sys.TakeDescriptor(c.t.p.PID(), theirs)
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
		err = callIn(context.Background(), p, func(c *caller, tid int, regs []byte) error {
			_, err := c.call(tid, regs, callClose, uint64(fd))
			return err
		})
		if err == nil || !p.Exists() {
			return nil
		}
		if time.Since(began) > patience {
			return fmt.Errorf("close the userfaultfd %d of the target: %w", fd, err)
		}
	}
}

// callIn stops one thread of a process, runs a function that makes calls in
// it, and lets it go on. It tries others where that one is not fit.
func callIn(ctx context.Context, p *process.Process, f func(c *caller, tid int, regs []byte) error) error {
	for began := time.Now(); ; nap(time.Millisecond) {
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
		if last != errNotStopped && last != errSignalled && !errors.Is(last, procmem.ErrGone) || !p.Exists() || time.Since(began) > callPatience {
			return last
		}
	}
}

// callPatience is how long a thread is looked for that is fit for a call.
const callPatience = 2 * time.Second

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

const (
	// untrackStep is how much memory is unprotected at once, while nobody can
	// map or unmap memory in the target: some tenths of a millisecond.
	untrackStep = 8 << 20
	// untrackWork is after how much work others get hold of the address space,
	// for untrackRest: without a rest they may have to wait for all of it.
	untrackWork = 500 * time.Microsecond
	untrackRest = 100 * time.Microsecond
)

// untracker ends the tracking of writes in small steps. Closing the
// userfaultfd would do it in a large one.
type untracker struct {
	uffd   int
	edges  edges
	rested time.Time
}

func untrack(p *process.Process, uffd int) {
	file, err := p.OpenMem("maps")
	if err != nil {
		return // the process is gone
	}
	defer file.Close()
	maps, err := p.Mappings()
	if err != nil {
		return
	}
	u := untracker{uffd, edges{file}, time.Now()}
	for len(maps) > 0 {
		run := touching(maps, untrackStep)
		maps = maps[len(run):]
		if u.run(run) || len(run) == 1 {
			continue
		}
		for i := range run { // some of it is not tracked, or is not there any more
			u.run(run[i : i+1])
		}
	}
}

// run ends the tracking of mappings that touch, and reports whether it could.
// What takes long is done first, in steps: to unprotect the pages.
func (u *untracker) run(maps []procmem.Mapping) bool {
	r := span(maps)
	for a := r.Start; a < r.End; {
		end := min(r.End, (a|(untrackStep-1))+1) // aligned: huge pages stay whole
		if err := sys.UffdUnprotect(u.uffd, uint64(a), uint64(end)); err == unix.ENOENT {
			return false
		} else if err != nil {
			break // of huge pages of hugetlbfs that are larger than a step
		}
		u.rest()
		a = end
	}
	defer u.rest()
	return u.edges.are(r) && sys.UffdUnregister(u.uffd, uint64(r.Start), uint64(r.End)) == nil
}

func (u *untracker) rest() {
	if time.Since(u.rested) > untrackWork {
		nap(untrackRest)
		u.rested = time.Now()
	}
}

// touching returns the mappings at the front that touch each other, as many as
// can be dealt with in one step, and that are no larger than size together; or
// the first one alone.
func touching(maps []procmem.Mapping, size uint64) []procmem.Mapping {
	n := 1
	for n < len(maps) && n < registerStep && maps[n].Start == maps[n-1].End && uint64(maps[n].End-maps[0].Start) <= size {
		n++
	}
	return maps[:n]
}

// span is the range of mappings that touch each other.
func span(maps []procmem.Mapping) procmem.Range {
	return procmem.Range{Start: maps[0].Start, End: maps[len(maps)-1].End}
}
