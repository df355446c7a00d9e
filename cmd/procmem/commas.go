package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// oneList is exactly for a TARGET that may mean several. Where they were given with blanks between,
// it says how they are written.
func oneList(cmd *cobra.Command, args []string) error {
	if len(args) > 1 && !slices.ContainsFunc(args, func(word string) bool { return !isTarget(word) }) {
		return usagef("several targets have commas between: %s", commandWith(cmd, []string{strings.Join(args, ",")}))
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
		commands[i] = commandWith(cmd, []string{word})
	}
	return usagef("%s takes one core, not several with blanks or commas between: %s", cmd.CommandPath(), strings.Join(commands, "; "))
}
