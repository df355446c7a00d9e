package snapshot

import (
	"fmt"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/sys"
)

// taken is what only the tracer can tell of a thread: its registers and
// signals. It can travel.
type taken struct {
	TID     int
	Regsets []procmem.Regset
	Blocked uint64
	Pending uint64
	Reason  string // why the registers are missing or not whole
	// Info is what can be known without a tracer, of a thread that was born
	// after all others were looked at, and may be gone when it goes on.
	Info *procmem.Thread
}

// take reads the registers of all threads, on the tracing thread, and what is
// not known of them yet.
func (t *tracer) take(arch procmem.Arch) []taken {
	out := make([]taken, 0, len(t.tids))
	for _, tid := range t.tids {
		th, ok := t.early[tid]
		if !ok {
			th = t.takeOne(tid, arch)
		}
		if t.known != nil && !t.known[tid] {
			if info, err := t.p.ThreadInfo(tid); err == nil {
				th.Info = &info
			}
		}
		out = append(out, th)
	}
	return out
}

func (t *tracer) takeOne(tid int, arch procmem.Arch) taken {
	th := taken{TID: tid}
	if !t.held(tid) {
		th.Reason = errUnknown.Error()
		if regs, _ := blockedRegs(t.p, tid, arch); regs != nil {
			th.Regsets = []procmem.Regset{{Type: procmem.NTPRStatus, Data: regs}}
			th.Reason = errWouldNot.Error()
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
