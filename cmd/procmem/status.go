package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/access"
	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/target"
)

// The exit statuses.
const (
	exitDone    = 0
	exitFailed  = 1 // failed, and nothing half-written is left
	exitUsage   = 2
	exitMissing = 3 // done, but data that should have been readable is missing
)

// statusError is an exit status for what has been printed already.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// exitStatus prints the error, if there is one, and returns the status.
func exitStatus(err error) int {
	var status statusError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &status):
		return int(status)
	}
	sig := signalOf(err)
	if sig != syscall.SIGPIPE {
		complain(err)
	}
	if sig != 0 {
		return bySignal + int(sig)
	}
	if _, ok := errors.AsType[usageError](err); ok || errors.Is(err, target.ErrSyntax) {
		return exitUsage
	}
	return exitFailed
}

// complain prints an error to stderr. It explains a refusal by the kernel.
func complain(err error) {
	text := err.Error()
	if p, ok := errors.AsType[*target.ProcessError](err); ok {
		if why, ok := access.Explain(p.PID, p.Err); ok {
			text = fmt.Sprintf("%s (procmem doctor %d tells more)", why, p.PID)
		}
	}
	if e, ok := errors.AsType[*target.NameError](err); ok {
		if near := nearProcess(e.Word); near != "" {
			text += "; did you mean " + near + "?"
		}
	}
	many, ok := errors.AsType[*target.ManyError](err)
	if ok {
		text, _, _ = strings.Cut(text, "\n")
	}
	term.Fprintf(os.Stderr, "procmem: %s\n", text)
	if ok {
		for _, line := range many.Lines {
			term.Fprintf(os.Stderr, "  %s\n", line)
		}
	}
}

// onTarget wraps an error of work on a target, so that complain can explain it.
func onTarget(t *target.Target, err error) error {
	if t.Process == nil {
		return err
	}
	return onProcess(t.Process, err)
}

// isSelf reports whether a process of this /proc is procmem itself.
func isSelf(pid int) bool {
	self, err := process.Self()
	return err == nil && pid == self
}

// onProcess is onTarget for a process. The end of the process needs no explanation.
func onProcess(p *process.Process, err error) error {
	if err == nil {
		return nil
	}
	if (errors.Is(err, syscall.ESRCH) || errors.Is(err, process.ErrNoProcess)) && syscall.Kill(p.PID(), 0) == syscall.ESRCH {
		err = procmem.ErrGone
	}
	return &target.ProcessError{PID: p.PID(), Err: err}
}
