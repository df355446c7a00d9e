package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// noPattern wants a TARGET and nothing else. It says what to type where a pattern, or another target,
// was typed too.
func noPattern(cmd *cobra.Command, args []string) error {
	if len(args) < 2 {
		return exactly("TARGET")(cmd, args)
	}
	words, _ := targetInFront(args)
	if isOpenable(words[0]) && isOpenable(words[1]) {
		return usagef("several targets have commas between: %s", commandWith(cmd, []string{strings.Join(words, ",")}))
	}
	of, pattern := shellWord(words[0]), shellWord(strings.Join(words[1:], " "))
	return usagef("strings takes no pattern: procmem search %s %s, or procmem strings %[1]s | grep -e %s", of, pattern)
}
