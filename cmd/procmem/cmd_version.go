package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/procmem/procmem/internal/term"
)

// newVersion returns the command that many programs have for --version.
func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Hidden: true, Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			_, err := term.Fprintf(os.Stdout, "procmem version %s\n", version)
			return stdoutError(err)
		},
	}
}
