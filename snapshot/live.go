package snapshot

import (
	"errors"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/process"
)

// errOnlyBlocked says why the registers of a thread that was not stopped are not whole
// (procmem.Thread.Err).
var errOnlyBlocked = errors.New("not stopped: only what /proc tells of a blocked thread, its pc, sp and arguments")

// live looks at a process that goes on. It does not use ptrace, so it also works on a process
// that is traced already.
func live(p *process.Process, o Options) (*Snapshot, error) {
	b, err := describe(p)
	if err != nil {
		return nil, err
	}
	s := &Snapshot{Method: MethodLive, img: b.img}
	tids, err := p.Threads()
	if err != nil {
		return nil, err
	}
	for _, tid := range tids {
		t, ok := b.infos[tid]
		if !ok {
			continue
		}
		t.Wait, _ = p.ThreadWait(tid)
		regs, err := ptracer.BlockedRegs(p, tid, b.img.Arch)
		if regs != nil {
			t.Regsets = []procmem.Regset{{Type: procmem.NTPRStatus, Data: regs}}
			t.Err = errOnlyBlocked
		} else {
			t.Err = err
		}
		s.addThread(t, tid == p.PID())
	}
	view, err := p.View()
	if err != nil {
		return nil, err
	}
	s.show(view)
	if o.Prepare != nil {
		if _, err := o.Prepare(s.Program(), view); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	s.taken = time.Now()
	return s, nil
}
