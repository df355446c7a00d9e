package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/sink"
	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/snapshot"
	"github.com/procmem/procmem/target"
)

// keepBefore copies the memory of a process into a core without a name, and
// waits.
func keepBefore(ctx context.Context, word string, specs []target.Spec, after time.Duration) (*core.File, error) {
	t, err := openTarget(word)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	if t.Process == nil {
		return nil, usagef("--after wants a process: the core %s stays as it is", word)
	}
	if isSelf(t.Process.PID()) {
		return nil, usagef("procmem cannot hold itself still")
	}
	kept, err := keep(ctx, t.Process, specs)
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(after)
	defer timer.Stop()
	select {
	case <-timer.C:
		return kept, nil
	case <-ctx.Done():
		kept.Close()
		return nil, context.Cause(ctx)
	}
}

// keep takes a core of the memory of a process, or of ranges of it, into a file
// without a name: it is gone when it is closed, or procmem ends.
func keep(ctx context.Context, p *process.Process, specs []target.Spec) (*core.File, error) {
	k := &keeper{p: p, progress: startProgress(fmt.Sprintf("process %d", p.PID()))}
	defer k.progress.end()
	disk, err := k.plan(specs)
	if err != nil {
		return nil, onProcess(p, err)
	}
	defer k.look.Close()
	dir := os.TempDir()
	if have, err := sink.Room(filepath.Join(dir, "core")); err == nil && have < disk {
		return nil, fmt.Errorf("keep the memory of process %d: no room: about %s are needed and %s is free in %s; choose another folder by TMPDIR (nothing was stopped)",
			p.PID(), term.Size(disk), term.Size(have), dir)
	}
	f, err := sink.Unnamed(dir)
	if err != nil {
		return nil, fmt.Errorf("keep the memory of process %d: %w", p.PID(), err)
	}
	kept, err := k.into(ctx, f, disk)
	if err != nil {
		f.Close()
		return nil, err
	}
	kept.Owns(f)
	return kept, nil
}

// keeper keeps the memory of a process as it is at a moment.
type keeper struct {
	p        *process.Process
	progress *progress
	look     *snapshot.Look
	arch     procmem.Arch
	part     bool // of it is wanted: what is in segments that in touches
	in       []procmem.Range
	segs     []core.Segment
}

// plan finds out what is to be kept, and how many bytes that has.
func (k *keeper) plan(specs []target.Spec) (disk uint64, err error) {
	if k.look, err = snapshot.LookAt(k.p); err != nil {
		return 0, err
	}
	img, mem := k.look.Program(), k.look.Memory()
	k.arch = img.Arch
	k.part = len(specs) > 0
	for _, s := range specs {
		in, _ := s.Resolve(img.Mappings) // what is not there yet may come
		k.in = append(k.in, in...)
	}
	k.segs = k.choose(img, mem)
	if _, disk, err = held(k.segs, mem); err != nil {
		k.look.Close()
	}
	return disk, err
}

// choose returns all segments that a core can have, which hold what is wanted
// alone.
func (k *keeper) choose(img *procmem.Image, mem procmem.Memory) []core.Segment {
	segs := core.Select(img, mem, core.FilterAll)
	for i := range segs {
		s := &segs[i]
		s.Dumped = s.Dumped && (!k.part || slices.ContainsFunc(k.in, func(r procmem.Range) bool { return !r.Intersect(s.Range).Empty() }))
	}
	return segs
}

// into takes the core, and opens it.
func (k *keeper) into(ctx context.Context, f *os.File, disk uint64) (*core.File, error) {
	w, err := core.NewFileWriter(f, k.arch, k.segs)
	if err != nil {
		return nil, err
	}
	k.progress.count(w.Written, int64(disk))
	s, err := snapshot.Take(ctx, k.p, snapshot.Options{Method: snapshot.MethodAuto, Store: w, Phase: k.progress.enter, Look: k.look,
		Want: func(img *procmem.Image, mem procmem.Memory) []procmem.Range { return dumped(k.choose(img, mem)) }})
	if err != nil {
		return nil, onProcess(k.p, err)
	}
	if err = k.copy(ctx, w, s); err == nil {
		err = s.Whole()
	}
	pause := s.Release()
	if err == nil {
		err = w.Finish(s.Image(), &core.Report{Version: version, PID: k.p.PID(), Method: string(s.Method)})
	}
	if cerr := endMoment(k.p, s); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, onProcess(k.p, err)
	}
	k.progress.end()
	notice("process %d was held for %s (method %s)", k.p.PID(), duration(milliseconds(pause)), s.Method)
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return core.NewReader(f, info.Size())
}

func (k *keeper) copy(ctx context.Context, w *core.Writer, s *snapshot.Snapshot) error {
	if err := w.Settle(k.choose(s.Program(), s)); err != nil {
		return err
	}
	w.Background = s.Over()
	if s.Over() {
		k.progress.enter("writing")
	} else {
		k.progress.enter("paused, writing")
	}
	return w.Copy(ctx, s)
}
