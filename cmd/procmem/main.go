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
		Use:   "procmem COMMAND TARGET...",
		Short: "Read the memory of live Linux processes, and take cores of them",
		Long: `procmem reads the memory of live Linux processes and takes complete,
debugger-loadable cores of them. The same commands work on a core file.`,
		Example:       "  procmem doctor 1234\n  procmem search 1234 password\n  procmem core 1234",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version, // a template of our own for it would link text/template, and every method with it
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	root.PersistentFlags().Var(&g.color, "color", "colour the output: auto, always or never")
	complete(root, "color", "auto", "always", "never")
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(newMaps(g), newRead(g), newDump(g), newCore(g), newOpen(), newThreads(g), newStacks(g), newInfo(g),
		newSearch(g), newStrings(g), newVerify(g), newPack(), newUnpack(), newDoctor(g), newDiff(g), newMan(), newVersion())
	root.AddCommand(newAnswers()...)
	addHelp(root)
	addCompletion(root)
	return root
}
