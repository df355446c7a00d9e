package main

import (
	"errors"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/procmem/procmem/target"
)

// otherNames are what people who come from other programs type for a command.
var otherNames = map[string]string{
	"gcore": "core", "dump-core": "core", "pmap": "maps", "grep": "search", "find": "search", "scan": "search",
	"hexdump": "read", "xxd": "read", "cat": "read",
	"check": "verify", "compress": "pack", "decompress": "unpack",
}

// unknownCommand says what to type in place of a word that is no command.
func unknownCommand(root *cobra.Command, args []string) error {
	word := args[0]
	near := nearest(word, commandNames(root))
	words, _ := targetInFront(args[1:])
	other := otherNames[strings.ToLower(word)]
	switch {
	case other != "":
		return usagef("unknown command %q: that is %s", word, shellWords(append([]string{"procmem", other}, words...)))
	case near == "" && isTarget(word):
		return usagef("%s is a target; a command goes before it: procmem maps %[1]s, or read, search, threads, core (procmem --help lists all)", word)
	}
	return usagef("unknown command %q: %s", word, orHelp(near, "procmem --help lists all"))
}

// isTarget reports whether a word is a number, or what a TARGET may be on this machine.
func isTarget(word string) bool {
	_, err := strconv.Atoi(word)
	if err != nil {
		_, err = target.ParseList(word)
	}
	return err == nil
}

// unknownHelp is unknownCommand for what help is asked for.
func unknownHelp(root *cobra.Command, word string) error {
	if text, ok := findAnswer(word, anyPID); ok {
		return usagef("%s", text)
	}
	names := commandNames(root)
	for _, t := range topics {
		names = append(names, t.name)
	}
	near := nearest(word, names)
	if other := otherNames[word]; other != "" {
		near = other
	}
	return usagef("%q is no command and no topic: %s", word, orHelp(near, "procmem help lists them"))
}

// flagError says of a flag that is unknown which one is near.
func flagError(cmd *cobra.Command, err error) error {
	if words := cmd.Flags().Args(); !cmd.HasParent() && len(words) > 0 {
		return unknownCommand(cmd, words) // such as grep -r
	}
	see := "see " + cmd.CommandPath() + " --help"
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if ok {
		if text, ok := answerFlag(unknown); ok {
			return usagef("%v: %s", err, text)
		}
		if text, ok := misplaced(cmd, unknown.GetSpecifiedName()); ok {
			return usagef("%s", text)
		}
	}
	if !ok || unknown.GetSpecifiedShortnames() != "" {
		return usagef("%v: %s", err, see)
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	near := nearest(unknown.GetSpecifiedName(), names)
	if near != "" {
		near = "--" + near
	}
	return usagef("%v: %s", err, orHelp(near, see))
}

func orHelp(near, help string) string {
	if near == "" {
		return help
	}
	return "did you mean " + near + "? (" + help + ")"
}

func commandNames(root *cobra.Command) []string {
	var names []string
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return names
}

// nearest returns the name that a word was meant to be: one that begins with it, or has at most
// two letters that are others, more or fewer, and at most half; "" where there is none.
func nearest(word string, names []string) string {
	const most = 2
	best, least := "", most+1
	for _, name := range names {
		d := distance(word, name)
		if len(word) > 1 && strings.HasPrefix(name, word) {
			d = 1
		}
		if d < least && 2*d <= len(name) {
			best, least = name, d
		}
	}
	return best
}

// distance returns how many letters must be put in, taken out or replaced to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
