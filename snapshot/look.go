package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/holders"
	"github.com/procmem/procmem/internal/inject"
	"github.com/procmem/procmem/internal/procfs"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/process"
)

// subject is a process with what is known of it beside its memory.
type subject struct {
	p     *process.Process
	img   procmem.Image          // all but the threads
	infos map[int]procmem.Thread // by id; from before the stop, since the state of a stopped thread says only that
}

// describe collects what can be known, or must be asked, before anything is stopped. Time spent
// here is no pause.
func describe(p *process.Process) (subject, error) {
	b := subject{p: p}
	var err error
	if b.img.Process, err = p.Info(); err != nil {
		return b, err
	}
	if err := b.program(); err != nil {
		return b, err
	}
	tids, err := p.Threads()
	if err != nil {
		return b, err
	}
	b.infos = make(map[int]procmem.Thread, len(tids))
	for _, tid := range tids {
		// A thread may exit at any time; its leader stays as a zombie.
		if t, err := p.ThreadInfo(tid); err == nil && t.State != 'Z' && t.State != 'X' {
			b.infos[tid] = t
		}
	}
	return b, nil
}

// waits finds out where threads wait in the kernel, which few ask for.
func (b *subject) waits() {
	for tid, t := range b.infos {
		t.Wait, _ = b.p.ThreadWait(tid)
		b.infos[tid] = t
	}
}

// program collects what an exec changes.
func (b *subject) program() (err error) {
	b.img.Exe, _ = b.p.Exe() // it is only a name, so an error is no failure
	if b.img.Arch, err = b.p.Arch(); err != nil {
		return err
	}
	b.img.XSaveLayout = ptracer.XSaveLayout(b.img.Arch)
	b.img.Auxv, err = b.p.Auxv(b.img.Arch)
	return err
}

// sameProgram reports whether the process still executes the program that was described. The
// kernel puts random bytes into each auxiliary vector.
func (b *subject) sameProgram() bool {
	auxv, err := b.p.Auxv(b.img.Arch)
	return err == nil && bytes.Equal(auxv, b.img.Auxv)
}

// lost returns the error for a process whose memory has vanished.
func (b *subject) lost() error {
	if b.p.Exists() {
		return inject.ErrExec
	}
	return procmem.ErrGone
}

// look is a running process with its memory as it was last looked at. One look serves all
// methods that are tried, because the kernel walks all page tables for it.
type look struct {
	subject
	began time.Time
	ran   time.Duration // CPU time of the process by then

	view    *process.View
	read    presentReader
	text    []byte                         // of /proc/PID/maps, once refresh has read it
	maps    []procmem.Mapping              // the mappings in text, with what is known of each
	stale   bool                           // some mappings are known by their line in maps alone, without flags and usage
	writers map[holders.ID]holders.Writers // of the shared memory
	undo    cleanup
}

// lookAt looks at a process. The owner of the result must run its undo.
func lookAt(p *process.Process) (*look, error) {
	l := &look{began: time.Now(), writers: make(map[holders.ID]holders.Writers)}
	if err := l.open(p); err != nil {
		return nil, errors.Join(err, l.undo.run())
	}
	return l, nil
}

func (l *look) open(p *process.Process) (err error) {
	stat, err := p.Stat()
	if err != nil {
		return err
	}
	l.ran = stat.UserTime + stat.SystemTime
	if l.subject, err = describe(p); err != nil {
		return err
	}
	mem, err := p.OpenMem("mem") // a refusal must come before anything is stopped
	if err != nil {
		return err
	}
	l.undo.add(mem.Close)
	l.read = presentReader{mem}
	if l.view, err = p.View(); err != nil {
		return err
	}
	l.undo.add(l.view.Close)
	l.maps, _ = l.view.Mappings()
	l.img.Mappings = l.maps
	return nil
}

// refresh reads the mappings again. It returns the ranges of those of which only the line in
// maps is known.
func (l *look) refresh() (fresh []procmem.Range, err error) {
	const tries = 20 // the text makes no sense where mappings changed while it was read
	for try := 1; ; try++ {
		text, err := l.readMaps()
		if err != nil || bytes.Equal(text, l.text) {
			return nil, err
		}
		if fresh, err = l.update(text); err == nil {
			break
		}
		if try == tries {
			return nil, err
		}
	}
	l.stale = l.stale || len(fresh) > 0
	l.img.Mappings = l.maps
	l.view.Follow(l.maps)
	return fresh, nil
}

// readMaps reads the text of /proc/PID/maps.
func (l *look) readMaps() ([]byte, error) {
	file, err := l.p.OpenMem("maps")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(file)
	switch {
	case errors.Is(err, unix.ESRCH), err == nil && len(b) == 0:
		return nil, l.lost()
	case err != nil:
		return nil, fmt.Errorf("read mappings: %w", err)
	}
	return b, nil
}

// update takes over a new text of the mappings. Mappings with an unchanged line keep what is
// known of them. It returns the ranges of the others.
func (l *look) update(text []byte) (fresh []procmem.Range, err error) {
	maps, err := procfs.ParseMaps(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	fresh = procfs.KeepKnown(maps, l.maps)
	l.maps, l.text = maps, text
	return fresh, nil
}

// known returns the ids of the threads that were looked at.
func known(infos map[int]procmem.Thread) map[int]bool {
	ids := make(map[int]bool, len(infos))
	for tid := range infos {
		ids[tid] = true
	}
	return ids
}
