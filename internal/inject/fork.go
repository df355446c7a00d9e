package inject

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// fork holds the target, has an agent fork, reads the registers, and lets the target go on. The
// child, which never runs, is kept until procmem has left.
func (h *helper) fork(wait bool) error {
	t := h.tracer()
	t.Known = h.known
	t.HoldSharers(true)
	defer t.Release()
	c, err := h.injector(t)
	if err != nil {
		return err
	}
	defer c.close()
	defer func() { h.pause = t.Pause() }()
	n, child, err := h.forkHeld(t, c, wait)
	for began := time.Now(); err != nil && child == nil; n, child, err = h.forkHeld(t, c, wait) {
		t.Do(func() { h.buryLeft(c) })
		t.LetGo()
		err = errors.Join(err, h.reapLeft())
		// An other end that was told that the target is held has copied memory of that moment.
		if wait || !passing(err) || time.Since(began) > callPatience {
			return fmt.Errorf("fork process %d: %w", h.p.PID(), err)
		}
		sys.Nap(time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("fork process %d: %w", h.p.PID(), errors.Join(err, h.drop(t, child)))
	}
	if wait {
		n.Late = h.awaitWord()
	}
	n.Child = child.Forked
	early := len(h.left) > 0 && h.p.Frozen() != "" // the copy can be read before the target is thawed
	if early {
		t.Do(t.LetSharersGo)
		n.Pause, n.Unheld = time.Since(n.Time), t.Unheld()
		_ = h.tell(&n)
	}
	t.Do(func() { h.buryLeft(c) })
	t.LetGo()
	_ = h.reapLeft()
	if !early {
		n.Pause, n.Unheld = t.Pause(), t.Unheld()
		_ = h.tell(&n)
	}
	t.LetGoLate(h.ctx)
	<-h.ctx.Done()
	h.leave(t, c, child)
	return nil
}

// forkHeld holds the target, has an agent fork, and reads the registers.
func (h *helper) forkHeld(t *ptracer.Tracer, c *Injector, wait bool) (n News, child *agent, err error) {
	if err := t.Stop(h.ctx); err != nil {
		return n, nil, err
	}
	n.Time = time.Now()
	if wait {
		if err := h.tell(&News{Held: true}); err != nil {
			return n, nil, err
		}
	}
	t.Do(func() {
		err = h.withAgent(c, func(a *agent) (err error) {
			child, err = a.fork(h.p)
			return err
		})
		if child != nil {
			h.born(child.Forked)
		}
		if err == nil {
			n.Threads = t.Take(Arch)
		}
	})
	return n, child, err
}

// passing reports whether a call that failed may succeed a moment later.
func passing(err error) bool {
	return errors.Is(err, ErrSignalled) || errors.Is(err, errNotStopped)
}

// drop ends a child that is of no use, and lets the target go.
func (h *helper) drop(t *ptracer.Tracer, child *agent) error {
	buried := false
	t.Do(func() { buried = child.end() == nil && h.bury(child) == nil })
	t.LetGo()
	if buried {
		return h.reapLeft()
	}
	t.Release() // no traced task outlives the tracer
	return errors.Join(h.reap(&child.Forked), h.reapLeft())
}

// awaitWord waits for the word to go on, and reports whether it did not come in time. The other
// end may be stopped, and the target must not be held for as long as that.
func (h *helper) awaitWord() (late bool) {
	select {
	case <-h.word:
	case <-h.ctx.Done():
	case <-time.After(ptracer.Patience):
		return true
	}
	return false
}

// leavePatience is how long threads may be held until all have stopped for leave.
const leavePatience = time.Second

// leave ends the child and has one thread of the target take the news, by a call of ours. All
// threads are held meanwhile, so none gets the news in a wait of its own.
func (h *helper) leave(t *ptracer.Tracer, c *Injector, child *agent) {
	held := t.Pause()
	t.HoldSharers(false) // sharers have no children of the target
	var err error
	t.Do(func() { err = child.end() }) // taking down its page tables takes a while
	if err == nil {
		err = h.holdThawed(t)
	}
	t.Do(func() {
		if err == nil {
			err = h.bury(child)
		}
	})
	t.Release()
	if err != nil { // again, in any thread, for some time
		err = h.reap(&child.Forked)
	}
	h.undone(err, t.Pause()-held)
}

// bury has the target take the news that a task has ended. All threads are held. It waits for a
// frozen target, on the tracing thread.
func (h *helper) bury(a *agent) error {
	for {
		err := a.bury()
		if !errors.Is(err, ErrFrozen) {
			return err
		}
		h.thawed()
	}
}

// holdThawed is holdAll for a target that must take news, which a frozen one cannot.
func (h *helper) holdThawed(t *ptracer.Tracer) error {
	for {
		h.thawed()
		if err := h.holdAll(t); err != nil || h.p.Frozen() == "" {
			return err
		}
		t.LetGo()
	}
}

// holdAll stops all threads, which another tracer may hold at first. As long as the child is
// traced, no thread gets news of it. If one of them gets the news after all, that is a lesser
// evil than waiting for ever.
func (h *helper) holdAll(t *ptracer.Tracer) error {
	began := time.Now()
	const shortest = 5 * time.Millisecond
	for rest := shortest; ; rest = min(2*rest, time.Second) {
		ctx, cancel := context.WithTimeout(context.Background(), leavePatience)
		err := t.Stop(ctx)
		if err != nil {
			// Each try may disturb the threads that it attaches to, so there are few of these.
			// They can be let go once they have stopped.
			t.Do(func() {
				if len(t.Threads()) == 0 {
					rest = shortest
				}
				t.Interrupt()
			})
			t.LetGo()
			t.LetGoLate(ctx)
		}
		cancel()
		if err == nil || !h.p.Exists() || time.Since(began) > ptracer.Patience {
			return err
		}
		sys.Nap(rest)
	}
}

// fork has the agent fork a copy of the memory. Like the agent, the copy is a child of the
// target. It shares the agent's empty table of files and sends no signal when it ends. It is
// stopped before its first instruction.
func (a *agent) fork(p *process.Process) (child *agent, err error) {
	res, err := a.call(callClone, unix.CLONE_FILES|unix.CLONE_PARENT, 0, 0, 0, 0)
	if res.child == 0 {
		if err == nil {
			err = cloneError(res.errno())
		}
		return nil, err
	}
	child = &agent{Forked: Forked{PID: res.child}, c: a.c, filtered: a.filtered}
	// If memory is short, the copy should end first. The agent shares this setting with the
	// target, and so does not get it. The write fails without the right to write to files of
	// another user. Then there was room for twice as much (package forkroom).
	_ = os.WriteFile(privilege.ProcPath(child.PID, "oom_score_adj"), []byte("1000"), 0)
	if child.Inner, err = innerPID(p, child.PID); err != nil {
		return child, err
	}
	return child, child.stands()
}

// reap has the target take the news that a task which it does not know of has ended. Until then
// the target has a zombie.
func (h *helper) reap(f *Forked) error {
	proc := privilege.ProcPath(f.PID, "stat")
	for began := time.Now(); ; sys.Nap(10 * time.Millisecond) {
		err := callIn(context.Background(), h.p, f.waitIn)
		if _, serr := os.Stat(proc); serr != nil || err == nil || !h.p.Exists() {
			return nil
		}
		if errors.Is(err, ErrFrozen) { // that has no bound
			h.thawed()
			began = time.Now()
		}
		if time.Since(began) > ptracer.Patience {
			return fmt.Errorf("process %d, a task of procmem in the target that has ended, stays as a zombie: %w", f.PID, err)
		}
	}
}
