package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/holders"
	"github.com/procmem/procmem/internal/inject"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/process"
)

// Method is how a moment is taken.
type Method string

// The methods.
const (
	MethodAuto    Method = "auto"    // the one of the others that meets the bound at the least cost to the target
	MethodStop    Method = "stop"    // all threads are held while the memory is copied
	MethodFork    Method = "fork"    // all threads are held while the process is made to copy itself
	MethodPrecopy Method = "precopy" // memory is copied while they run, and again what they have written since; then they are held for the rest
	MethodLive    Method = "live"    // nothing is held: memory may be torn
)

// ErrStays reports that the process does not let itself be put in order now, as one does
// that a control group has frozen in the middle of it. A helper process waits for that and
// then finishes; nobody else can trace the process until then. Close returns it, too, of
// a moment that is whole.
var ErrStays = inject.ErrStays

// Snapshot is a moment of a process. It is a procmem.Sparse. Release must be
// called, once the memory has been copied, and Close at the end.
type Snapshot struct {
	procmem.Sparse
	Method Method
	// Torn is the memory that may be of another moment, ascending.
	Torn []Torn
	// Unheld tells, once the process has been let go, which others went on meanwhile
	// though they share its memory, and why: all of the memory may be torn.
	Unheld []string
	// Rounds is how often memory was copied before the pause.
	Rounds int
	// Why tells why this method was taken, where that was not asked for.
	Why string

	img     procmem.Image // all but the threads
	threads []procmem.Thread
	tracer  *ptracer.Tracer
	leave   func() time.Duration // ends what the process has to be held for again
	pause   time.Duration
	taken   time.Time
	alive   func() error // reports whether what the memory is read from is still there
	undos   []func() error
	around  map[holders.ID]around // who else has what of the shared memory
}

// Take takes a moment by the method of the options. With a bound for the
// pause it refuses what is expected to exceed it (RefusedError).
func Take(ctx context.Context, p *process.Process, o Options) (*Snapshot, error) {
	if err := p.CheckNamespace(); err != nil && o.Method != MethodLive {
		return nil, fmt.Errorf("stop process %d: %w", p.PID(), err)
	}
	if cmp.Or(o.Method, MethodAuto) == MethodAuto || o.MaxPause > 0 && o.Method != MethodLive {
		return Auto(ctx, p, o)
	}
	return take(ctx, p, o)
}

// take is Take for a method that has been chosen.
func take(ctx context.Context, p *process.Process, o Options) (*Snapshot, error) {
	switch o.Method {
	case MethodStop:
		return Stop(ctx, p, o)
	case MethodFork:
		return Fork(ctx, p, o)
	case MethodPrecopy:
		return Precopy(ctx, p, o)
	case MethodLive:
		return Live(p)
	}
	return nil, fmt.Errorf("unknown method %q", o.Method)
}

// Live looks at a process that goes on running. Of its threads it knows what
// /proc tells: for a blocked one where it is, and no other registers. Needs
// the rights of a debugger (ptrace(2), access mode checking), and does not
// use ptrace: it also works on a process that is already traced.
func Live(p *process.Process) (*Snapshot, error) {
	s := &Snapshot{Method: MethodLive}
	infos, err := s.before(p)
	if err != nil {
		return nil, err
	}
	tids, err := p.Threads()
	if err != nil {
		return nil, err
	}
	for _, tid := range tids {
		t, ok := infos[tid]
		if !ok {
			continue
		}
		regs, err := ptracer.BlockedRegs(p, tid, s.img.Arch)
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
	s.look(view)
	return s, nil
}

// look makes a view of the process the memory of the moment.
func (s *Snapshot) look(view *process.View) {
	s.undo(view.Close)
	s.Sparse, s.taken = view, time.Now()
	s.img.Mappings, _ = view.Mappings()
}

// undo has Close do f, after what was given to it later.
func (s *Snapshot) undo(f func() error) { s.undos = append(s.undos, f) }

// Program returns what is known of the process but for its threads, which may
// still be looked at.
func (s *Snapshot) Program() *procmem.Image {
	img := s.img
	return &img
}

// Image returns what is known of the process. It waits until the registers of
// all threads have been read.
func (s *Snapshot) Image() *procmem.Image {
	if s.tracer != nil {
		s.tracer.Do(func() {})
	}
	img := s.img
	img.Threads = s.threads
	return &img
}

// Release lets the target go on and returns the time for which it was held:
// from the first request to stop a thread until the last one was let go. It
// may be called again, and then returns the same. The memory must not be
// read afterwards.
func (s *Snapshot) Release() time.Duration {
	if s.tracer != nil {
		s.tracer.Release()
		s.Unheld = append(s.Unheld, s.tracer.Unheld()...)
		s.pause += s.tracer.Pause() // there may have been one in vain before
		s.tracer = nil
	}
	if s.leave != nil {
		s.pause += s.leave()
		s.leave = nil
	}
	return s.pause
}

// Over reports whether the process goes on, and the memory is not read from it
// any more.
func (s *Snapshot) Over() bool { return s.tracer == nil && s.Method != MethodLive }

// Taken returns the moment.
func (s *Snapshot) Taken() time.Time { return s.taken }

// Whole reports, once the memory has been copied, whether it was there until
// then: ErrLost.
func (s *Snapshot) Whole() error {
	if s.alive == nil {
		return nil
	}
	return s.alive()
}

// Close releases the target and all else that the snapshot holds, in it too.
// An error tells what could not be undone.
func (s *Snapshot) Close() error {
	s.Release()
	var errs []error
	for i := len(s.undos) - 1; i >= 0; i-- {
		errs = append(errs, s.undos[i]())
	}
	s.undos = nil
	return errors.Join(errs...)
}

// before collects what can be known, or must be asked, before anything is
// stopped: a stopped thread's state says so, and time spent here is no pause.
func (s *Snapshot) before(p *process.Process) (map[int]procmem.Thread, error) {
	var err error
	if s.img.Process, err = p.Info(); err != nil {
		return nil, err
	}
	if err := s.program(p); err != nil {
		return nil, err
	}
	tids, err := p.Threads()
	if err != nil {
		return nil, err
	}
	infos := make(map[int]procmem.Thread, len(tids))
	for _, tid := range tids {
		// A thread may exit at any time; its leader stays as a zombie.
		if t, err := p.ThreadInfo(tid); err == nil && t.State != 'Z' && t.State != 'X' {
			infos[tid] = t
		}
	}
	return infos, nil
}

// program collects what an exec changes.
func (s *Snapshot) program(p *process.Process) (err error) {
	s.img.Exe, _ = p.Exe() // a name, and no more
	if s.img.Arch, err = p.Arch(); err != nil {
		return err
	}
	s.img.XSaveLayout = ptracer.XSaveLayout(s.img.Arch)
	s.img.Auxv, err = p.Auxv(s.img.Arch)
	return err
}

// addThread keeps the leader first: that is the thread that a debugger shows
// when it opens the core.
func (s *Snapshot) addThread(t procmem.Thread, leader bool) {
	s.threads = append(s.threads, t)
	if k := len(s.threads) - 1; leader && k > 0 {
		copy(s.threads[1:], s.threads[:k])
		s.threads[0] = t
	}
}
