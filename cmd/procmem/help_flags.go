package main

import (
	"cmp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagGroups are the groups in which help lists the flags of commands that have many of them. What
// is in none of them is in the last.
var flagGroups = []flagGroup{
	{"What PATTERN is", "string regexp hex type pointer-to pattern file ignore-case utf16 align big-endian tolerance"},
	{"Where to look", "in perm swapped"},
	{"Narrowing down", "save from undo watch changed unchanged increased decreased value"},
	{lastGroup, ""},
}

const lastGroup = "Options"

type flagGroup struct{ title, names string }

const manyFlags = 12 // from so many on they are in groups

// valueNames are what help calls the values of flags that do not say so themselves, where that
// is not the name of the flag.
var valueNames = map[string]string{
	"bytes": "N", "align": "N", "max-results": "N", "context": "N",
	"in": "RANGE", "save": "FILE", "undo": "FILE", "from": "FILE", "after": "TIME", "type": "T", "tolerance": "X",
}

// groupedFlags returns the flags of a command, by group, but for those that all commands have.
func groupedFlags(cmd *cobra.Command) (titles []string, flags [][]*pflag.Flag) {
	all := map[string][]*pflag.Flag{}
	var every []*pflag.Flag
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" || f.Name == "version" || cmd.Root().PersistentFlags().Lookup(f.Name) != nil {
			return
		}
		all[groupOf(f.Name)] = append(all[groupOf(f.Name)], f)
		every = append(every, f)
	})
	switch {
	case len(every) == 0:
		return nil, nil
	case len(every) < manyFlags:
		return []string{lastGroup}, [][]*pflag.Flag{every}
	}
	for _, g := range flagGroups {
		if len(all[g.title]) > 0 {
			titles = append(titles, g.title)
			flags = append(flags, all[g.title])
		}
	}
	return titles, flags
}

func groupOf(name string) string {
	for _, g := range flagGroups {
		for member := range strings.FieldsSeq(g.names) {
			if member == name {
				return g.title
			}
		}
	}
	return lastGroup
}

// flagTerm returns a flag as it is typed: -o, --output FILE.
func flagTerm(f *pflag.Flag) string {
	term := "--" + f.Name
	if f.Shorthand != "" {
		term = "-" + f.Shorthand + ", " + term
	}
	if value := valueOf(f); value != "" {
		term += " " + value
	}
	return term
}

// valueOf returns what the value of a flag is called: what its usage has in backquotes, what its own
// type says, or its name in capitals; "" where it takes none.
func valueOf(f *pflag.Flag) string {
	if strings.Contains(f.Usage, "`") {
		name, _ := pflag.UnquoteUsage(f)
		return name
	}
	switch kind := f.Value.Type(); kind {
	case "bool":
		return ""
	case "string", "stringArray", "int", "float64", "duration":
		return cmp.Or(valueNames[f.Name], strings.ToUpper(f.Name))
	default:
		return kind
	}
}

// usageOf returns what a flag does, with what it is where it is not given.
func usageOf(f *pflag.Flag) string {
	_, usage := pflag.UnquoteUsage(f)
	switch f.DefValue {
	case "", "0", "false", "[]":
		return usage
	}
	return usage + " (default " + f.DefValue + ")"
}

// shortUsageOf is usageOf for a screen: up to a semicolon, behind which is what few need.
func shortUsageOf(f *pflag.Flag) string {
	short := *f
	short.Usage, _, _ = strings.Cut(f.Usage, ";")
	return usageOf(&short)
}
