package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/procmem/procmem/access"
	"github.com/procmem/procmem/internal/sink"
	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/target"
)

func newDoctor(g *globals) *cobra.Command {
	var prefix string
	cmd := g.addJSON(&cobra.Command{
		Use:   "doctor PID",
		Short: "Tell whether a process can be read; if not, why, and what would help",
		Long: `Tell whether the process can be read and held by the user who asks: each rule of
the kernel, the one that refuses, and the command or setting that would allow
it. If it can, what a core of it would take: size, room, pause.

Nothing is stopped or changed. The exit status is 0 where a core can be taken,
else 1.`,
		Example: "  procmem doctor 1234\n  procmem doctor -o /var/tmp/core 1234",
		Args:    exactly("PID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			pid, err := target.PID(args[0])
			if err != nil {
				return err
			}
			d := diagnose(pid, prefix)
			if g.json {
				err = printJSON(d)
			} else {
				err = stdoutError(d.print(g))
			}
			if err == nil && !d.Stoppable {
				return statusError(exitFailed)
			}
			return err
		},
	})
	cmd.Flags().StringVarP(&prefix, "output", "o", "core", "where the core would be written: PREFIX.PID")
	return cmd
}

// diagnosis is the answer of doctor.
type diagnosis struct {
	*access.Report
	// Prediction is null where the process cannot be read.
	Prediction *prediction `json:"prediction"`
}

// prediction is what a core would take; sizes are in bytes.
type prediction struct {
	MemoryBytes uint64 `json:"memory_bytes"` // that the core would hold, zeros included
	DiskBytes   uint64 `json:"disk_bytes"`   // that it would take on disk at most
	RoomBytes   uint64 `json:"room_bytes"`   // free in Folder
	Folder      string `json:"folder"`
	Fits        bool   `json:"fits"`
	Threads     int    `json:"threads"`
	Mappings    int    `json:"mappings"`
	SwapBytes   uint64 `json:"swap_bytes"` // that reading would bring back into memory
	// PauseMS is for how long method stop would hold the process, if the
	// disk takes one GB in a second: no disk is tried for this.
	PauseMS float64 `json:"pause_ms_at_1gbps"`
}

func diagnose(pid int, prefix string) *diagnosis {
	d := &diagnosis{Report: access.Diagnose(pid)}
	if !d.Readable {
		return d
	}
	p, err := process.Open(pid)
	if err != nil {
		return d
	}
	defer p.Close()
	d.Prediction, err = predictCore(p, prefix)
	if err != nil { // it ended in the meantime
		d.Readable, d.Stoppable = false, false
		d.Cause = err.Error()
	}
	return d
}

func predictCore(p *process.Process, prefix string) (*prediction, error) {
	i, err := processInfo(p)
	if err != nil {
		return nil, err
	}
	status, err := p.Status()
	if err != nil {
		return nil, err
	}
	out := &prediction{MemoryBytes: i.Memory, DiskBytes: i.Data, Threads: i.Threads, Mappings: i.Mappings,
		SwapBytes: status.Swap, Folder: filepath.Dir(prefix)}
	out.PauseMS = float64(i.Data) / 1e6
	if room, err := sink.Room(prefix); err == nil {
		out.RoomBytes = room
		out.Fits = i.Data <= room
	}
	return out, nil
}

func (d *diagnosis) print(g *globals) error {
	color := g.color.Enabled(os.Stdout)
	verdict := "can be read and held still: procmem core will work"
	switch {
	case !d.Readable:
		verdict = "cannot be read"
	case !d.Stoppable:
		verdict = "can be read, but not held still"
	}
	name := d.Name
	if name == "" {
		name = "no process"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d (%s) %s\n", d.PID, term.Printable(name), verdict)
	if d.Cause != "" {
		fmt.Fprintf(&b, "why:    %s\n", term.Printable(d.Cause))
	}
	if d.Remedy != "" {
		fmt.Fprintf(&b, "remedy: %s\n", d.Remedy)
	}
	if d.Note != "" {
		fmt.Fprintf(&b, "note:   %s\n", d.Note)
	}
	fmt.Fprintln(&b)
	for _, r := range d.Rules {
		mark := term.Mark(r.OK, color)
		fmt.Fprintf(&b, "%s %-15s %s\n", mark, r.Name, term.Printable(r.Detail))
	}
	if q := d.Prediction; q != nil {
		fmt.Fprintf(&b, "\ncore:   %s of memory, %s, %s\n", term.Size(q.MemoryBytes), count(q.Threads, "thread"), count(q.Mappings, "mapping"))
		fits := "fits"
		if !q.Fits {
			fits = "does not fit"
		}
		fmt.Fprintf(&b, "disk:   at most %s; %s is free in %s: it %s\n", term.Size(q.DiskBytes), term.Size(q.RoomBytes), q.Folder, fits)
		fmt.Fprintf(&b, "pause:  method stop holds it for the whole copy: %s if the disk takes 1 GB/s; method live does not\n", duration(q.PauseMS))
		if q.SwapBytes > 0 {
			fmt.Fprintf(&b, "swap:   %s is swapped out, and reading brings it back into memory\n", term.Size(q.SwapBytes))
		}
	}
	_, err := os.Stdout.WriteString(b.String())
	return err
}
