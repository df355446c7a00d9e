package main

import (
	"github.com/procmem/procmem"
	"github.com/procmem/procmem/stacks"
)

// stackJSON is a stack with the threads that were seen on it.
type stackJSON struct {
	Samples   int               `json:"samples"`
	Threads   []stackThreadJSON `json:"threads"`
	Frames    []frameJSON       `json:"frames"`
	Stop      string            `json:"stop"`
	StopError string            `json:"stop_error,omitempty"`
}

type stackThreadJSON struct {
	TID     int    `json:"tid"`
	Name    string `json:"name"`
	State   string `json:"state"`
	Call    string `json:"call"`
	Wait    string `json:"wait"`
	Samples int    `json:"samples"`
	Error   string `json:"error,omitempty"`
}

type frameJSON struct {
	PC       *procmem.Addr `json:"pc"`
	SP       *procmem.Addr `json:"sp"`
	Function string        `json:"function"`
	Offset   uint64        `json:"offset"`
	File     string        `json:"file"`
	Line     int           `json:"line"`
	Inlined  bool          `json:"inlined"`
	Module   string        `json:"module"`
	At       procmem.Addr  `json:"module_address"`
	How      string        `json:"how"`
	Signal   bool          `json:"signal"`
}

func stacksJSON(s *stackSum) any {
	out := struct {
		Target string `json:"target"`
		identity
		Arch        string      `json:"arch"`
		Moments     int         `json:"moments"`
		PauseMS     float64     `json:"pause_ms"`
		PausesMS    float64     `json:"pauses_ms"`
		QuietMS     float64     `json:"quiet_ms"`
		Copied      uint64      `json:"copied_bytes"`
		Interrupted int         `json:"interrupted"`
		Stacks      []stackJSON `json:"stacks"`
	}{s.target.Word, whoseOf(s.target).identity, s.img.Arch.String(), s.moments, milliseconds(s.pause.longest),
		milliseconds(s.pause.total), milliseconds(s.quiet), s.copied, s.interrupted, make([]stackJSON, 0, len(s.groups))}
	for _, g := range s.groups {
		out.Stacks = append(out.Stacks, g.json())
	}
	return out
}

func (g *stackGroup) json() stackJSON {
	j := stackJSON{Samples: g.samples, Threads: make([]stackThreadJSON, 0, len(g.threads)), Frames: make([]frameJSON, 0, len(g.frames)),
		Stop: stacks.End.String()}
	for _, t := range g.threads {
		x := stackThreadJSON{TID: t.tid, Name: t.name, State: t.state, Call: t.call, Wait: t.wait, Samples: t.samples}
		if t.err != nil {
			x.Error = t.err.Error()
		}
		j.Threads = append(j.Threads, x)
	}
	for i := range g.frames {
		j.Frames = append(j.Frames, g.frames[i].json()...)
	}
	if g.stop != nil {
		j.Stop, j.StopError = g.stop.Reason.String(), g.stop.Error()
	}
	return j
}

func (f *shownFrame) json() (out []frameJSON) {
	for _, p := range f.places {
		j := frameJSON{Function: p.Function, Offset: p.Offset, File: p.File, Line: p.Line, Inlined: p.Inlined,
			Module: p.Module, At: p.Addr, How: "runtime", Signal: f.Signal}
		if !f.runtime {
			j.PC, j.SP, j.How = &f.PC, &f.SP, f.How.String()
		}
		out = append(out, j)
	}
	return out
}
