package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/internal/units"
)

// verdictJSON is what verify prints with --json.
type verdictJSON struct {
	Path        string        `json:"path"`
	Checked     bool          `json:"checked"`
	MemoryBytes uint64        `json:"memory_bytes"`
	Damaged     []core.Damage `json:"damaged"`
}

func newVerify(g *globals) *cobra.Command {
	return g.addJSON(&cobra.Command{
		Use:   "verify CORE",
		Short: "Compare a core with the checksums in it",
		Long: `Compare each page of a core, its notes and its headers with the checksums that
procmem core put into it, and print what is damaged: addresses of memory, or
offsets in the file. Of a file that is cut off, how much is missing is printed.
A core may be compressed.

Exit status: 0 all is as it was written; 1 it is damaged, cut off, or no core;
2 it could not be looked at, which says nothing about it; 3 there are no
checksums, so nothing more was found out than that all parts are there and can
be read.`,
		Example: "  procmem verify core.1234\n  procmem verify core.1234.zst\n  procmem verify core.1234 --json",
		Args:    oneAtATime,
		RunE: func(cmd *cobra.Command, args []string) error {
			p := startProgress(args[0])
			defer p.end()
			o := openOptions(args[0], p.notice)
			tell := o.Unpacking
			o.Unpacking = func(why string, done func() int64, total int64) {
				tell(why, done, total)
				p.unpacking(done, total)
			}
			c, err := core.OpenWith(args[0], o)
			_, noCore := errors.AsType[*core.FormatError](err)
			if _, damaged := errors.AsType[*core.PackedError](err); noCore || damaged {
				return err
			}
			if err != nil {
				return troubled(err)
			}
			defer c.Close()
			var done atomic.Int64
			p.enter("verifying")
			_, data, _ := core.Predict(c.Segments(), c) // a file always tells
			p.count(done.Load, int64(data))
			var v *core.Verdict
			err = undoing(func(ctx context.Context) error {
				v, err = c.Verify(ctx, func(n int) { done.Add(int64(n)) })
				return err
			})
			p.end()
			if err != nil {
				return err
			}
			return tellVerdict(g, args[0], v, c.Intact())
		},
	})
}

// tellVerdict prints what was found. whole says that the compressed file around the core is
// whole.
func tellVerdict(g *globals, path string, v *core.Verdict, whole bool) error {
	cut, other := splitCut(v.Damaged)
	if g.json {
		out := verdictJSON{path, v.Checked, v.MemoryBytes, v.Damaged}
		if out.Damaged == nil {
			out.Damaged = []core.Damage{}
		}
		if err := printJSON(&out); err != nil {
			return err
		}
	} else {
		tellCut(path, cut)
		for _, d := range other {
			term.Fprintf(os.Stdout, "%s\n", d.String())
		}
		if len(v.Damaged) == 0 && v.Checked && whole {
			term.Fprintf(os.Stdout, "%s: whole: %s of memory, headers and notes are as they were written\n", path, units.Size(v.MemoryBytes))
		}
	}
	switch {
	case len(cut) > 0 && len(other) == 0:
		return fmt.Errorf("verify %s: the file is cut off: copy it again, or read what is there (procmem info %s)", path, path)
	case len(v.Damaged) > 0:
		return fmt.Errorf("verify %s: %s damaged", path, count(len(v.Damaged), "part"))
	case !whole:
		return fmt.Errorf("verify %s: the compressed file is cut off or damaged, but nothing of the core that it promises is missing", path)
	case !v.Checked:
		notice("%s has no checksums: all that it promises is there and can be read, but whether it is as it was written nobody can tell", path)
		return statusError(exitMissing)
	}
	return nil
}
