package main

import (
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// debuggerFlag answers a flag of open that is unknown: it is one of the debugger, unless one of open
// is near.
func debuggerFlag(cmd *cobra.Command, err error) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return flagError(cmd, err)
	}
	word := "-" + unknown.GetSpecifiedShortnames()
	if word == "-" {
		word = "--" + unknown.GetSpecifiedName()
	}
	line := []string{"procmem", "open", "CORE", "--", word}
	if i := slices.IndexFunc(os.Args, func(arg string) bool { return arg == word || strings.HasPrefix(arg, word+"=") }); i > 0 && cmd.Flags().NArg() > 0 {
		line = slices.Concat([]string{"procmem"}, os.Args[1:i], []string{"--"}, os.Args[i:])
	}
	if strings.HasPrefix(word, "--") && nearest(word[2:], []string{"with", "print", "help", "color"}) != "" {
		return flagError(cmd, err)
	}
	return usagef("%s is no flag of open: arguments of the debugger come after --: %s", word, shellWords(line))
}
