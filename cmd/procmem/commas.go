package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// oneList is exactly for a TARGET that may mean several. Where they were given with blanks between,
// it says how they are written.
func oneList(cmd *cobra.Command, args []string) error {
	if len(args) > 1 && !slices.ContainsFunc(args, func(word string) bool { return !isTarget(word) }) {
		return usagef("several targets have commas between: %s", again(cmd, strings.Join(args, ",")))
	}
	return exactly("TARGET")(cmd, args)
}

// oneAtATime is exactly for a command that works on one CORE. Several have a command each.
func oneAtATime(cmd *cobra.Command, args []string) error {
	if len(args) < 2 {
		return exactly("CORE")(cmd, args)
	}
	commands := make([]string, len(args))
	for i, word := range args {
		commands[i] = again(cmd, word)
	}
	return usagef("%s takes one core, not several with blanks or commas between: %s", cmd.CommandPath(), strings.Join(commands, "; "))
}

// again returns a command with the flags that were given, and another word.
func again(cmd *cobra.Command, word string) string {
	words := strings.Fields(cmd.CommandPath())
	cmd.Flags().Visit(func(f *pflag.Flag) {
		name := "--" + f.Name
		if f.NoOptDefVal == "" || f.NoOptDefVal != f.Value.String() {
			name += "=" + f.Value.String()
		}
		words = append(words, name)
	})
	return shellWords(append(words, word))
}
