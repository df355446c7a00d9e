package ptracer

import (
	"errors"
	"fmt"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/process"
)

// A thread in state D waits in the kernel and is not woken by a request to stop. It is in
// vfork, waits for a disk or a server, or is frozen by a control group. It cannot be waited
// for, and need not be: PTRACE_INTERRUPT leaves JOBCTL_TRAP_STOP pending. However a thread
// leaves its wait, it takes that stop on its way to user mode (kernel/signal.c, get_signal).
//
// So the thread runs no code of its own as long as the request is pending. It is pending until
// the tracing thread detaches or ends (kernel/ptrace.c, __ptrace_unlink). What the kernel does
// in the thread's name goes on: see Writes.

const (
	// patienceAsleep is how long a thread must have been in state D, without running, to be
	// given up. Some wait there for a page or a lock, and not long.
	patienceAsleep = 500 * time.Microsecond
	// firstInquiry is when the threads that have not stopped yet are first looked at. Most stop
	// in a tenth of that.
	firstInquiry = 250 * time.Microsecond
	// maxEarlyInquiries bounds the number of threads that are looked at so early.
	maxEarlyInquiries = 16
)

// Reasons why the registers of a thread are missing or not whole.
var (
	ErrRunning  = errors.New("not stopped, and on a processor: registers are not known")
	ErrWouldNot = errors.New("it did not stop: only its pc, sp and arguments are known, from /proc")
	ErrUnknown  = errors.New("it did not stop, and /proc does not tell where it is")
)

// Reason is an error that gob can encode. It says why the registers of a thread are missing or
// not whole. errors.Is finds ErrWouldNot, ErrUnknown or neither in it.
type Reason struct {
	Text     string
	WouldNot bool
	Unknown  bool
}

func (r *Reason) Error() string { return r.Text }

// Is reports whether target is ErrWouldNot or ErrUnknown, by the flags.
func (r *Reason) Is(target error) bool {
	return r.WouldNot && target == ErrWouldNot || r.Unknown && target == ErrUnknown
}

// asleep is what was seen of a thread in state D.
type asleep struct {
	runs  uint64 // number of times that it was given a processor
	since time.Time
}

// sleeps reports whether a thread that was asked to stop is to be given up. It is if it has
// been in state D, without running, for patienceAsleep.
func (t *Tracer) sleeps(tid int, th *traced, st *process.Stat) bool {
	if st.State != 'D' {
		th.asleep = nil
		return false
	}
	runs, _ := t.p.ThreadRuns(tid) // 0 if the kernel does not count; then the state alone decides
	now := time.Now()
	if th.asleep == nil || th.asleep.runs != runs {
		th.asleep = &asleep{runs, now}
		return false
	}
	return now.Sub(th.asleep.since) >= patienceAsleep
}

// giveUp notes that a thread is no longer waited for. Its system call is looked up now, because
// the thread may have left it when the pause is over.
func (t *Tracer) giveUp(tid int, th *traced) {
	th.refused = true
	if call, err := t.p.ThreadSyscall(tid); err == nil && !call.Running {
		th.call = call
	}
}

// GivenUp returns the threads that are not waited for, each with the system call that it was
// in. The call is nil if it is not known. Only the tracing thread may call GivenUp.
func (t *Tracer) GivenUp() map[int]*process.Syscall {
	var out map[int]*process.Syscall
	for tid, th := range t.threads {
		if th.refused {
			if out == nil {
				out = make(map[int]*process.Syscall)
			}
			out[tid] = th.call
		}
	}
	return out
}

// notHeld returns what /proc tells of a thread that has not stopped.
func (t *Tracer) notHeld(tid int, arch procmem.Arch) (th Taken) {
	th.TID = tid
	where := Sleep(t.p, tid, arch)
	if regs, _ := BlockedRegs(t.p, tid, arch); regs != nil {
		th.Regsets = []procmem.Regset{{Type: procmem.NTPRStatus, Data: regs}}
		th.Reason = &Reason{Text: where + ": only its pc, sp and arguments are known, from /proc", WouldNot: true}
		return th
	}
	th.Reason = &Reason{Text: where + ", and /proc does not tell where it is", Unknown: true}
	return th
}

// Sleep returns a clause for people that says why a thread does not stop.
func Sleep(p *process.Process, tid int, arch procmem.Arch) string {
	st, err := p.ThreadStat(tid)
	if err != nil || st.State != 'D' {
		return "it did not stop in time"
	}
	in := ""
	if call, err := p.ThreadSyscall(tid); err == nil && !call.Running && call.Number >= 0 {
		in = ", in " + CallName(arch, call.Number)
	}
	if p.ThreadFrozen(tid) {
		return fmt.Sprintf("it does not stop: it is frozen by its control group (state D%s)", in)
	}
	return fmt.Sprintf("it does not stop: it waits in the kernel and cannot be interrupted (state D%s)", in)
}
