package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/procmem/procmem/snapshot"
)

// methodFlag is the value of --method.
type methodFlag snapshot.Method

func (m *methodFlag) String() string { return string(*m) }
func (m *methodFlag) Type() string   { return "stop|live" }

func (m *methodFlag) Set(s string) error {
	switch v := snapshot.Method(s); v {
	case snapshot.MethodStop, snapshot.MethodLive:
		*m = methodFlag(v)
		return nil
	}
	return errors.New("want stop or live")
}

// addMethod gives a command the flag --method.
func addMethod(cmd *cobra.Command, m *methodFlag) {
	cmd.Flags().Var(m, "method", "how the moment is taken: stop, or live, which does not stop the target")
	complete(cmd, "method", string(snapshot.MethodStop), string(snapshot.MethodLive))
}

// complete offers the values of a flag to the shell.
func complete(cmd *cobra.Command, flag string, values ...string) {
	// The error is that there is no such flag, or that this was done before.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}
