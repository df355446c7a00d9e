package inject

import (
	"cmp"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/internal/sys"
)

// errForeign reports that the thread was about to make another call than it was told to,
// because the instruction was overwritten.
var errForeign = errors.New("its vDSO does not hold the kernel's instruction any more")

// request is a system call that a thread is to make.
type request struct {
	number uint64
	args   []uint64 // at most six
}

// result is what a system call in the target returned.
type result struct {
	value uint64
	child int // id of the child born in the call, which has not run; 0 for none
}

// errno returns the error of the call, or 0.
func (r result) errno() unix.Errno {
	if n := -int64(r.value); n > 0 && n < 4096 {
		return unix.Errno(n)
	}
	return 0
}

// Results that only the kernel sees, of a call that is to begin again (include/linux/errno.h):
// ERESTARTSYS to ERESTART_RESTARTBLOCK.
const (
	firstRestart = 512
	lastRestart  = 516
)

// call has a held thread of the target, whose registers are regs, make one system call.
// Afterwards the thread is held where it was, with all its registers. So the call of its own
// that was interrupted begins again when the thread goes on. The result may have a child even
// with an error.
func (c *Injector) call(tid int, regs []byte, number uint64, args ...uint64) (result, error) {
	return c.callWith(regs, tid, regs, number, args...)
}

// callWith is call with other registers during the call, but for those that the call itself
// determines.
func (c *Injector) callWith(during []byte, tid int, regs []byte, number uint64, args ...uint64) (result, error) {
	filtered, err := c.filtered(tid)
	if err != nil {
		return result{}, err
	}
	w := waiter{c: c, tid: tid}
	x := execution{wait: w.stop, late: &w.late, tid: tid, filtered: filtered, turn: c.turn(tid, regs)}
	res, err := x.run(callRegs(during, c.pc, number, args...), c.pc, request{number, args})
	if x.signal != 0 {
		c.t.SetSignal(tid, x.signal) // will be delivered once, when the thread goes on
	}
	rerr := c.restore(tid, x.turn.left(regs))
	if rerr == nil {
		rerr = x.turn.settle(c, tid)
	}
	if rerr != nil {
		err = rerr
	}
	return res, err
}

// filtered reports whether the thread is under seccomp.
func (c *Injector) filtered(tid int) (bool, error) {
	st, err := c.t.Process().ThreadStatus(tid)
	if err != nil {
		return false, err
	}
	return st.Seccomp != 0, nil
}

// restore gives the thread its registers back. It must not go on with those of a call, even if
// all else has failed. Nil regs are for a thread that has its own.
func (c *Injector) restore(tid int, regs []byte) error {
	if regs == nil {
		return nil
	}
	err := ptracer.Persist(tid, func() error { return setRegs(tid, regs) })
	if err == nil {
		return nil
	}
	if !c.t.Process().HasThread(tid) {
		c.t.Forget(tid) // the thread was killed
		return procmem.ErrGone
	}
	// The thread exists and is not stopped: Persist has looked.
	w := waiter{c: c, tid: tid}
	for {
		sys.Interrupt(tid)
		status, err := w.stop()
		if err != nil || !status.Stopped() {
			c.t.Forget(tid)
			return procmem.ErrGone
		}
		if ptracer.Persist(tid, func() error { return setRegs(tid, regs) }) == nil {
			return nil
		}
	}
}

// execution is one system call in a held thread.
type execution struct {
	wait     func() (unix.WaitStatus, error) // waits for the next stop
	tid      int
	filtered bool // the thread is under seccomp
	ours     bool // the thread is ours, and its signals can be dropped
	turn     turn // how the thread comes to make the call

	late   *error // why the thread was called back before the call; nil, or a pointer to nil: it was not
	signal int    // the signal that came before the call
}

// run has the thread go on with regs until it has made one system call, with the instruction at
// pc. It leaves the thread held, with the registers that the call has left. It prevents any
// other call that the thread is about to make.
func (x *execution) run(regs []byte, pc uint64, r request) (res result, err error) {
	options := uintptr(unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE)
	if x.ours {
		options |= unix.PTRACE_O_EXITKILL
	}
	err = ptracer.Persist(x.tid, func() error { return sys.SetOptions(x.tid, options) })
	if err == nil {
		err = x.turn.begin(x.tid, regs)
	}
	if errors.Is(err, unix.ESRCH) {
		err = procmem.ErrGone
	}
	if err != nil {
		return res, err
	}
	var refused error
	for entered := false; ; {
		if err := ptracer.Persist(x.tid, func() error { return sys.ContinueToSyscall(x.tid) }); err != nil {
			return res, procmem.ErrGone
		}
		status, err := x.wait()
		if errors.Is(err, errAgentWaits) {
			return res, err
		}
		if err != nil || !status.Stopped() {
			return res, procmem.ErrGone
		}
		switch event := int(status) >> 16; {
		case event == sys.EventClone:
			err := ptracer.Persist(x.tid, func() (err error) { res.child, err = sys.EventMessage(x.tid); return err })
			if err != nil {
				return res, err
			}
		case event != 0 && x.late != nil && *x.late != nil && !entered:
			return res, *x.late
		case event != 0:
			// Job control stopped the thread. It goes on, and will be stopped again.
		case status.StopSignal() != sys.SyscallTrap && x.ours:
			// The signal is meant for the thread group, which the agent does not really belong
			// to.
		case status.StopSignal() != sys.SyscallTrap:
			x.signal = int(status.StopSignal())
			return res, ErrSignalled
		case !entered:
			entered = true
			if refused = x.turn.enter(x.tid, regs, r.number); refused == nil {
				refused = x.admit(options, pc, r)
			}
			if refused != nil {
				x.cancel(regs)
			} else if r.number == callExitGroup {
				// Waiting for the end here would take the news of it.
				return res, ptracer.Persist(x.tid, func() error { return sys.ContinueToSyscall(x.tid) })
			}
		default:
			res, err := x.finish(options, res)
			return res, cmp.Or(refused, err)
		}
	}
}

// admit lets the call of a thread at its entry to the kernel through, if it is the requested
// one. The target's filters see the call after this stop.
func (x *execution) admit(options uintptr, pc uint64, r request) error {
	info, err := x.info()
	if err != nil {
		return err
	}
	want := sys.SyscallInfo{Op: sys.SyscallEntry, Arch: callAudit, PC: pc + uint64(len(callInstruction)), SP: info.SP, Number: r.number, Args: info.Args}
	copy(want.Args[:], r.args)
	x.turn.reported(&want, info)
	if info != want {
		return errForeign
	}
	if x.filtered && sys.SetOptions(x.tid, options|unix.PTRACE_O_SUSPEND_SECCOMP) != nil {
		return ErrSeccomp
	}
	return nil
}

// cancel turns the call of a thread at its entry to the kernel into none.
func (x *execution) cancel(regs []byte) {
	_ = ptracer.Persist(x.tid, func() error { return setRegs(x.tid, noCall(regs)) })
}

// finish reads the result at the exit of the call. It must not fail, so it allocates nothing.
func (x *execution) finish(options uintptr, res result) (result, error) {
	if x.filtered {
		_ = ptracer.Persist(x.tid, func() error { return sys.SetOptions(x.tid, options) })
	}
	info, err := x.info()
	switch {
	case err != nil:
		return res, err
	case info.Op != sys.SyscallExit:
		return res, errForeign
	}
	res.value = info.Number
	if n := res.errno(); n >= firstRestart && n <= lastRestart {
		return res, ErrSignalled
	}
	return res, nil
}

// info returns the system call at which the thread has stopped.
func (x *execution) info() (info sys.SyscallInfo, err error) {
	err = ptracer.Persist(x.tid, func() (err error) { info, err = sys.GetSyscallInfo(x.tid); return err })
	return info, err
}

// waiter waits for the stops of a running thread of the target.
type waiter struct {
	c    *Injector
	tid  int
	late error // why the thread was called back; nil: it was not
}

// stopPatience is how long a thread may take to its next stop before it is called back. After
// recallPatience more, the process that waits for the call is told not to.
const (
	stopPatience   = time.Second
	recallPatience = 100 * time.Millisecond
)

// stop waits for the next stop, as long as it takes, because the thread must not be left with
// registers that are not its own. A control group may freeze the thread on its way. With
// version 2 it comes back when it is called, and with version 1 when it is thawed.
func (w *waiter) stop() (unix.WaitStatus, error) {
	for patience := stopPatience; ; patience = recallPatience {
		status, ok, err := w.c.t.WaitStop(w.tid, patience)
		if ok || err != nil {
			return status, err
		}
		switch {
		case w.late != nil:
			w.c.stuck(w.late)
		case w.c.t.Process().ThreadFrozen(w.tid):
			w.late = ErrFrozen
		default:
			w.late = errForeign // the thread runs something else than the call
		}
		sys.Interrupt(w.tid)
	}
}

// stuck tells the process that waits for the injector, once, not to wait.
func (c *Injector) stuck(why error) {
	if c.late != nil {
		c.late(why)
		c.late = nil
	}
}
