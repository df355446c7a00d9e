package inject

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/internal/sys"
)

// turn is how a thread comes to make a call.
//
// When a tracer sees a thread that was interrupted in a call of its own, the kernel remembers
// in a local variable how that call begins again (arch/arm64/kernel/signal.c, do_signal). The
// registers do not tell: a sleep that began with them would be as long as the whole, and a
// pause(2) would not end with the next signal. So such a thread is let go on to the entry of its
// own call, and makes ours in its place. At the exit it gets what its call would have returned:
// the result by which the kernel begins it again. One more stop then takes it to where it was.
//
// A thread in user mode gets registers by which it makes the call.
type turn struct {
	instead bool // the call takes the place of one of the thread's own
	entered bool // the thread has come to the entry of its own call
	before  []byte
	own     []byte // registers at that entry; nil: they could not be read
	vectors []procmem.Regset
}

func (c *Injector) turn(tid int, regs []byte) turn {
	if c.state(regs).blocked {
		return turn{instead: true, before: regs}
	}
	return turn{vectors: wideVectors(tid)}
}

// begin prepares the thread to go on to the entry of a call.
func (t *turn) begin(tid int, regs []byte) error {
	if t.instead {
		return nil
	}
	return ptracer.Persist(tid, func() error { return setRegs(tid, regs) })
}

// enter has a thread at the entry of its own call make another one.
func (t *turn) enter(tid int, regs []byte, number uint64) error {
	if !t.instead {
		return nil
	}
	t.entered = true
	err := ptracer.Persist(tid, func() (err error) { t.own, err = getRegs(tid); return err })
	if err != nil {
		return err
	}
	if word(t.own, regPC) != word(t.before, regPC)+uint64(len(callInstruction)) {
		return errForeign
	}
	ours := slices.Clone(regs)
	setWord(ours, regPC, word(regs, regPC)+uint64(len(callInstruction)))
	setWord(ours, regCall, number)
	return ptracer.Persist(tid, func() error { return setRegs(tid, ours) })
}

// reported corrects what the kernel is to tell of the call. Its first argument is reported as that
// of the call that the thread has begun.
func (t *turn) reported(want *sys.SyscallInfo, info sys.SyscallInfo) {
	if t.instead {
		want.Args[0] = info.Args[0]
	}
}

// left returns the registers that the thread is to be given after the call; nil: it has its own.
// In place of its own call, these are those of a call that was interrupted.
func (t *turn) left(regs []byte) []byte {
	switch {
	case !t.instead, t.entered && t.own == nil:
		return regs
	case !t.entered:
		return nil
	}
	out := slices.Clone(t.own)
	if word(out, regCall) == unix.SYS_RESTART_SYSCALL { // which the kernel has put there
		setWord(out, regX8, word(t.before, regX8))
	}
	setWord(out, 0, -uint64(restartOf(t.own)))
	return out
}

// settle takes the thread from the exit of the call to where it was.
func (t *turn) settle(c *Injector, tid int) error {
	if t.instead && t.own != nil {
		return c.settle(tid, word(t.own, 0))
	}
	for _, set := range t.vectors {
		if err := ptracer.Persist(tid, func() error { return sys.SetRegset(tid, set.Type, set.Data) }); err != nil {
			return err
		}
	}
	return nil
}

// settle takes a thread from the exit of a call to the next stop in the kernel, where pc is back at
// its own call. So is the first argument, or else ours is there: not all kernels keep the former.
func (c *Injector) settle(tid int, first uint64) error {
	err := ptracer.Persist(tid, func() error { return sys.Interrupt(tid) })
	if err == nil {
		err = ptracer.Persist(tid, func() error { return sys.ContinueWith(tid, 0) })
	}
	if err != nil {
		return err // it is held, and begins its call again when it is let go
	}
	w := waiter{c: c, tid: tid}
	status, err := w.stop()
	if err != nil || !status.Stopped() {
		c.t.Forget(tid) // the thread was killed
		return procmem.ErrGone
	}
	if event := int(status) >> 16; event != sys.EventStop {
		c.t.SetSignal(tid, int(status.StopSignal()))
	}
	return ptracer.Persist(tid, func() error {
		regs, err := getRegs(tid)
		if err != nil || word(regs, 0) == first {
			return err
		}
		setWord(regs, 0, first)
		return setRegs(tid, regs)
	})
}

// Results that only the kernel sees, of a call that was interrupted (include/linux/errno.h).
const (
	restartUnlessRefused = 512 // ERESTARTSYS: EINTR after a handler without SA_RESTART
	restartAlways        = 513 // ERESTARTNOINTR
	restartUnlessHandled = 514 // ERESTARTNOHAND: EINTR after any handler
	restartByBlock       = 516 // ERESTART_RESTARTBLOCK: that, and restart_syscall(2) knows the time that is left
)

// restartOf returns the result of a call at whose entry a thread has these registers, if the
// call was interrupted. A call with a time that is left comes as restart_syscall(2). Under its
// own number it has not begun yet.
func restartOf(entry []byte) int64 {
	switch word(entry, regCall) {
	case unix.SYS_RESTART_SYSCALL:
		return restartByBlock
	case unix.SYS_PPOLL, unix.SYS_PSELECT6, unix.SYS_RT_SIGSUSPEND, unix.SYS_MSGRCV, unix.SYS_MSGSND, unix.SYS_IO_PGETEVENTS:
		return restartUnlessHandled
	case unix.SYS_CLOCK_NANOSLEEP:
		if word(entry, 1)&unix.TIMER_ABSTIME != 0 {
			return restartUnlessHandled
		}
	case unix.SYS_FUTEX:
		const command, wait, waitBitset = 127, 0, 9
		if op := word(entry, 1) & command; (op == wait || op == waitBitset) && word(entry, 3) == 0 {
			return restartUnlessRefused
		}
	case unix.SYS_READ, unix.SYS_WRITE, unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_PREAD64, unix.SYS_PWRITE64,
		unix.SYS_PREADV, unix.SYS_PWRITEV, unix.SYS_PREADV2, unix.SYS_PWRITEV2,
		unix.SYS_RECVFROM, unix.SYS_RECVMSG, unix.SYS_RECVMMSG, unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_SENDMMSG,
		unix.SYS_ACCEPT, unix.SYS_ACCEPT4, unix.SYS_CONNECT,
		unix.SYS_SPLICE, unix.SYS_TEE, unix.SYS_VMSPLICE, unix.SYS_SENDFILE,
		unix.SYS_WAIT4, unix.SYS_WAITID, unix.SYS_FUTEX_WAIT, unix.SYS_FUTEX_WAITV,
		unix.SYS_IOCTL, unix.SYS_FCNTL, unix.SYS_FLOCK, unix.SYS_OPENAT, unix.SYS_OPENAT2,
		unix.SYS_MQ_TIMEDSEND, unix.SYS_MQ_TIMEDRECEIVE, unix.SYS_GETRANDOM:
		return restartUnlessRefused
	}
	return restartAlways
}
