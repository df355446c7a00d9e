package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// answer is what procmem says to words of other programs that it has nothing like.
type answer struct {
	words string // commands and flags
	text  func(of string) string
}

var answers = []answer{
	{"write set poke patch scanmem", func(string) string {
		return "procmem only reads memory, on purpose, so that it can do no harm: a debugger writes, such as gdb -p PID"
	}},
	{"bt backtrace attach stack pstack gstack", func(of string) string {
		return "procmem stacks " + of + " prints what every thread is doing; a debugger has more, from a core: procmem core " + of + " && procmem open core." + of
	}},
	{"ps list ls", func(string) string {
		return "procmem does not list processes, but ps -e and pgrep NAME do; where it wants a process, it takes a pid or a name, as in procmem maps nginx"
	}},
	{"p pid", func(string) string {
		return "a process needs no flag before it: procmem COMMAND PID, as in procmem maps 1234"
	}},
}

// findAnswer returns what there is to say to a word. of is the process that the answer is about.
func findAnswer(word, of string) (text string, ok bool) {
	for _, a := range answers {
		if slices.Contains(strings.Fields(a.words), word) {
			return a.text(of), true
		}
	}
	return "", false
}

const anyPID = "PID"

// newAnswers returns commands that do nothing but answer.
func newAnswers() []*cobra.Command {
	var commands []*cobra.Command
	for _, a := range answers {
		words := strings.Fields(a.words)
		commands = append(commands, &cobra.Command{
			Use: words[0], Aliases: words[1:], Short: "Tell what to type instead", Hidden: true, DisableFlagParsing: true,
			RunE: func(_ *cobra.Command, args []string) error {
				of := anyPID
				if i := slices.IndexFunc(args, isPID); i >= 0 {
					of = args[i]
				}
				return usagef("%s", a.text(of))
			},
		})
	}
	return commands
}

func isPID(word string) bool { return word != "" && strings.Trim(word, "0123456789") == "" }

// answerFlag answers a flag that is unknown.
func answerFlag(unknown *pflag.NotExistError) (text string, ok bool) {
	return findAnswer(unknown.GetSpecifiedName(), anyPID)
}

// misplaced says where a flag goes that was given before the command.
func misplaced(root *cobra.Command, flag string) (text string, ok bool) {
	has := slices.ContainsFunc(root.Commands(), func(c *cobra.Command) bool { return c.IsAvailableCommand() && c.Flags().Lookup(flag) != nil })
	return "--" + flag + " goes behind the command: procmem COMMAND TARGET --" + flag, has
}
