package main

import (
	"errors"
	"io"
	"os"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/diff"
	"github.com/procmem/procmem/internal/regular"
	"github.com/procmem/procmem/internal/term"
)

// diffSummary prints how much has changed before what has: the process goes on, so nobody
// knows how long the rest will be. Until the end, the rest waits in a file without a name.
type diffSummary struct {
	*diffText
	rest *os.File
}

func newDiffSummary(t *diffText) (*diffSummary, error) {
	rest, err := regular.Unnamed(os.TempDir())
	if err != nil {
		return nil, err
	}
	t.w.Reset(rest)
	t.terminal = false
	return &diffSummary{t, rest}, nil
}

func (d *diffSummary) end(mappings int, s *diff.Stats) error {
	defer d.rest.Close()
	if err := d.body(s); err != nil {
		return err
	}
	if err := d.w.Flush(); err != nil {
		return err
	}
	if _, err := term.Fprintf(os.Stdout, "%s\n", diffTotal(mappings, s)); err != nil {
		return err
	}
	n, err := d.rest.Seek(0, io.SeekEnd)
	if err != nil || n == 0 {
		return err
	}
	term.Fprintf(os.Stdout, "\n")
	_, err = io.Copy(os.Stdout, io.NewSectionReader(d.rest, 0, n))
	return err
}

// notKeptError is procmem.ErrNotDumped for memory that was to be kept in a file, which nobody
// has called a core.
type notKeptError struct{}

func (notKeptError) Error() string { return "not copied at the start" }

func (notKeptError) Is(target error) bool { return target == procmem.ErrNotDumped }

// tellKept words what is missing of a memory that was kept.
func tellKept(s *diff.Stats) {
	for i, m := range s.Missing {
		if m.Side == diff.A && errors.Is(m.Err, procmem.ErrNotDumped) {
			s.Missing[i].Err = notKeptError{}
		}
	}
}
