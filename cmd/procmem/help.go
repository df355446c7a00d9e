package main

import (
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/procmem/procmem/internal/term"
)

// What --help prints fits a screen.
const (
	helpWidth    = 80 // columns
	helpHeight   = 40 // lines
	helpExamples = 3
	helpColumn   = 25 // at which it begins what an option does
)

// addHelp gives a program and its commands --help, which fits a screen, and help, which tells
// all: of a command what its man page tells, or of a topic.
func addHelp(root *cobra.Command) {
	root.SetHelpFunc(showHelp)
	root.SetHelpCommand(&cobra.Command{
		Use:     "help [COMMAND|TOPIC]",
		Short:   "Tell all of a command, as its man page does, or of a topic",
		Example: "  procmem help search\n  procmem help exit-status\n  procmem help json",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return helpWords(cmd.Root()), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return root.Help()
			}
			text, err := longHelp(root, args)
			if err != nil {
				return err
			}
			return printHelp(text)
		},
	})
}

// showHelp prints what --help does. Where that is before a command, args has the command.
func showHelp(cmd *cobra.Command, args []string) {
	if i := slices.IndexFunc(args, func(word string) bool { return !strings.HasPrefix(word, "-") }); !cmd.HasParent() && i >= 0 {
		if text, err := longHelp(cmd, args[i:i+1]); err == nil {
			_ = printHelp(text)
			return
		}
	}
	_ = printHelp(shortHelp(cmd))
}

// printHelp prints text of the program's own, with its lines.
func printHelp(text string) error {
	for line := range strings.Lines(text) {
		if _, err := term.Fprintf(os.Stdout, "%s\n", strings.TrimSuffix(line, "\n")); err != nil {
			return stdoutError(err)
		}
	}
	return nil
}

// shortHelp returns what --help prints: what a command does, how it is called, examples and options.
func shortHelp(cmd *cobra.Command) string {
	var b strings.Builder
	b.WriteString(cmd.Short + ".\nUsage: " + cmd.UseLine() + "\nExamples:\n")
	examples := strings.Split(cmd.Example, "\n")
	b.WriteString(strings.Join(examples[:min(len(examples), helpExamples)], "\n") + "\n")
	if !cmd.HasAvailableSubCommands() {
		titles, flags := groupedFlags(cmd)
		for i, title := range titles {
			b.WriteString(title + ":\n")
			for _, f := range flags[i] {
				b.WriteString(entry(flagTerm(f), shortUsageOf(f), helpColumn, helpWidth))
			}
		}
		if cmd.HasParent() && cmd.Long != "" {
			b.WriteString("procmem help " + cmd.Name() + " tells all of it.\n")
		}
		return b.String()
	}
	b.WriteString("Commands:\n" + commandItems(cmd) + "Topics:\n")
	for _, t := range topics {
		b.WriteString(entry(t.name, t.short, commandColumn, helpWidth))
	}
	b.WriteString("procmem help COMMAND (or TOPIC) tells all. All commands have --help and --color.\n")
	return b.String()
}

const commandColumn = 15

// commandItems lists the commands.
func commandItems(root *cobra.Command) string {
	var b strings.Builder
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			b.WriteString(entry(c.Name(), c.Short, commandColumn, helpWidth))
		}
	}
	return b.String()
}

// longHelp returns all that is known of a command or a topic.
func longHelp(root *cobra.Command, words []string) (string, error) {
	if len(words) > 1 {
		return "", usagef("unexpected argument %q: usage: procmem help [COMMAND|TOPIC]", words[1])
	}
	if t, ok := findTopic(words[0]); ok {
		return t.short + ".\n\n" + t.text, nil
	}
	cmd, err := helpedCommand(root, words[0])
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for i, s := range sectionsOf(cmd) {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(s.title + "\n\n" + s.text)
	}
	return b.String(), nil
}

// helpedCommand returns the command of a name. That may be gcore, which is a program.
func helpedCommand(root *cobra.Command, name string) (*cobra.Command, error) {
	if name == "gcore" {
		return newGcore(), nil
	}
	cmd, _, err := root.Find([]string{name})
	if _, answered := findAnswer(name, anyPID); err != nil || cmd == root || cmd.Name() != name || answered {
		return nil, unknownHelp(root, name)
	}
	return cmd, nil
}

// helpWords are what help can be asked for, as a shell offers it.
func helpWords(root *cobra.Command) []string {
	var words []string
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			words = append(words, c.Name()+"\t"+c.Short)
		}
	}
	for _, t := range topics {
		words = append(words, t.name+"\t"+t.short)
	}
	return words
}
