// Command procmem reads the memory of live Linux processes and takes cores of them.
//
// Output rules: data goes to stdout, messages to stderr. Binary data goes to a terminal only
// with --format raw. With --json, stdout has JSON alone (docs/json.md).
package main

import (
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/procmem/procmem/internal/privilege"
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
	return leave(exitStatus(cmd.Execute()))
}

func newRoot() *cobra.Command {
	g := &globals{}
	root := &cobra.Command{
		Use:   "procmem",
		Short: "Read the memory of live Linux processes, and take cores of them",
		Long: `procmem reads the memory of live Linux processes and takes complete,
debugger-loadable cores of them. The same commands work on a core file.

TARGET is a process id, the word self (procmem itself), the name of a process,
or the path of a core file. maps, threads, info, search, strings and doctor take
several, as 123,456; a name means all that have it, all every process that may
be read. The other commands want one, but core takes a list of pids.

RANGE is 0xA-0xB (half-open, as in /proc/PID/maps), 0xA+LENGTH, 0xA-3+LENGTH,
[heap], [stack], or a mapped file such as libc.so.6, also with +OFFSET+LENGTH;
heap is all that allocators have. What procmem prints as a place is one, too, and
so is a line of it. read, search and strings also take sym:NAME, the memory of a
symbol. Sizes: 512, 0x1000, 4KiB, 1G.

Exit status: 0 done; 1 failed, and nothing half-written is left; 2 bad usage;
3 done, but data that should have been readable is missing; 128 and the number of
a signal that has ended procmem: 130 for Control-C. search, diff and
verify end with 1 for what they have found, and with 2 for trouble.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version, // a template of our own for it would link text/template, and every method with it
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q: see procmem --help", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	root.PersistentFlags().Var(&g.color, "color", "colour the output: auto, always or never")
	complete(root, "color", "auto", "always", "never")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%v: see %s --help", err, cmd.CommandPath())
	})
	root.AddCommand(newMaps(g), newRead(g), newDump(g), newCore(g), newOpen(), newThreads(g), newInfo(g),
		newSearch(g), newStrings(g), newVerify(g), newPack(), newUnpack(), newDoctor(g), newDiff(g), newMan())
	root.AddCommand(newWrite())
	root.InitDefaultCompletionCmd()
	return root
}
