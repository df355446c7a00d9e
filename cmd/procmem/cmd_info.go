package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/units"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/snapshot"
	"github.com/procmem/procmem/target"
)

func newInfo(g *globals) *cobra.Command {
	var withStacks bool
	cmd := g.addJSON(&cobra.Command{
		Use:   "info TARGET",
		Short: "Tell what a core holds and lacks, and how it was taken",
		Long: `Tell what a core holds and lacks, and how it was taken; cores of the kernel and
of gdb are understood too. Of a process: what it is, and what a core of it
would hold. The process is not stopped.`,
		Example: "  procmem info core.1234\n  procmem info 1234\n  procmem info core.1234 --json",
		Args:    oneList,
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := target.ParseList(args[0])
			if err != nil {
				return err
			}
			heads := headings{on: list.Several() && !g.json}
			return eachTarget(list, usual, openTarget, func(t *target.Target) (err error) {
				var i *infoJSON
				if t.Core != nil {
					i = coreInfo(t.Core)
					i.Open = openCommand(t.Word)
				} else if i, err = processInfo(t.Process); err != nil {
					return onTarget(t, err)
				}
				i.Target = t.Word
				heads.next(nil)
				if g.json {
					err = printJSON(i)
				} else {
					err = stdoutError(i.print(os.Stdout))
				}
				if err == nil && withStacks {
					err = infoStacks(cmd.Context(), g, t)
				}
				return orCutOff(err, t)
			})
		},
	})
	cmd.Flags().BoolVar(&withStacks, "stacks", false, "tell also what every thread was doing, as procmem stacks does")
	return cmd
}

// infoStacks prints the stacks of a core. A process would have to be held for them.
func infoStacks(ctx context.Context, g *globals, t *target.Target) error {
	if t.Core == nil {
		return usagef("info does not stop a process: procmem stacks %s", t.Word)
	}
	return reportStacks(ctx, g, t)
}

// infoJSON is the answer of info. Sizes are in bytes.
type infoJSON struct {
	Target   string          `json:"target"`
	Kind     string          `json:"kind"` // "core" or "process"
	Arch     string          `json:"arch"`
	PID      int             `json:"pid"`
	PPID     int             `json:"ppid"`
	UID      uint32          `json:"uid"`
	GID      uint32          `json:"gid"`
	State    string          `json:"state"`
	Name     string          `json:"name"`
	Args     string          `json:"args"`
	Exe      string          `json:"exe"`
	Signal   int             `json:"signal"` // the signal that killed the process, in a core of a crash
	Threads  int             `json:"threads"`
	Mappings int             `json:"mappings"`
	Mapped   uint64          `json:"mapped_bytes"`
	Memory   uint64          `json:"memory_bytes"` // memory that the core holds, or would hold, zeros included
	Data     uint64          `json:"data_bytes"`   // the part of it that is not holes, or would not be
	Report   *core.Report    `json:"report"`       // how procmem took the core; null where it did not
	Missing  []missing       `json:"truncated"`    // memory that the file should hold and ends before
	Notes    []core.NoteInfo `json:"notes"`
	Open     string          `json:"open"` // the command that opens a core, "" of a process
}

func coreInfo(c *core.File) *infoJSON {
	img := c.Image()
	i := infoOf(img)
	i.Kind = "core"
	i.Report = c.Report()
	i.Missing = missingOf(c.Truncated())
	for n := range c.Notes() {
		i.Notes = append(i.Notes, n)
	}
	i.Memory, i.Data, _ = core.Predict(c.Segments(), c) // a file always tells
	i.Data -= min(i.Data, i.cutOff())                   // the missing part may hold data, too
	return i
}

// cutOff returns how many bytes of memory the file ends before.
func (i *infoJSON) cutOff() (n uint64) {
	for _, m := range i.Missing {
		n += m.Bytes
	}
	return n
}

// orCutOff returns the error of a command that has printed a target: err, or the status for a
// core of which a part is missing. Opening the core has printed that.
func orCutOff(err error, t *target.Target) error {
	if err == nil && t.Core != nil && cutOff(t.Core) != "" {
		return statusError(exitMissing)
	}
	return err
}

func infoOf(img *procmem.Image) *infoJSON {
	p := &img.Process
	i := &infoJSON{Arch: img.Arch.String(), PID: p.PID, PPID: p.PPID, UID: p.UID, GID: p.GID, State: state(p.State),
		Name: p.Name, Args: p.Args, Exe: img.Exe, Threads: len(img.Threads), Mappings: len(img.Mappings), Missing: []missing{}, Notes: []core.NoteInfo{}}
	if len(img.Threads) > 0 {
		i.Signal = img.Threads[0].Signal
	}
	for k := range img.Mappings {
		i.Mapped += img.Mappings[k].Size()
	}
	return i
}

func processInfo(p *process.Process) (*infoJSON, error) {
	s, err := snapshot.Take(context.Background(), p, snapshot.Options{Method: snapshot.MethodLive})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	img := s.Program()
	i := infoOf(img)
	i.Kind = "process"
	tids, err := p.Threads()
	if err != nil {
		return nil, err
	}
	i.Threads = len(tids)
	filter, err := p.CoredumpFilter()
	if err != nil {
		return nil, err
	}
	i.Memory, i.Data, err = core.Predict(core.Select(img, s, core.Filter(filter)), s)
	return i, err
}

func (i *infoJSON) print(f *os.File) error {
	w := newProse(f)
	line := func(name, format string, args ...any) {
		w.paragraph(fmt.Sprintf("%-12s ", name), fmt.Sprintf(format, args...))
	}
	line(i.Kind, "%s", i.Target)
	if i.PID == 0 { // the notes are missing
		line("pid", "unknown")
	} else {
		line("pid", "%d, parent %d, uid %d, gid %d, state %s", i.PID, i.PPID, i.UID, i.GID, i.State)
	}
	line("program", "%s (%s)", cmp.Or(i.Exe, i.Name, "unknown"), i.Arch)
	line("arguments", "%s", i.Args)
	if i.Signal != 0 {
		line("signal", "%d", i.Signal)
	}
	if i.Threads == 0 {
		line("threads", "unknown")
	} else {
		line("threads", "%d", i.Threads)
	}
	line("mappings", "%d, %s of addresses", i.Mappings, units.Size(i.Mapped))
	if i.Kind == "process" {
		line("core", "would hold %s, and take about %s on disk", units.Size(i.Memory), units.Size(i.Data))
		return w.flush()
	}
	cut := ""
	if n := i.cutOff(); n > 0 {
		cut = fmt.Sprintf(", %s cut off", units.Size(n))
	}
	line("memory", "%s, %s of it as data in the file%s; the rest is zeros", units.Size(i.Memory), units.Size(i.Data), cut)
	if r := i.Report; r != nil {
		line("taken", "by procmem %s at %s, method %s in %s", r.Version, r.Time.UTC().Format(time.RFC3339), r.Method, duration(r.TotalMS))
		switch held := duration(r.PauseMS); {
		case r.Consistent && len(r.Torn)+r.TornMore == 0:
			line("consistent", "yes: the process was held for %s", held)
		case wasHeld(r) && len(r.Torn)+r.TornMore > 0:
			line("consistent", "partly: the process was held for %s, but %s", held, cmp.Or(r.InconsistentReason, "some memory may be of another moment"))
		default:
			line("consistent", "no: %s", r.InconsistentReason)
		}
		if r.Why != "" {
			line("why", "%s", r.Why)
		}
		if r.Rounds > 0 {
			line("rounds", "%d before the pause", r.Rounds)
		}
		for k, t := range r.Torn {
			label := ""
			if k == 0 {
				label = "torn"
			}
			line(label, "%v: %s", t.Range, t.Reason)
		}
		if r.TornMore > 0 {
			line("", "and %s", count(r.TornMore, "more range"))
		}
		missing := "nothing"
		if len(r.Missing) > 0 {
			missing = missingText(r)
		}
		line("missing", "%s", missing)
		for _, m := range r.Missing {
			line("", "%v: %s", m.Range, m.Error)
		}
		for _, t := range r.ThreadsMissing {
			line("", "thread %d: %s", t.TID, t.Error)
		}
	} else {
		line("taken", "by another program, or the report is cut off: how, and what it could not read, is not known")
	}
	for _, m := range i.Missing {
		line("truncated", "%v (%s): the file ends before", m.Range, units.Size(m.Bytes))
	}
	w.command(fmt.Sprintf("%-12s ", "open it"), i.Open)
	return w.flush()
}
