package ptracer

import (
	"errors"
	"fmt"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/process"
)

// A thread in state D waits in the kernel and is not woken by a request to stop:
// it is in vfork, waits for a disk or a server, or is frozen by a control group. It
// cannot be waited for, and need not be: PTRACE_INTERRUPT leaves JOBCTL_TRAP_STOP
// pending, and a thread takes that on its way to user mode (kernel/signal.c,
// get_signal), however it leaves its wait. So it runs no code of its own as long as
// the request is pending, which is until the tracing thread detaches or ends
// (kernel/ptrace.c, __ptrace_unlink). What the kernel does in its name goes on: see
// Writes.

const (
	// patienceAsleep is for how long a thread must have been in state D, without
	// running, to be given up: some wait there for a page or a lock, and not long.
	patienceAsleep = 500 * time.Microsecond
	// firstInquiry is when the threads are looked at that have not stopped yet.
	// Most stop in a tenth of that.
	firstInquiry = 250 * time.Microsecond
	// fewPending bounds the threads that are looked at so early.
	fewPending = 16
)

// Reasons why the registers of a thread are missing or not whole.
var (
	ErrRunning  = errors.New("not stopped, and on a processor: registers are not known")
	ErrWouldNot = errors.New("it did not stop: only its pc, sp and arguments are known, from /proc")
	ErrUnknown  = errors.New("it did not stop, and /proc does not tell where it is")
)

// Reason is an error that can travel: why the registers of a thread are missing
// or not whole. It is ErrWouldNot, ErrUnknown or neither.
type Reason struct {
	Text     string
	WouldNot bool
	Unknown  bool
}

func (r *Reason) Error() string { return r.Text }

// Is tells errors.Is which of the reasons it is.
func (r *Reason) Is(target error) bool {
	return r.WouldNot && target == ErrWouldNot || r.Unknown && target == ErrUnknown
}

// asleep is what was seen of a thread in state D.
type asleep struct {
	runs  uint64 // how often it had been given a processor
	since time.Time
}

// sleeps reports whether a thread that was asked to stop is to be given up: it is
// in state D, and has been, without running, for as long as patience lasts.
func (t *Tracer) sleeps(tid int, th *traced, st *process.Stat) bool {
	if st.State != 'D' {
		th.asleep = nil
		return false
	}
	runs, _ := t.p.ThreadRuns(tid) // 0 where the kernel does not count: the state must do
	now := time.Now()
	if th.asleep == nil || th.asleep.runs != runs {
		th.asleep = &asleep{runs, now}
		return false
	}
	return now.Sub(th.asleep.since) >= patienceAsleep
}

// giveUp notes that a thread is not waited for any more. What it does in the
// kernel is looked up now: it may have left it when the pause is over.
func (t *Tracer) giveUp(tid int, th *traced) {
	th.refused = true
	if call, err := t.p.ThreadSyscall(tid); err == nil && !call.Running {
		th.call = call
	}
}

// GivenUp returns the threads that are not waited for, with the system call that
// each was in; nil where that is not known. Only the tracing thread may call it.
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

// notHeld tells what /proc does of a thread that has not stopped.
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

// Sleep says in words why a thread does not stop.
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
