package inject

import (
	"bytes"
	"cmp"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// errForeign reports that the thread was about to make another call than the
// one that it was told to: somebody has written to the instruction.
var errForeign = errors.New("its vDSO does not hold the kernel's instruction any more")

// request is a system call that a thread is to make.
type request struct {
	number uint64
	args   []uint64 // no more than six
}

// result is what a system call in the target returned.
type result struct {
	value uint64
	child int // born in the call, 0 for none; it has not run
}

// errno returns the error of the call, or 0.
func (r result) errno() unix.Errno {
	if n := -int64(r.value); n > 0 && n < 4096 {
		return unix.Errno(n)
	}
	return 0
}

// Results that only the kernel sees, of a call that is to begin again
// (include/linux/errno.h): ERESTARTSYS to ERESTART_RESTARTBLOCK.
const (
	firstRestart = 512
	lastRestart  = 516
)

// call has a thread of the target, which is held and whose registers are regs,
// make one system call. Afterwards the thread is held where it was, with all its
// registers, so that the call of its own that was interrupted begins again when
// it goes on. There may be a child with an error, too.
func (c *Injector) call(tid int, regs []byte, number uint64, args ...uint64) (result, error) {
	return c.callWith(regs, tid, regs, number, args...)
}

// callWith is call with other registers during the call, where it does not say
// itself what they are.
func (c *Injector) callWith(during []byte, tid int, regs []byte, number uint64, args ...uint64) (result, error) {
	filtered, err := c.filtered(tid)
	if err != nil {
		return result{}, err
	}
	w := waiter{c: c, tid: tid}
	x := execution{wait: w.stop, late: &w.late, tid: tid, filtered: filtered}
	res, err := x.run(callRegs(during, c.pc, number, args...), c.pc, request{number, args})
	if x.signal != 0 {
		c.t.SetSignal(tid, x.signal) // will be delivered, once, when the thread goes on
	}
	if rerr := c.restore(tid, regs); rerr != nil {
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

// restore gives the thread its registers back. Whatever else has failed, it
// must not go on with those of a call.
func (c *Injector) restore(tid int, regs []byte) error {
	err := persist(tid, func() error { return setRegs(tid, regs) })
	if err == nil {
		return nil
	}
	if !c.t.Process().HasThread(tid) {
		c.t.Forget(tid) // it was killed
		return procmem.ErrGone
	}
	// It is not stopped: nothing else answers ESRCH for a thread that is there.
	w := waiter{c: c, tid: tid}
	for {
		sys.Interrupt(tid)
		status, err := w.stop()
		if err != nil || !status.Stopped() {
			c.t.Forget(tid)
			return procmem.ErrGone
		}
		if persist(tid, func() error { return setRegs(tid, regs) }) == nil {
			return nil
		}
	}
}

// persist does again what has failed for another reason than that the thread
// is gone, or not stopped: a thread is at stake that is not as it was.
func persist(tid int, f func() error) (err error) {
	for range 100 {
		if err = f(); err == nil || errors.Is(err, unix.ESRCH) && !isStopped(tid) {
			return err
		}
		sys.Nap(time.Millisecond)
	}
	return err
}

// isStopped reports whether a thread is there, and stopped for its tracer.
func isStopped(tid int) bool {
	text, err := privilege.ReadProc(tid, "stat")
	if err != nil {
		return false
	}
	st, err := process.ParseStat(bytes.NewReader(text))
	return err == nil && st.State == 't'
}

// execution is one system call in a thread that is held.
type execution struct {
	wait     func() (unix.WaitStatus, error) // for the next stop
	tid      int
	filtered bool // it is under seccomp
	ours     bool // nobody misses its signals

	late   *error // why it was called back before the call; nil, or of nil: it was not
	signal int    // that came first
}

// run has the thread go on with the registers until it has made one system
// call, of the instruction at pc, and leaves it held with what the call made of the
// registers. Whatever else the thread is about to call, it does not.
func (x *execution) run(regs []byte, pc uint64, r request) (res result, err error) {
	options := uintptr(unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE)
	if x.ours {
		options |= unix.PTRACE_O_EXITKILL
	}
	err = persist(x.tid, func() error { return sys.SetOptions(x.tid, options) })
	if err == nil {
		err = setRegs(x.tid, regs)
	}
	if errors.Is(err, unix.ESRCH) {
		err = procmem.ErrGone
	}
	if err != nil {
		return res, err
	}
	var refused error
	for entered := false; ; {
		if err := persist(x.tid, func() error { return sys.ContinueToSyscall(x.tid) }); err != nil {
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
			err := persist(x.tid, func() (err error) { res.child, err = sys.EventMessage(x.tid); return err })
			if err != nil {
				return res, err
			}
		case event != 0 && x.late != nil && *x.late != nil && !entered:
			return res, *x.late
		case event != 0:
			// It was stopped by job control: it goes on, and will be again.
		case status.StopSignal() != sys.SyscallTrap && x.ours:
			// Meant for all of its group, which it is not really one of.
		case status.StopSignal() != sys.SyscallTrap:
			x.signal = int(status.StopSignal())
			return res, ErrSignalled
		case !entered:
			entered = true
			if refused = x.admit(options, pc, r); refused != nil {
				x.cancel(regs)
			} else if r.number == callExitGroup {
				// The end is not waited for here: that would take the news of it.
				return res, persist(x.tid, func() error { return sys.ContinueToSyscall(x.tid) })
			}
		default:
			res, err := x.finish(options, res)
			return res, cmp.Or(refused, err)
		}
	}
}

// admit lets the call of a thread at its entry to the kernel through, if it is
// the one that is meant. The filters of the target see it after this stop.
func (x *execution) admit(options uintptr, pc uint64, r request) error {
	info, err := x.info()
	if err != nil {
		return err
	}
	want := sys.SyscallInfo{Op: sys.SyscallEntry, Arch: callAudit, PC: pc + uint64(len(callInstruction)), SP: info.SP, Number: r.number, Args: info.Args}
	copy(want.Args[:], r.args)
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
	_ = persist(x.tid, func() error { return setRegs(x.tid, noCall(regs)) })
}

// finish reads the result at the exit of the call. Nothing is allocated for that:
// it must not fail.
func (x *execution) finish(options uintptr, res result) (result, error) {
	if x.filtered {
		_ = persist(x.tid, func() error { return sys.SetOptions(x.tid, options) })
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

// info tells at which system call the thread has stopped.
func (x *execution) info() (info sys.SyscallInfo, err error) {
	err = persist(x.tid, func() (err error) { info, err = sys.GetSyscallInfo(x.tid); return err })
	return info, err
}

// waiter waits for the stops of a thread of the target that goes on.
type waiter struct {
	c    *Injector
	tid  int
	late error // why the thread was called back; nil: it was not
}

// How long a thread may take to its next stop before it is called back, and then
// before whoever waits for the call is told not to.
const (
	stopPatience   = time.Second
	recallPatience = 100 * time.Millisecond
)

// stop waits for the next stop, as long as it takes: the thread must not be left
// with registers that are not its own. A thread that is frozen on its way by a control
// group of version 2 comes back when it is called; by one of version 1 it does when it is
// thawed.
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
			w.late = errForeign // it runs something else than the call
		}
		sys.Interrupt(w.tid)
	}
}

// stuck tells, once, that whoever waits for the injector is not to.
func (c *Injector) stuck(why error) {
	if c.late != nil {
		c.late(why)
		c.late = nil
	}
}
