package main

import (
	"github.com/procmem/procmem/internal/term"
	"github.com/spf13/cobra"
)

// globals are the flags that every command has.
type globals struct {
	color term.ColorMode
	json  bool
}

// addJSON gives a command the flag --json.
func (g *globals) addJSON(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&g.json, "json", false, "print JSON; procmem help json tells what each field means")
	return cmd
}

// version is set when a release is built.
var version = "0.1.0-dev"
