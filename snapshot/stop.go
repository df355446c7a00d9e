package snapshot

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/dirty"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/process"
)

// errOnlyBlocked is why the registers of a thread are not whole, where it was
// not stopped (procmem.Thread.Err).
var errOnlyBlocked = errors.New("not stopped: only what /proc tells of a blocked thread, its pc, sp and arguments")

// Stop holds every thread of the process until Release, or until ctx ends: what is read
// then is of no use. It needs the rights
// of a debugger and that nobody else traces the process: EPERM otherwise.
//
// A thread that does not stop, because it waits in the kernel without being
// interruptible (a disk, the parent of a vfork), cannot run code of its own
// either and is not waited for: it gets an Err, and the registers that /proc
// knows. What the kernel may write for it meanwhile is in Torn.
//
// The registers are being read when Stop returns, which takes a while where
// there are thousands of threads: Image waits for that.
//
// Where there is little memory, it is copied at once, and the process goes on
// before Stop returns. The options say what is wanted; MaxPause bounds the
// pause in this case alone.
func Stop(ctx context.Context, p *process.Process, o Options) (*Snapshot, error) {
	return attempt(o, func() (*Snapshot, error) { return stopNow(ctx, p, o) })
}

func stopNow(ctx context.Context, p *process.Process, o Options) (*Snapshot, error) {
	s := &Snapshot{Method: MethodStop}
	f, err := newPauser(p, s, o)
	if err != nil {
		s.Close()
		return nil, err
	}
	if size := f.size(); size <= arenaSize && canTrack() == nil {
		if err := f.pauseFor(ctx, size); err != nil {
			s.Close()
			return nil, err
		}
		return s, nil
	}
	s.lookAround(p, f.before, objectsOf(f.sharedMappings(f.maps)))
	f.around = s.around
	s.Close()
	return f.stop(ctx)
}

// size is how much there is to copy of the process, in bytes: what is as in a
// file can be read from there at any time.
func (f *pauser) size() (n uint64) {
	for _, r := range f.wanted {
		for i := procmem.FindMapping(f.maps, r.Start); i < len(f.maps) && f.maps[i].Start < r.End; i++ {
			m := &f.maps[i]
			part := m.Range.Intersect(r)
			if dirty.Private(m) && m.Usage != nil && f.fromFile(m) {
				n += min(part.Size(), m.Usage.Anonymous+m.Usage.Swap)
				continue
			}
			n += dataSize(f.before, part)
		}
	}
	return n
}

// sharedMappings returns those of mappings that share memory and are wanted.
func (f *pauser) sharedMappings(maps []procmem.Mapping) (out []procmem.Mapping) {
	for i := range maps {
		if m := &maps[i]; m.Shared() && !m.Special() && !m.Device() && pageset.Overlaps(f.wanted, m.Range) {
			out = append(out, *m)
		}
	}
	return out
}

// stop holds the process until Release.
func (f *pauser) stop(ctx context.Context) (*Snapshot, error) {
	f.o.phase("paused")
	s, err := hold(ctx, f.p)
	if err != nil {
		return nil, err
	}
	view, err := f.p.View()
	if err != nil {
		s.Close()
		return nil, err
	}
	view.AssumeStopped(s.tracer.Do)
	s.look(view)
	var givenUp map[int]*process.Syscall
	s.tracer.Do(func() { givenUp = s.tracer.GivenUp() })
	s.tearCalls(slices.Collect(maps.Values(givenUp)), view)
	objects := objectsOf(f.sharedMappings(s.img.Mappings))
	s.around = f.around
	s.lookAround(f.p, view, objects)
	for _, o := range objects {
		s.tear(o, o.others)
	}
	s.sortTorn()
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

	s.tracer = ptracer.New(p)
	s.tracer.Known = known(infos)
	s.tracer.HoldSharers(true)
	// Whoever reads, or writes what was read, may wait for something that does not come.
	stop := context.AfterFunc(ctx, s.tracer.Release)
	s.undo(func() error { stop(); return nil })
	defer func() {
		if err != nil {
			s.Close()
			s = nil
		}
	}()
	if err = s.tracer.Stop(ctx); err != nil {
		return s, err
	}
	var lock error
	s.tracer.Do(func() { lock = mapsAreFree(s.tracer, p) })
	if lock != nil {
		return s, lock
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
	s.tracer.Begin(func() { s.addThreads(p.PID(), infos, s.tracer.Take(s.img.Arch)) })
	return s, nil
}

// addThreads completes what the tracer took with what is known of the threads
// from before they were stopped.
func (s *Snapshot) addThreads(pid int, infos map[int]procmem.Thread, threads []ptracer.Taken) {
	for _, th := range threads {
		t, ok := infos[th.TID]
		if !ok {
			t.TID = th.TID
		}
		if th.Info != nil {
			t = *th.Info
		}
		t.Regsets = th.Regsets
		if th.Reason != nil {
			t.Err = th.Reason
		} else {
			t.Blocked, t.Pending = th.Blocked, th.Pending
		}
		s.addThread(t, th.TID == pid)
	}
}

// known returns the ids of the threads that have been looked at.
func known(infos map[int]procmem.Thread) map[int]bool {
	ids := make(map[int]bool, len(infos))
	for tid := range infos {
		ids[tid] = true
	}
	return ids
}
