package snapshot

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/process"
)

// Reasons why the registers of a thread are missing or not whole
// (procmem.Thread.Err).
var (
	errOnlyBlocked = errors.New("not stopped: only what /proc tells of a blocked thread, its pc, sp and arguments")
	errRunning     = errors.New("not stopped, and on a processor: registers are not known")
	errWouldNot    = errors.New("did not stop in time: only its pc, sp and arguments are known, from /proc")
	errUnknown     = errors.New("did not stop in time, and /proc does not tell where it is")
)

// Stop holds every thread of the process until Release. It needs the rights
// of a debugger and that nobody else traces the process: EPERM otherwise.
//
// A thread that does not stop, because it waits in the kernel without being
// interruptible (a disk, the parent of a vfork), cannot run code of its own
// either and does not hold up the others for long: it gets an Err, and the
// registers that /proc knows.
//
// The registers are being read when Stop returns, which takes a while where
// there are thousands of threads: Image waits for that.
func Stop(ctx context.Context, p *process.Process) (*Snapshot, error) {
	s, err := hold(ctx, p)
	if err != nil {
		return nil, err
	}
	if s.View, err = p.View(); err != nil {
		s.Close()
		return nil, err
	}
	s.Stopped(s.tracer.do)
	s.img.Mappings, _ = s.Mappings()
	return s, nil
}

// Threads holds the process for as long as it takes to read the registers of
// its threads, and returns its image together with the pause. Rights and
// errors as of Stop. The mappings are those of a moment later.
func Threads(ctx context.Context, p *process.Process) (*procmem.Image, time.Duration, error) {
	s, err := hold(ctx, p)
	if err != nil {
		return nil, 0, err
	}
	pause := s.Release()
	img := s.Image()
	img.Mappings, err = p.Mappings()
	return img, pause, err
}

// hold stops the process and reads everything but its memory.
func hold(ctx context.Context, p *process.Process) (s *Snapshot, err error) {
	s = &Snapshot{Method: MethodStop}
	infos, err := s.before(p)
	if err != nil {
		return nil, err
	}
	// A refusal must come before anything is stopped.
	if err := p.MayRead(); err != nil {
		return nil, err
	}

	s.tracer = newTracer(p)
	defer func() {
		if err != nil {
			s.Close()
			s = nil
		}
	}()
	if err = s.tracer.stop(ctx); err != nil {
		return s, err
	}
	// An exec in the meantime has made another process of it.
	before := s.img.Auxv
	if err = s.program(p); err != nil {
		return s, err
	}
	if !bytes.Equal(before, s.img.Auxv) {
		state := s.img.Process.State
		if s.img.Process, err = p.Info(); err != nil {
			return s, err
		}
		s.img.Process.State = state
	}
	s.tracer.begin(func() { s.readThreads(p, infos) })
	return s, nil
}

// readThreads fills the image with the threads that are held, on the tracing
// thread.
func (s *Snapshot) readThreads(p *process.Process, infos map[int]procmem.Thread) {
	arch := s.img.Arch
	for _, tid := range s.tracer.tids {
		t, ok := infos[tid]
		if !ok { // born after the look, or the heir of an exec
			var err error
			if t, err = p.ThreadInfo(tid); err != nil {
				continue
			}
		}
		if !s.tracer.held(tid) {
			regs, _ := blockedRegs(p, tid, arch)
			t.Err = errUnknown
			if regs != nil {
				t.Regsets = []procmem.Regset{{Type: procmem.NTPRStatus, Data: regs}}
				t.Err = errWouldNot
			}
		} else {
			s.tracer.registers(tid, arch, &t)
		}
		s.addThread(t, tid == p.PID())
	}
}
