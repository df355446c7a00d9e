package inject

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// fork holds the target, has one of its threads fork, reads the registers, and
// lets the target go on. The child, which never runs, is kept until the other
// end is gone.
func (k *helper) fork(wait bool) error {
	t := ptracer.New(k.p)
	t.Known = k.known
	defer t.Release()
	var (
		c     *Injector
		child *Forked
		n     News
		err   error
	)
	if c, err = New(k.p, t); err != nil {
		return err
	}
	defer c.close()
	if err := t.Stop(k.ctx); err != nil {
		return err
	}
	n.Time = time.Now()
	if wait {
		if err := k.enc.Encode(&News{Held: true}); err != nil {
			return err
		}
	}
	t.Do(func() {
		if child, err = c.fork(); err != nil {
			return
		}
		n.Threads = t.Take(Arch)
	})
	if err != nil {
		if child != nil {
			t.Do(func() { child.kill() })
			t.LetGo()
			child.reap(k.p)
		}
		return fmt.Errorf("fork process %d: %w", k.p.PID(), err)
	}
	if wait {
		select {
		case <-k.word:
		case <-k.ctx.Done():
		case <-time.After(ptracer.Patience):
			// Whoever should give the word is stopped itself: the target
			// must not be for as long as that.
			n.Late = true
		}
	}
	t.LetGo()
	n.Pause = t.Pause()
	n.Child = *child
	k.enc.Encode(&n)
	t.LetGoLate(k.ctx)
	<-k.ctx.Done()
	k.leave(t, c, child)
	return nil
}

// leavePatience is how long threads may be held until all have stopped for
// that.
const leavePatience = time.Second

// leave ends the child and has the target take the news of that, of which no
// thread of it may get hold: all are held meanwhile.
func (k *helper) leave(t *ptracer.Tracer, c *Injector, child *Forked) {
	held := t.Pause()
	t.Do(child.end) // to take down its page tables takes a while
	err := k.holdAll(t)
	t.Do(func() {
		child.kill()
		if err == nil {
			err = c.one(func(tid int, regs []byte) error { return child.waitIn(c, tid, regs) })
		}
	})
	t.Release()
	if err != nil { // again, in any thread, for some time
		err = child.reap(k.p)
	}
	k.undone(err, t.Pause()-held)
}

// holdAll stops all threads, which another tracer may hold at first: as long
// as the child is traced, nobody gets news of it. That one of the threads gets
// them after all is a lesser evil than to wait for ever.
func (k *helper) holdAll(t *ptracer.Tracer) error {
	began := time.Now()
	// Each try may disturb threads, so there are few.
	for rest := 5 * time.Millisecond; ; rest = min(2*rest, time.Second) {
		ctx, cancel := context.WithTimeout(context.Background(), leavePatience)
		err := t.Stop(ctx)
		if err != nil {
			// Those that were attached to can be let go once they have stopped.
			t.Do(func() { t.Interrupt() })
			t.LetGo()
			t.LetGoLate(ctx)
		}
		cancel()
		if err == nil || !k.p.Exists() || time.Since(began) > ptracer.Patience {
			return err
		}
		sys.Nap(rest)
	}
}

// Forked is a copy of the target.
type Forked struct {
	PID   int // as we know it
	Inner int // as the target does
}

// fork has a thread of the target fork. The child shares the table of open
// files, so that what the target closes is closed; it sends no signal when it
// ends, and has been traced, and stopped, since before its first instruction.
// Where there is an error, there may be a child all the same.
func (c *Injector) fork() (child *Forked, err error) {
	err = c.one(func(tid int, regs []byte) error {
		res, err := c.call(tid, regs, callClone, unix.CLONE_FILES, 0, 0, 0, 0)
		if res.child != 0 {
			child = &Forked{res.child, int(res.value)}
			return child.secure()
		}
		if err == nil {
			err = forkError(res.errno())
		}
		return err
	})
	return child, err
}

// forkError explains what a fork in the target failed with.
func forkError(e unix.Errno) error {
	switch e {
	case 0:
		return nil
	case unix.EAGAIN:
		return fmt.Errorf("its limits allow no other process (RLIMIT_NPROC, or a pids control group): %w", e)
	case unix.ENOMEM:
		return fmt.Errorf("its limits leave no memory for a copy (a memory control group, or vm.overcommit_memory): %w", e)
	}
	return e
}

// secure sees to it that the child can harm nobody: where memory is short it
// is the one to go, and it ends with us.
func (f *Forked) secure() error {
	// It cannot fail but by the child being gone.
	os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", f.PID), []byte("1000"), 0)
	status, err := sys.WaitStop(f.PID)
	if err != nil || !status.Stopped() {
		return errChildLost
	}
	if err := sys.SetOptions(f.PID, unix.PTRACE_O_EXITKILL); err != nil {
		return errChildLost
	}
	return nil
}

// end ends the child, which then is a zombie of ours that nobody else sees.
func (f *Forked) end() {
	unix.Kill(f.PID, unix.SIGKILL) // ESRCH: it is gone
	for {
		if exited, err := sys.Exited(f.PID); exited || err != nil {
			return
		}
		sys.Nap(100 * time.Microsecond)
	}
}

// kill ends the child and takes the news of that, so that its parent can.
func (f *Forked) kill() {
	f.end()
	sys.Wait(f.PID)
}

// reap has the target take the news that the child, which it does not know
// of, has ended: until then it would have a zombie.
func (f *Forked) reap(p *process.Process) error {
	proc := fmt.Sprintf("/proc/%d/stat", f.PID)
	for began := time.Now(); ; {
		err := f.reapOnce(p)
		if _, serr := os.Stat(proc); serr != nil || err == nil || !p.Exists() {
			return nil
		}
		if time.Since(began) > ptracer.Patience {
			return fmt.Errorf("process %d, a copy of the target that has ended, stays as a zombie: %w", f.PID, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (f *Forked) reapOnce(p *process.Process) error {
	return callIn(context.Background(), p, f.waitIn)
}

// waitIn has a thread of the target take the news.
func (f *Forked) waitIn(c *Injector, tid int, regs []byte) error {
	res, err := c.call(tid, regs, callWait4, uint64(f.Inner), 0, unix.WNOHANG|unix.WALL, 0)
	switch {
	case err != nil:
		return err
	case int(res.value) == f.Inner, res.errno() == unix.ECHILD:
		return nil
	case res.errno() != 0:
		return res.errno()
	}
	return errors.New("it has not ended yet")
}

var errChildLost = errors.New("the copy was ended as soon as it was made")
