package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/capture"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/units"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/target"
)

// keepBefore copies the memory of a process into an unnamed core, and waits.
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

// keep takes a core of the memory of a process, or of ranges of it, into an unnamed file. The
// file is gone when it is closed, or procmem ends.
func keep(ctx context.Context, p *process.Process, specs []target.Spec) (*core.File, error) {
	progress := startProgress(fmt.Sprintf("process %d", p.PID()))
	defer progress.end()
	all := core.FilterAll
	o := capture.Options{Filter: &all, Creator: version, OnEvent: progress.event(p)}
	if len(specs) > 0 {
		maps, err := p.Mappings()
		if err != nil {
			return nil, onProcess(p, err)
		}
		o.Only = []procmem.Range{}
		for _, s := range specs {
			in, _ := s.Resolve(maps) // what is not there yet may come later
			o.Only = append(o.Only, in...)
		}
	}
	kept, r, err := capture.Unnamed(ctx, p, os.TempDir(), o)
	if e, ok := errors.AsType[*capture.NoRoomError](err); ok {
		return nil, fmt.Errorf("keep the memory of process %d: no room: about %s are needed and %s is free in %s; choose another folder by TMPDIR (nothing was stopped)",
			p.PID(), units.Size(e.Need), units.Size(e.Have), e.Path)
	}
	if err != nil {
		return nil, worded(err, p, "")
	}
	progress.end()
	notice("process %d was held for %s (method %s)", p.PID(), duration(r.PauseMS), r.Method)
	return kept, nil
}
