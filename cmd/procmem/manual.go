package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// manSection is a part of a man page. Its text is a text of help, and is printed as it is where it is
// an example.
type manSection struct {
	title, text string
	example     bool
}

// sectionsOf returns the man page of a command.
func sectionsOf(cmd *cobra.Command) []manSection {
	s := []manSection{
		{title: "NAME", text: pageName(cmd) + " - " + cmd.Short + "\n"},
		{title: "SYNOPSIS", text: cmd.UseLine() + "\n"},
	}
	if cmd.Long != "" {
		s = append(s, manSection{title: "DESCRIPTION", text: cmd.Long + "\n"})
	}
	if cmd.HasAvailableSubCommands() {
		s = append(s, manSection{title: "COMMANDS", text: commandItems(cmd)})
		for _, name := range []string{"target", "range", "exit-status"} {
			t, _ := findTopic(name)
			s = append(s, manSection{title: strings.ToUpper(strings.ReplaceAll(name, "-", " ")), text: t.text})
		}
	}
	s = append(s, manSection{title: "OPTIONS", text: optionItems(cmd)})
	s = append(s, manSection{title: "EXAMPLES", text: cmd.Example + "\n", example: true})
	return append(s, manSection{title: "SEE ALSO", text: strings.Join(related(cmd), ", ") + "\n"})
}

// pageName returns the name of the man page of a command.
func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// optionItems lists the options of a command, and what all commands have.
func optionItems(cmd *cobra.Command) string {
	var b strings.Builder
	titles, flags := groupedFlags(cmd)
	for i, title := range titles {
		if len(titles) > 1 {
			b.WriteString(title + ":\n\n")
		}
		for _, f := range flags[i] {
			b.WriteString(entry(flagTerm(f), usageOf(f), 6, helpWidth))
		}
		b.WriteByte('\n')
	}
	if f := cmd.Root().PersistentFlags().Lookup("color"); f != nil {
		b.WriteString(entry(flagTerm(f), usageOf(f), 6, helpWidth))
	}
	b.WriteString(entry("-h, --help", "print what fits a screen of this", 6, helpWidth))
	if cmd.Version != "" {
		b.WriteString(entry("-v, --version", "print the version", 6, helpWidth))
	}
	return b.String()
}

// related returns the pages to see after that of a command.
func related(cmd *cobra.Command) []string {
	if cmd.HasParent() {
		return []string{"procmem(1)", "procmem-json(1)"}
	}
	pages := []string{"procmem-json(1)"}
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" {
			pages = append(pages, pageName(c)+"(1)")
		}
	}
	return append(pages, "gcore(1)", "core(5)", "proc(5)")
}
