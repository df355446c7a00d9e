package inject

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/dirty"
	"github.com/procmem/procmem/internal/sys"
)

// track has an agent make a userfaultfd for the memory of the target, takes it, and hands it
// over. The helper keeps it, too, so that tracking ends in small steps even if the other end is
// killed.
func (h *helper) track() error {
	fd := -1
	err := h.held(func(c *Injector) error {
		return h.withAgent(c, func(a *agent) (err error) {
			fd, err = a.userfaultfd()
			return err
		})
	})
	if fd >= 0 {
		defer unix.Close(fd)
	}
	if err != nil {
		return fmt.Errorf("track the writes of process %d: %w", h.p.PID(), err)
	}
	if err := h.handOver(fd); err != nil {
		return err
	}
	<-h.ctx.Done()
	dirty.Untrack(h.p, fd)
	return nil
}

// handOver gives the descriptor to the other end.
func (h *helper) handOver(fd int) error {
	h.out.rights = unix.UnixRights(fd)
	return h.tell(&News{Descriptor: true, Pause: h.pause})
}

// userfaultfd has the agent open a userfaultfd, for the memory that it shares with the target.
// The descriptor is in the agent's table alone.
func (a *agent) userfaultfd() (fd int, err error) {
	const flags = unix.O_CLOEXEC | unix.O_NONBLOCK | sys.UserModeOnly
	res, err := a.call(callUserfaultfd, flags)
	if err == nil {
		err = trackError(res.errno())
	}
	if err != nil {
		return -1, err
	}
	fd, err = sys.TakeDescriptor(a.PID, int(res.value))
	if err == nil && !sys.IsUserfaultfd(fd) {
		unix.Close(fd)
		return -1, errors.New("what came is no userfaultfd")
	}
	return fd, err
}

// trackError returns an error that explains the errno of userfaultfd(2) in the target.
func trackError(e unix.Errno) error {
	switch e {
	case 0:
		return nil
	case unix.EMFILE, unix.ENFILE:
		return fmt.Errorf("it has as many files open as it may: %w", e)
	case unix.ENOSYS, unix.EPERM:
		return fmt.Errorf("%w: %w", errNoUffd, e)
	}
	return e
}

// withAgent is Injector.withAgent for a helper. It tells the other end of each task in the
// target, and notes tasks that could not be reaped at once.
func (h *helper) withAgent(c *Injector, f func(*agent) error) error {
	left, err := c.withAgent(h.born, f)
	if left != nil {
		h.left = append(h.left, *left)
	}
	return err
}

// born tells the other end of a task in the target. If this helper is killed, another one has
// to reap that task.
func (h *helper) born(f Forked) { _ = h.tell(&News{Born: &f}) }

// held holds all threads of the target, runs f on the tracing thread, and lets them go. Then it
// reaps what f has left to be reaped. If no thread is suitable for a call at this moment, it
// tries again after a while.
func (h *helper) held(f func(c *Injector) error) error {
	t := h.tracer()
	defer t.Release()
	c, err := h.injector(t)
	if err != nil {
		return err
	}
	defer c.close()
	defer func() { h.pause += t.Pause() }()
	for began := time.Now(); ; sys.Nap(time.Millisecond) {
		if err := t.Stop(h.ctx); err != nil {
			return err
		}
		t.Do(func() {
			err = f(c)
			h.buryLeft(c)
		})
		t.LetGo()
		err = errors.Join(err, h.reapLeft())
		if !passing(err) || time.Since(began) > callPatience {
			return err
		}
	}
}

// buryLeft has the target take the news of tasks that have ended. All threads are held. If the
// target was frozen meanwhile, any thread could take the news after the thaw.
func (h *helper) buryLeft(c *Injector) {
	h.left = slices.DeleteFunc(h.left, func(f Forked) bool {
		for {
			err := c.bury(&f)
			if !errors.Is(err, ErrFrozen) {
				return err == nil
			}
			h.thawed()
		}
	})
}

// reapLeft has the target take the news of tasks that have ended, in any of its threads.
func (h *helper) reapLeft() (err error) {
	for i := range h.left {
		err = errors.Join(err, h.reap(&h.left[i]))
	}
	h.left = nil
	return err
}
