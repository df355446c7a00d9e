package ptracer

import (
	"fmt"
	"slices"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// Taken is what only the tracer can tell of a thread: its registers and signals. gob can encode
// it.
type Taken struct {
	TID     int
	Regsets []procmem.Regset
	Blocked uint64  // mask of signals; bit i is signal i+1
	Pending uint64  // the same
	Reason  *Reason // why the registers are missing or not whole; nil: they are whole
	// Call is the system call in which the thread was given up. The thread may have gone on
	// since. It is nil for threads that were not given up, and if the call is not known.
	Call *process.Syscall
	// Info is what can be known without a tracer. It is set for a thread that was born after
	// the others were looked at, because it may be gone after the pause.
	Info *procmem.Thread
}

// Calls returns the system calls of the threads that were given up, as far as they are known.
func Calls(threads []Taken) (out []*process.Syscall) {
	for _, th := range threads {
		if th.Call != nil {
			out = append(out, th.Call)
		}
	}
	return out
}

// Take returns the registers of all threads. For threads that Known lacks, it also sets Info.
// Only the tracing thread may call it.
func (t *Tracer) Take(arch procmem.Arch) []Taken {
	for _, tid := range slices.Clone(t.tids) {
		if th := t.threads[tid]; th.refused {
			t.look(tid, th) // it may have stopped since, or exited
		}
	}
	out := make([]Taken, 0, len(t.tids))
	for _, tid := range t.tids {
		th, ok := t.early[tid]
		if !ok {
			th = t.TakeOne(tid, arch)
		}
		th.Call = t.threads[tid].call
		if t.Known != nil && !t.Known[tid] {
			if info, err := t.p.ThreadInfo(tid); err == nil {
				th.Info = &info
			}
		}
		out = append(out, th)
	}
	return out
}

// TakeOne returns the registers of one thread. Only the tracing thread may call it.
func (t *Tracer) TakeOne(tid int, arch procmem.Arch) (th Taken) {
	th.TID = tid
	if !t.Held(tid) {
		return t.notHeld(tid, arch)
	}
	read := t.regs.all
	if t.General {
		read = t.regs.general
	}
	sets, err := read(tid, arch)
	if err != nil {
		th.Reason = &Reason{Text: fmt.Sprintf("read registers: %v", err)}
		return th
	}
	if th.Regsets = sets; t.General {
		return th
	}
	if mask, err := sys.GetSigmask(tid); err == nil {
		th.Blocked = mask
	}
	if pending, err := sys.PendingSignals(tid); err == nil {
		th.Pending = pending
	}
	return th
}
