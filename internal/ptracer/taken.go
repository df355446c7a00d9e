package ptracer

import (
	"errors"
	"fmt"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/sys"
)

// Reasons why the registers of a thread are missing or not whole.
var (
	ErrRunning  = errors.New("not stopped, and on a processor: registers are not known")
	ErrWouldNot = errors.New("did not stop in time: only its pc, sp and arguments are known, from /proc")
	ErrUnknown  = errors.New("did not stop in time, and /proc does not tell where it is")
)

// Taken is what only the tracer can tell of a thread: its registers and
// signals. It can travel.
type Taken struct {
	TID     int
	Regsets []procmem.Regset
	Blocked uint64
	Pending uint64
	Reason  string // why the registers are missing or not whole
	// Info is what can be known without a tracer, of a thread that was born
	// after all others were looked at, and may be gone when it goes on.
	Info *procmem.Thread
}

// Take reads the registers of all threads, on the tracing thread, and what is
// not known of them yet.
func (t *Tracer) Take(arch procmem.Arch) []Taken {
	out := make([]Taken, 0, len(t.tids))
	for _, tid := range t.tids {
		th, ok := t.early[tid]
		if !ok {
			th = t.TakeOne(tid, arch)
		}
		if t.Known != nil && !t.Known[tid] {
			if info, err := t.p.ThreadInfo(tid); err == nil {
				th.Info = &info
			}
		}
		out = append(out, th)
	}
	return out
}

// TakeOne reads the registers of one thread, on the tracing thread.
func (t *Tracer) TakeOne(tid int, arch procmem.Arch) Taken {
	th := Taken{TID: tid}
	if !t.Held(tid) {
		th.Reason = ErrUnknown.Error()
		if regs, _ := BlockedRegs(t.p, tid, arch); regs != nil {
			th.Regsets = []procmem.Regset{{Type: procmem.NTPRStatus, Data: regs}}
			th.Reason = ErrWouldNot.Error()
		}
		return th
	}
	sets, err := t.regs.all(tid, arch)
	if err != nil {
		th.Reason = fmt.Sprintf("read registers: %v", err)
		return th
	}
	th.Regsets = sets
	if mask, err := sys.GetSigmask(tid); err == nil {
		th.Blocked = mask
	}
	if pending, err := sys.PendingSignals(tid); err == nil {
		th.Pending = pending
	}
	return th
}
