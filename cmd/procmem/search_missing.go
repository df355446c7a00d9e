package main

import (
	"github.com/spf13/cobra"
)

// checkPatterns refuses a search without a PATTERN, and narrowing down with one. args are the TARGET
// and the patterns of the command line.
func (o *searchFlags) checkPatterns(cmd *cobra.Command, args []string) error {
	switch {
	case args[0] == "*" && !isOpenable("*"):
		words := append([]string{"all"}, args[1:]...)
		return usagef("every process that may be read is the TARGET all: %s", commandWith(cmd, append(words, "PATTERN")[:max(2, len(words))]))
	case o.from != "" && len(args) > 1:
		value := args[1]
		_ = cmd.Flags().Set("value", value) // for the command that is printed
		return usagef("unexpected argument %q: --from looks at candidates, which --value compares with a number: %s", value, commandWith(cmd, args[:1]))
	case o.from != "" || len(args) > 1 || len(o.also) > 0 || o.file != "" || o.typ != "" && o.save != "":
		return nil
	case !isOpenable(args[0]):
		return usagef("PATTERN is missing, or TARGET: %[1]q is no target; for a process, or all of them: %s", args[0], commandWith(cmd, []string{"all", args[0]}))
	}
	return usagef("PATTERN is missing: %s, or see %s --help", commandWith(cmd, []string{args[0], "PATTERN"}), cmd.CommandPath())
}
