package main

import (
	"cmp"
	"errors"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// grepFlags say what stands for flags of grep(1) that search does not have.
var grepFlags = map[string]string{
	"r": "all memory of a TARGET is searched; procmem search all PATTERN searches every process that may be read",
	"a": "memory is bytes, and all of it is searched; procmem search all PATTERN searches every process that may be read",
	"P": "--regexp (-E) takes the syntax of RE2, which is that of Perl without lookaround and backreferences",
	"A": "memory has no lines: -C N prints N bytes on either side of a match",
	"n": "memory has no lines: each match has its address anyway",
	"l": "--count (-c) prints how many matches each target has, as in procmem search all PATTERN -c",
	"o": "-C 0 prints the match without what is around it",
	"v": "memory has no lines that do not match: procmem strings TARGET | grep -v PATTERN prints the strings that do not",
	"F": "text is looked for as it is written, unless -E is given",
	"w": `--regexp (-E) '\bWORD\b' finds whole words`,
	"m": "--max-results N stops after N matches",
	"q": "the exit status tells; --count (-c) prints numbers alone",
}

// longGrepFlags are their long names.
var longGrepFlags = map[string]string{
	"all": "a", "text": "a", "recursive": "r", "perl-regexp": "P", "after-context": "A", "before-context": "A", "B": "A",
	"line-number": "n", "files-with-matches": "l", "only-matching": "o", "invert-match": "v", "fixed-strings": "F",
	"word-regexp": "w", "max-count": "m", "quiet": "q", "R": "r",
}

// flagError answers flags of search that are unknown, or lack a value.
func (o *searchFlags) flagError(cmd *cobra.Command, err error) error {
	if lacks, ok := errors.AsType[*pflag.ValueRequiredError](err); ok && lacks.GetSpecifiedName() == "undo" {
		return usagef("--undo wants the file of candidates: procmem search --undo %s", shellWord(cmp.Or(o.from, o.save, "FILE")))
	}
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return flagError(cmd, err)
	}
	name := unknown.GetSpecifiedName()
	if first := name[0]; unknown.GetSpecifiedShortnames() != "" && (first >= '0' && first <= '9' || first == '.') {
		return usagef("%v: a negative number needs -- or -e in front of it; see %s --help", err, cmd.CommandPath())
	}
	if text := grepFlag(name); text != "" {
		return usagef("search has no %s: %s", dashed(name), text)
	}
	return flagError(cmd, err)
}

func grepFlag(name string) string {
	if short := longGrepFlags[name]; short != "" {
		name = short
	}
	return grepFlags[name]
}

// dashed returns a flag as it is typed.
func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}
