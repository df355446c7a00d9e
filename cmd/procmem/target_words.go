package main

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/target"
)

// What a word is that may be a TARGET.
const (
	aPID  = "pid of a process"
	aFile = "path of a file"
	aName = "name of a process"
)

// otherTarget returns what a word is if it is a pid or a file, or "".
func otherTarget(word string) string {
	if pid, err := strconv.Atoi(word); err == nil && pid > 0 {
		if p, err := process.Open(pid); err == nil {
			p.Close()
			return aPID
		}
	}
	if st, err := os.Stat(word); err == nil && st.Mode().IsRegular() {
		return aFile
	}
	return ""
}

// anyTarget is otherTarget that knows names of processes, too. These take a look at all processes.
func anyTarget(word string) string {
	what := otherTarget(word)
	if what != "" || word == "all" || word == "self" || strings.ContainsAny(word, "/,") {
		return what
	}
	if _, err := strconv.Atoi(word); err == nil {
		return ""
	}
	if _, err := target.ParseList(word); err == nil {
		return aName
	}
	return ""
}

// targetFirst returns the error of a command, or a better one where the target was typed last, as
// other programs want it.
func targetFirst(cmd *cobra.Command, args []string, err error) error {
	if err == nil || !noTarget(err) {
		return err
	}
	if ordered, swapped := targetInFront(args); swapped {
		return usagef("%q is no target, and %q is one: the target comes first: %s", args[0], ordered[0], commandWith(cmd, ordered))
	}
	return err
}

// noTarget reports whether an error may be that a word is no target.
func noTarget(err error) bool {
	_, format := errors.AsType[*core.FormatError](err)
	return format || errors.Is(err, process.ErrNoProcess) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, target.ErrSyntax)
}

// targetInFront returns the words with the last one first, if that is a target and the first is none.
func targetInFront(words []string) (ordered []string, swapped bool) {
	last := len(words) - 1
	if last < 1 || isOpenable(words[0]) || !isOpenable(words[last]) {
		return words, false
	}
	return slices.Concat(words[last:], words[:last]), true
}

// isOpenable reports whether a word is a process or a core.
func isOpenable(word string) bool {
	switch anyTarget(word) {
	case aFile:
		return isCore(word)
	case "":
		return word == "all" || word == "self"
	}
	return true
}

// commandWith returns a command as it is typed with other words, and the flags that were given.
func commandWith(cmd *cobra.Command, words []string) string {
	line := strings.Fields(cmd.CommandPath())
	cmd.Flags().Visit(func(f *pflag.Flag) {
		values := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		for _, v := range values {
			flag := "--" + f.Name
			if f.NoOptDefVal == "" || f.NoOptDefVal != v {
				flag += "=" + v
			}
			line = append(line, flag)
		}
	})
	if slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, "-") }) {
		line = append(line, "--")
	}
	return shellWords(append(line, words...))
}
