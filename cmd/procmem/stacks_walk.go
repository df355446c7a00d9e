package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/glimpse"
	"github.com/procmem/procmem/stacks"
	"github.com/procmem/procmem/symbols"
	"github.com/procmem/procmem/target"
)

// stackWalk walks the stacks of the moments of a target. It keeps what it has read of files from
// one moment to the next, as long as the code of the process is where it was.
type stackWalk struct {
	*stacks.Walker
	target *target.Target
	most   int            // frames of a stack; 0 for all
	taker  *glimpse.Taker // of a process, nil of a core
	done   func()         // ends the memory of a core
	lines  *symbols.Lines
	maps   []procmem.Mapping
	known  map[placeKey][]stacks.Place
}

// placeKey is what the places of a frame depend upon.
type placeKey struct{ pc, lookup procmem.Addr }

// begin prepares for the stacks of a moment. leave is called before what is known of the code is
// forgotten.
func (w *stackWalk) begin(img *procmem.Image, mem procmem.Memory, leave func()) error {
	if w.Walker != nil && sameCode(w.maps, img.Mappings) {
		return nil
	}
	if w.Walker != nil {
		leave()
		if err := w.leave(); err != nil {
			return err
		}
	}
	open, debug := symbols.OfCore(mem), symbols.Debug{Servers: strings.Fields(os.Getenv("DEBUGINFOD_URLS"))}
	if p := w.target.Process; p != nil {
		open, debug.PID = symbols.OfProcess(p.PID(), mem), p.PID()
	}
	w.lines = symbols.New(img.Mappings, open).Lines(debug)
	walker, err := stacks.New(mem, img, stacks.Options{Open: open, Places: byLines(w.lines), MaxFrames: w.most})
	if err != nil {
		return errors.Join(err, w.lines.Close())
	}
	w.Walker, w.maps, w.known = walker, img.Mappings, map[placeKey][]stacks.Place{}
	return nil
}

// leave forgets what is known of the code.
func (w *stackWalk) leave() error {
	if w.Walker == nil {
		return nil
	}
	err := errors.Join(w.Walker.Close(), w.lines.Close())
	w.Walker = nil
	return err
}

func (w *stackWalk) close() error {
	err := w.leave()
	if w.taker != nil {
		err = errors.Join(err, w.taker.Close())
	}
	if w.done != nil {
		w.done()
	}
	return err
}

// places is Walker.Places that remembers.
func (w *stackWalk) places(ctx context.Context, f stacks.Frame) []stacks.Place {
	key := placeKey{f.PC, f.Lookup()}
	p, ok := w.known[key]
	if !ok {
		p = w.Walker.Places(ctx, f)
		w.known[key] = p
	}
	return p
}

// sameCode reports whether code and files are mapped at the same addresses.
func sameCode(a, b []procmem.Mapping) bool {
	i, k := 0, 0
	for {
		for i < len(a) && !matters(&a[i]) {
			i++
		}
		for k < len(b) && !matters(&b[k]) {
			k++
		}
		if i == len(a) || k == len(b) {
			return i == len(a) && k == len(b)
		}
		m, n := &a[i], &b[k]
		if m.Range != n.Range || m.Perm != n.Perm || m.Offset != n.Offset || m.Inode != n.Inode || m.Path != n.Path {
			return false
		}
		i, k = i+1, k+1
	}
}

func matters(m *procmem.Mapping) bool { return m.HasFile() || m.Perm&procmem.PermExec != 0 }

// byLines returns places with files and lines.
func byLines(l *symbols.Lines) stacks.PlacesFunc {
	return func(ctx context.Context, a procmem.Addr) []stacks.Place {
		var out []stacks.Place
		for _, at := range l.At(ctx, a) {
			p := stacks.Place{Function: at.Function, Offset: at.Offset, File: at.File, Line: at.Line, Inlined: at.Inlined}
			if p.Function == "" {
				p.Function = at.Symbol
			}
			out = append(out, p)
		}
		return out
	}
}

// descriptorNames returns what tells the files of descriptors of a process, each looked up once.
func descriptorNames(t *target.Target) func(fd int) string {
	if t.Process == nil {
		return nil
	}
	known := map[int]string{}
	return func(fd int) string {
		name, ok := known[fd]
		if !ok {
			name, _ = t.Process.Descriptor(fd) // closed meanwhile: only the name is lacking
			known[fd] = name
		}
		return name
	}
}

func noThread(tid int) error {
	return fmt.Errorf("no thread has the id %d (procmem threads lists them)", tid)
}
