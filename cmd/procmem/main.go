// Command procmem reads the memory of live Linux processes and takes cores of them.
//
// Output rules: data goes to stdout, messages to stderr. Binary data goes to a terminal only
// with --format raw. With --json, stdout has JSON alone (docs/json.md).
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/access"
	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/target"
)

// version is set when a release is built.
var version = "0.1.0-dev"

// The exit statuses.
const (
	exitDone    = 0
	exitFailed  = 1 // failed, and nothing half-written is left
	exitUsage   = 2
	exitMissing = 3 // done, but data that should have been readable is missing
)

func main() { os.Exit(run()) }

func run() int {
	// A closed pipe and a file size limit are errors to report, not reasons to die.
	signal.Ignore(syscall.SIGPIPE, syscall.SIGXFSZ, syscall.SIGUSR1)
	if err := privilege.Lower(); err != nil {
		return exitStatus(err)
	}
	cmd := newRoot()
	if filepath.Base(os.Args[0]) == "gcore" {
		cmd = newGcore()
	}
	return exitStatus(cmd.Execute())
}

// errInterrupted is the cause of a context that a signal has ended.
type errInterrupted struct{ sig os.Signal }

func (e errInterrupted) Error() string {
	if sig, ok := e.sig.(syscall.Signal); ok && unix.SignalName(sig) != "" {
		return "stopped by " + unix.SignalName(sig) // String calls it "terminated"
	}
	return "stopped by " + e.sig.String()
}

// undoing is for commands that have something to undo. The first SIGINT, SIGTERM, SIGQUIT or
// SIGHUP ends the context, so that the target is let go and half-written files are removed. A
// second signal ends procmem at once, which lets the target go as well. So does a first one
// that does not end procmem in time. Other commands just end.
//
// Control-Z has no effect, because a stopped process cannot let the target go. A signal that
// was ignored when procmem was started stays ignored, as under nohup(1).
func undoing(run func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	ch := make(chan os.Signal, 1)
	signal.Ignore(syscall.SIGTSTP)
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP} {
		if !signal.Ignored(sig) {
			signal.Notify(ch, sig)
		}
	}
	defer signal.Stop(ch)
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case sig := <-ch:
			signal.Stop(ch)
			cancel(errInterrupted{sig})
			endAnyway(ctx, done)
		case <-done:
		}
	}()
	return run(ctx)
}

// globals are the flags that every command has.
type globals struct {
	color term.ColorMode
	json  bool
}

func newRoot() *cobra.Command {
	g := &globals{}
	root := &cobra.Command{
		Use:   "procmem",
		Short: "Read the memory of live Linux processes, and take cores of them",
		Long: `procmem reads the memory of live Linux processes and takes complete,
debugger-loadable cores of them. The same commands work on a core file.

TARGET is a process id, the word self (procmem itself), the name of a process
that is the only one of that name, or the path of a core file.

RANGE is 0xA-0xB (half-open, as in /proc/PID/maps), 0xA+LENGTH, [heap],
[stack], or a mapped file such as libc.so.6, also with +OFFSET+LENGTH.
read, search and strings also take sym:NAME, the memory of a symbol.
Sizes: 512, 0x1000, 4KiB, 1G.

Exit status: 0 done; 1 failed, and nothing half-written is left; 2 bad usage;
3 done, but data that should have been readable is missing. search, diff and
verify end with 1 for what they have found, and with 2 for trouble.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q: see procmem --help", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("procmem {{.Version}}\n")
	root.PersistentFlags().Var(&g.color, "color", "colour the output: auto, always or never")
	complete(root, "color", "auto", "always", "never")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%v: see %s --help", err, cmd.CommandPath())
	})
	root.AddCommand(newMaps(g), newRead(g), newDump(g), newCore(g), newThreads(g), newInfo(g),
		newSearch(g), newStrings(g), newVerify(g), newPack(), newUnpack(), newDoctor(g), newDiff(g), newMan())
	root.InitDefaultCompletionCmd()
	return root
}

// addJSON gives a command the flag --json.
func (g *globals) addJSON(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&g.json, "json", false, "print JSON, as docs/json.md describes")
	return cmd
}

// usageError is a mistake in the command line.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

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
	complain(err)
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

// exactly is cobra.ExactArgs with a usage error that names what is missing.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usagef("%s is missing: usage: %s", names[len(args)], cmd.UseLine())
		case len(args) > len(names):
			return usagef("unexpected argument %q: usage: %s", args[len(names)], cmd.UseLine())
		}
		return nil
	}
}
