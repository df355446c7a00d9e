package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/term"
)

func newOpen() *cobra.Command {
	var o coreOpener
	cmd := &cobra.Command{
		Use:                   "open [flags] CORE [-- DEBUGGER ARGUMENTS]",
		DisableFlagsInUseLine: true,
		Short:                 "Start a debugger on a core, with the program that it is of",
		Long: `Start a debugger on a core, with the program that it is of: the file at the path
in the core, if that has the same build id, or one that has it where
distributions put them (/usr/lib/debug/.build-id). A compressed core is unpacked
into a file without a name, in TMPDIR, which ends with the debugger.

The debugger is gdb, or delve for a program written in Go, if it is installed.
procmem becomes the debugger: the exit status is the debugger's.`,
		Example: "  procmem open core.1234\n  procmem open core.1234.zst -- -batch -ex 'thread apply all bt'\n" +
			"  procmem open core.1234 --with lldb --print",
		Args: func(cmd *cobra.Command, args []string) error {
			before := args
			if n := cmd.ArgsLenAtDash(); n >= 0 {
				before = args[:n]
			}
			if len(before) > 1 {
				return usagef("unexpected argument %q: arguments of the debugger come after --", before[1])
			}
			return exactly("CORE")(cmd, before)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(args[0], args[1:]) },
	}
	cmd.Flags().StringVar(&o.with, "with", "", "the debugger: gdb, lldb or dlv, also with a version or as a path (default: gdb, or dlv for Go)")
	cmd.Flags().BoolVar(&o.print, "print", false, "print the command instead of running it")
	complete(cmd, "with", debuggers...)
	cmd.SetFlagErrorFunc(debuggerFlag)
	return cmd
}

// coreOpener is one call of open.
type coreOpener struct {
	with  string
	print bool
}

func (o *coreOpener) run(path string, args []string) error {
	if err := checkDebugger(o.with); err != nil {
		return err
	}
	p := startProgress(path)
	defer p.end()
	src, err := openPacked(path, p)
	if err != nil {
		return notCore(path, err)
	}
	defer src.Close()
	c, err := core.NewReader(src, src.Size())
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	program := findProgram(c, p.notice)
	defer program.Close()
	d, err := o.debugger(program)
	if err != nil {
		return err
	}
	if d.kind == "dlv" && program.path == "" {
		return fmt.Errorf("%s needs the program, and that is not at hand", d.name)
	}
	if o.print {
		p.end()
		return d.printCommand(path, src.Packed(), program.path, args)
	}
	if err := checkNames(c.Image().Mappings); err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	name := argument(path)
	if src.Packed() {
		f, err := unpackUnnamed(src, path, p)
		if err != nil {
			return err
		}
		name = handDown(f)
	} else if !plainName(path) {
		name = handDown(src.File())
	}
	p.end()
	tellDamage(path, c)
	return d.start(name, program.argument(), args)
}

// debugger returns the debugger that was asked for, or the one for the program.
func (o *coreOpener) debugger(program *program) (*debugger, error) {
	switch {
	case o.with != "":
		return findDebugger(o.with)
	case program.isGo():
		return findDebugger("dlv", "gdb", "lldb")
	}
	return findDebugger("gdb", "lldb")
}

// notCore adds to an error what to do where the word is a process.
func notCore(word string, err error) error {
	if _, number := strconv.Atoi(word); number == nil && errors.Is(err, os.ErrNotExist) {
		return usagef("%s is no file: procmem open takes a core, which procmem core %s makes", word, word)
	}
	return err
}

// start replaces procmem with the debugger.
func (d *debugger) start(core, program string, args []string) error {
	// Ignored signals stay ignored in a program that is started. Handled ones do not.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE, syscall.SIGXFSZ, syscall.SIGUSR1)
	if err := syscall.Exec(d.path, d.command(core, program, args), os.Environ()); err != nil {
		return fmt.Errorf("start %s: %w", d.path, err)
	}
	return nil
}

// printCommand prints what a person would type.
func (d *debugger) printCommand(path string, packed bool, program string, args []string) error {
	var steps []string
	core := argument(path)
	if packed {
		plain, err := convertedName(path, false)
		unpack := []string{"procmem", "unpack", core}
		if err != nil {
			plain = path + ".plain"
			unpack = append(unpack, "-o", argument(plain))
		}
		steps, core = append(steps, shellWords(unpack)), argument(plain)
	}
	steps = append(steps, shellWords(d.command(core, program, args)))
	line := strings.Join(steps, " && ")
	if !typable(line) {
		return fmt.Errorf("a name holds characters that cannot be typed: run procmem open without --print, or rename the file: %q", line)
	}
	_, err := term.Fprintf(os.Stdout, "%s\n", line)
	return stdoutError(err)
}
