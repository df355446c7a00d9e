package snapshot

import (
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// Look is a look at a process, which goes on. Who has to decide something
// before a moment is taken hands it on in the Options: the kernel walks all
// page tables to tell what is in the mappings, and need not do so twice. Close
// ends it.
type Look struct{ f *pauser }

// LookAt looks at a process. Errors as of Live.
func LookAt(p *process.Process) (*Look, error) {
	f := &pauser{p: p, s: &Snapshot{}, began: time.Now(), room: make([]sys.PageRegion, 4096), regions: make([]sys.PageRegion, 0, 4096)}
	if err := f.look(); err != nil {
		f.s.Close()
		return nil, err
	}
	return &Look{f}, nil
}

// look finds out what does not depend on what is wanted.
func (f *pauser) look() error {
	stat, err := f.p.Stat()
	if err != nil {
		return err
	}
	f.ran = stat.UserTime + stat.SystemTime
	if f.infos, err = f.s.before(f.p); err != nil {
		return err
	}
	mem, err := f.p.OpenMem("mem") // a refusal must come before anything is stopped
	if err != nil {
		return err
	}
	f.s.undo(mem.Close)
	f.read = presentReader{mem}
	if f.before, err = f.p.View(); err != nil {
		return err
	}
	f.s.undo(f.before.Close)
	f.maps, _ = f.before.Mappings()
	f.s.img.Mappings = f.maps
	return nil
}

// Program returns what is known of the process but for its threads.
func (l *Look) Program() *procmem.Image { return l.f.s.Program() }

// Memory returns the memory, which goes on changing. As Program, it must not be
// called any more when the look has been handed on, or closed.
func (l *Look) Memory() procmem.Sparse { return l.f.before }

// take returns what was found out to whoever asks first.
func (l *Look) take() (f *pauser) {
	if l != nil {
		f, l.f = l.f, nil
	}
	return f
}

// Close ends the look, if no moment began with it.
func (l *Look) Close() error {
	if f := l.take(); f != nil {
		return f.s.Close()
	}
	return nil
}
