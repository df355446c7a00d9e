package glimpse

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/procfs"
	"github.com/procmem/procmem/process"
)

// open looks at the program that the process executes now.
func (t *Taker) open() (err error) {
	if err := t.p.CheckNamespace(); err != nil {
		return fmt.Errorf("stop process %d: %w", t.p.PID(), err)
	}
	if t.img.Arch, err = t.p.Arch(); err != nil {
		return err
	}
	if t.img.Auxv, err = t.p.Auxv(t.img.Arch); err != nil {
		return err
	}
	t.img.Exe, _ = t.p.Exe() // it is only a name, so an error is no failure
	view, err := t.p.View()  // a refusal must come before anything is stopped
	if err != nil {
		return err
	}
	lines, err := t.p.OpenMem("maps")
	if err != nil {
		return errors.Join(err, view.Close())
	}
	if err := t.Close(); err != nil {
		return errors.Join(err, view.Close(), lines.Close())
	}
	t.view, t.lines = view, lines
	t.maps, _ = view.Mappings()
	return nil
}

// sameProgram reports whether the process still executes the program that was looked at. The
// kernel puts random bytes into each auxiliary vector.
func (t *Taker) sameProgram() bool {
	auxv, err := t.p.Auxv(t.img.Arch)
	return err == nil && bytes.Equal(auxv, t.img.Auxv)
}

// follow reads the mappings as they are by now.
func (t *Taker) follow() error {
	maps, err := t.p.Mappings()
	if err != nil {
		return err
	}
	if slices.EqualFunc(maps, t.maps, func(a, b procmem.Mapping) bool { return procfs.SameLine(&a, &b) }) {
		return nil
	}
	procfs.KeepKnown(maps, t.maps)
	t.maps = maps
	t.view.Follow(maps)
	return nil
}

// threads returns what is known of the threads before they are stopped, by their ids.
func (t *Taker) threads() (map[int]procmem.Thread, error) {
	tids, err := t.p.Threads()
	if err != nil {
		return nil, err
	}
	infos := make(map[int]procmem.Thread, len(tids))
	for _, tid := range tids {
		if th, ok := threadOf(t.p, tid); ok {
			infos[tid] = th
		}
	}
	return infos, nil
}

func threadOf(p *process.Process, tid int) (th procmem.Thread, ok bool) {
	th, err := p.ThreadInfo(tid)
	if err != nil || th.State == 'Z' || th.State == 'X' {
		return th, false // a thread may exit at any time; its leader stays as a zombie
	}
	th.Wait, _ = p.ThreadWait(tid)
	return th, true
}
