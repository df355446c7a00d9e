package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/procmem/procmem/access"
	"github.com/procmem/procmem/capture"
	"github.com/procmem/procmem/internal/regular"
	"github.com/procmem/procmem/internal/sink"
	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/internal/units"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/snapshot"
	"github.com/procmem/procmem/target"
	"github.com/spf13/cobra"
)

func newDoctor(g *globals) *cobra.Command {
	var prefix string
	cmd := g.addJSON(&cobra.Command{
		Use:   "doctor TARGET",
		Short: "Tell whether a process can be read, why not, and what would help",
		Long: `Tell whether the process can be read and held by the user who asks: each rule of
the kernel, the one that refuses, and the command or setting that would allow
it. If it can, what a core of it would take: size, room, method, pause.

Nothing is stopped or changed. The exit status is 0 where procmem core would
work, else 1. Without -o, that it cannot create a core in this folder is told and
no reason for 1.`,
		Example: "  procmem doctor 1234\n  procmem doctor -o /var/tmp/core 1234\n  procmem doctor nginx --json",
		Args:    oneList,
		RunE: func(cmd *cobra.Command, args []string) error {
			if prefix == "" {
				return usagef("the output prefix is empty")
			}
			if err := checkURL(prefix); err != nil {
				return err
			}
			list, err := target.ParseList(args[0])
			if err != nil {
				return err
			}
			heads := headings{on: list.Several() && !g.json}
			return eachTarget(list, usual, openPID, func(pid pidOnly) (err error) {
				d := diagnose(int(pid), inFolder(prefix))
				d.anywhere = !cmd.Flags().Changed("output")
				heads.next(nil)
				if g.json {
					err = printJSON(d)
				} else {
					err = stdoutError(d.print(g))
				}
				if err == nil && !d.works() {
					return statusError(exitFailed)
				}
				return err
			})
		},
	})
	cmd.Flags().StringVarP(&prefix, "output", "o", "core", "`PREFIX` of where the core would be written, as of procmem core")
	return cmd
}

// pidOnly is a process that is not opened.
type pidOnly int

func openPID(word string) (pidOnly, error) {
	pid, err := processID(word)
	return pidOnly(pid), err
}

func (pidOnly) Close() error { return nil }

// diagnosis is the answer of doctor.
type diagnosis struct {
	*access.Report
	// Prediction is null where the process cannot be read.
	Prediction *prediction `json:"prediction"`
	anywhere   bool        // the core may go to any place
}

// prediction is what a core would take. Sizes are in bytes.
type prediction struct {
	MemoryBytes uint64 `json:"memory_bytes"` // memory that the core would hold, zeros included
	DiskBytes   uint64 `json:"disk_bytes"`   // the part that would take room on the disk, but for notes, which add little
	// RoomBytes are free in Folder. Both are absent where no file is written.
	RoomBytes *uint64 `json:"room_bytes,omitempty"`
	Folder    string  `json:"folder,omitempty"`
	Fits      bool    `json:"fits"`
	Obstacle  string  `json:"obstacle,omitempty"` // why the core does not fit, or cannot be written there
	noFile    bool    // the obstacle is that it cannot be written
	halted    bool    // the process does not run anyway
	where     string  // - or the URL, where the core is no file
	Threads   int     `json:"threads"`
	Mappings  int     `json:"mappings"`
	SwapBytes uint64  `json:"swap_bytes"` // swapped-out memory that reading would bring back
	// Asleep lists threads that would not stop, because they wait in the kernel.
	Asleep []asleepThread `json:"asleep"`
	// Methods says for how long each method is expected to hold the process.
	Methods []methodEstimate `json:"methods"`
}

// methodEstimate is what is expected of one method.
type methodEstimate struct {
	Method  snapshot.Method `json:"method"`
	PauseMS float64         `json:"pause_ms"`
	// TornBytes is shared memory that would be of another moment.
	TornBytes uint64 `json:"torn_bytes,omitempty"`
	Obstacle  string `json:"obstacle,omitempty"` // why the method is impossible
	First     bool   `json:"first,omitempty"`    // procmem core would take it now
}

// works reports whether procmem core would succeed.
func (d *diagnosis) works() bool {
	return d.Stoppable && d.Prediction != nil && d.Prediction.possible() && (d.Prediction.Fits || d.elsewhere())
}

// possible reports whether some method is.
func (q *prediction) possible() bool {
	return slices.ContainsFunc(q.Methods, func(m methodEstimate) bool { return m.Obstacle == "" })
}

// elsewhere reports whether it would succeed with -o. The user has not named this folder.
func (d *diagnosis) elsewhere() bool { return d.anywhere && d.Prediction.noFile }

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
	tellWaits(p)
	d.Prediction, err = predictCore(p, prefix)
	if err != nil { // the process has ended meanwhile
		d.Readable, d.Stoppable = false, false
		d.Cause, d.Remedy, d.Otherwise = err.Error(), "", ""
		return d
	}
	d.Rules = append(d.Rules, asleepRule(d.Prediction.Asleep))
	return d
}

func predictCore(p *process.Process, prefix string) (*prediction, error) {
	status, err := p.Status()
	if err != nil {
		return nil, err
	}
	out := &prediction{Threads: status.Threads, SwapBytes: status.Swap}
	path := ""
	if job := (&coreJob{prefix: prefix}); job.isFile() {
		path = out.look(job.name(p))
	} else {
		out.Fits, out.where = true, prefix
	}
	core, err := capture.Predict(context.Background(), p, path, capture.Options{})
	if core == nil {
		return nil, worded(err, p, notThisCore)
	}
	if err != nil {
		out.Fits, out.Obstacle = false, worded(err, p, notThisCore).Error()
	}
	out.MemoryBytes, out.DiskBytes, out.Mappings = core.MemoryBytes, core.DataBytes, len(core.Image.Mappings)
	out.Asleep = asleep(p, core.Image.Arch)
	out.halted = halted(p)
	for _, e := range core.Methods {
		m := methodEstimate{Method: e.Method, PauseMS: milliseconds(e.Pause), TornBytes: e.Torn, First: e.First}
		if e.Err != nil {
			m.Obstacle = e.Err.Error()
		}
		out.Methods = append(out.Methods, m)
	}
	return out, nil
}

// look finds out whether a core can become a file, and returns its path, or "" where it cannot.
func (out *prediction) look(path string) string {
	out.Folder = filepath.Dir(path)
	room, err := regular.Room(path)
	out.RoomBytes = &room
	if cerr := creatable(path); cerr != nil {
		err = cerr
	}
	if out.noFile = err != nil; out.noFile {
		out.Obstacle = err.Error()
		return ""
	}
	out.Fits = true
	return path
}

// creatable returns the error with which sink.Create would fail, without making a file.
func creatable(path string) error {
	if _, err := os.Lstat(path); err == nil {
		f, err := sink.Create(path, false) // fails where the name is taken
		if err == nil {                    // the name has become free
			f.Abort()
		}
		return unforced(err)
	}
	if err := writableFolder(path); err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	return nil
}

// verdict returns the answer in a clause. It promises nothing that a line below takes back.
func (d *diagnosis) verdict() string {
	const can = "can be read and held still"
	switch q := d.Prediction; {
	case !d.Readable:
		return "cannot be read"
	case !d.Stoppable:
		return "can be read, but not held still"
	case q == nil || !q.possible():
		return can + ", but no method can take a core of it now"
	case d.elsewhere():
		return can + "; a core of it needs another place: choose one with -o"
	case q.noFile:
		return can + ", but a core of it cannot be created there"
	case !q.Fits:
		return can + ", but there is no room for a core"
	case len(q.Asleep) > 0:
		return "can be read, and held still but for " + count(len(q.Asleep), "thread") + ": a core of it will lack registers"
	}
	return can + ": procmem core will work"
}

func (d *diagnosis) print(g *globals) error {
	name := "no process"
	if d.Name != "" {
		name = d.Name
	}
	w := newProse(os.Stdout)
	w.paragraph("", fmt.Sprintf("%d (%s) %s", d.PID, name, d.verdict()))
	w.paragraph("why:     ", d.Cause)
	w.command("remedy:  ", d.Remedy)
	if d.Remedy == "" {
		w.paragraph("remedy:  ", d.Otherwise)
	} else {
		w.command("or:      ", d.Otherwise)
	}
	w.paragraph("note:    ", d.Note)
	w.paragraph("", "\n")
	for _, r := range d.Rules {
		mark := "--"
		if r.Verdict == access.Holds || r.Verdict == access.Fails {
			mark = term.Mark(r.Verdict == access.Holds, g.color.Enabled(os.Stdout))
		}
		w.marked(mark, fmt.Sprintf("%-15s ", r.Name), r.Detail)
	}
	if q := d.Prediction; q != nil {
		w.paragraph("", "\n")
		w.paragraph("core:    ", fmt.Sprintf("%s of memory, %s, %s", units.Size(q.MemoryBytes), count(q.Threads, "thread"), count(q.Mappings, "mapping")))
		q.printRoom(w)
		if d.Stoppable {
			w.paragraph("now:     ", q.choice())
		}
		label := "pause:   "
		for _, m := range q.Methods {
			text := "about " + duration(m.PauseMS)
			if m.Method == snapshot.MethodStop && q.DiskBytes > 32<<20 {
				text += ", if " + q.taker() + " takes 1 GB/s"
			}
			if m.TornBytes > 0 {
				text += fmt.Sprintf(", with %s that may be of another moment", units.Size(m.TornBytes))
			}
			if m.Obstacle != "" {
				text = "not possible: " + m.Obstacle
			}
			w.paragraph(label, fmt.Sprintf("method %-7s %s", m.Method, text))
			label = "         "
		}
		if q.SwapBytes > 0 {
			w.paragraph("swap:    ", fmt.Sprintf("%s is swapped out, and reading brings it back into memory", units.Size(q.SwapBytes)))
		}
	}
	return w.flush()
}

// printRoom prints where the core goes, and whether there is room.
func (q *prediction) printRoom(w *prose) {
	// That room is used, but not needed: see capture.Spool.
	waits := fmt.Sprintf("about %s, less if compressed; no room is needed here (where there is some in %s, what is copied ahead waits there)",
		units.Size(q.MemoryBytes), os.TempDir())
	switch {
	case q.where == "-":
		w.paragraph("stream:  ", waits)
	case q.where != "":
		w.paragraph("upload:  ", waits+"; the server is not asked")
	case q.Fits:
		w.paragraph("disk:    ", fmt.Sprintf("about %s; %s is free in %s: it fits", units.Size(q.DiskBytes), units.Size(*q.RoomBytes), q.Folder))
	default:
		w.paragraph("disk:    ", fmt.Sprintf("about %s; %s", units.Size(q.DiskBytes), q.Obstacle))
	}
}

// taker returns what the speed of method stop depends on.
func (q *prediction) taker() string {
	switch q.where {
	case "":
		return "the disk"
	case "-":
		return "who reads the stream"
	}
	return "the server"
}
