package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/procmem/procmem/internal/term"
)

// addCompletion gives procmem the command completion, and tells the commands what their arguments
// may be.
func addCompletion(root *cobra.Command) {
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(&cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print what makes a shell complete commands, targets and ranges",
		Long: `Print the script that makes a shell complete the words of procmem: commands,
options, processes with their names, core files, mappings and symbols. make
install and the packages put it where the shells look.`,
		Example: "  source <(procmem completion bash)\n  procmem completion zsh > ~/.zfunc/_procmem\n" +
			"  procmem completion fish > ~/.config/fish/completions/procmem.fish",
		ValidArgs: []string{"bash", "zsh", "fish"},
		Args:      exactly("bash, zsh or fish"),
		RunE: func(cmd *cobra.Command, args []string) error {
			script, err := completionScript(cmd.Root(), args[0])
			if err != nil {
				return err
			}
			_, err = os.Stdout.WriteString(script)
			return stdoutError(err)
		},
	})
	for _, c := range root.Commands() {
		if f := argumentsOf[c.Name()]; f != nil {
			c.ValidArgsFunction = f
		}
		if c.Flags().Lookup("in") != nil {
			_ = c.RegisterFlagCompletionFunc("in", completeIn) // it fails only where there is no such flag
		}
	}
}

func completionScript(root *cobra.Command, shell string) (string, error) {
	var b bytes.Buffer
	var err error
	switch shell {
	case "bash":
		if err = root.GenBashCompletionV2(&b, true); err == nil {
			return selfReliant(b.String())
		}
	case "zsh":
		err = root.GenZshCompletion(&b)
	case "fish":
		err = root.GenFishCompletion(&b, true)
	default:
		err = usagef("%q: want bash, zsh or fish", shell)
	}
	return b.String(), err
}

//go:embed completion.bash
var bashWords string

// selfReliant changes cobra's script for bash: it works where the package bash-completion is not
// there, and completes words with brackets, which cobra compares as a shell would quote them.
func selfReliant(script string) (string, error) {
	for _, change := range [][2]string{
		{`    _get_comp_words_by_ref "$@" cur prev words cword` + "\n", `    __procmem_get_words` + "\n"},
		{`[[ $comp == "$cur"* ]] || continue`, `[[ $comp == "$cur"* || ${compline%%$tab*} == "$cur"* ]] || continue`},
	} {
		if strings.Count(script, change[0]) != 1 {
			return "", fmt.Errorf("the completion of bash by cobra has changed: %s is not in it", term.Printable(change[0]))
		}
		script = strings.Replace(script, change[0], change[1], 1)
	}
	return bashWords + "\n" + script, nil
}
