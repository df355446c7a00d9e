package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/procmem/procmem/snapshot"
)

// methodFlag is the value of --method.
type methodFlag snapshot.Method

func (m *methodFlag) String() string { return string(*m) }
func (m *methodFlag) Type() string   { return "auto|stop|fork|precopy|live" }

func (m *methodFlag) Set(s string) error {
	switch v := snapshot.Method(s); v {
	case snapshot.MethodAuto, snapshot.MethodStop, snapshot.MethodFork, snapshot.MethodPrecopy, snapshot.MethodLive:
		*m = methodFlag(v)
		return nil
	}
	return errors.New("want auto, stop, fork, precopy or live")
}

// pauseFlag is the value of --max-pause.
type pauseFlag time.Duration

func (d *pauseFlag) String() string {
	if *d == 0 {
		return ""
	}
	return time.Duration(*d).String()
}

func (d *pauseFlag) Type() string { return "TIME" }

func (d *pauseFlag) Set(s string) error {
	v, err := time.ParseDuration(s)
	if err != nil || v <= 0 {
		return errors.New("want a time such as 20ms or 1s")
	}
	*d = pauseFlag(v)
	return nil
}

// addMethod gives a command the flag --method.
func addMethod(cmd *cobra.Command, m *methodFlag) {
	cmd.Flags().Var(m, "method", "how the moment is taken")
	complete(cmd, "method", "auto", "stop", "fork", "precopy", "live")
}

// complete offers the values of a flag to the shell.
func complete(cmd *cobra.Command, flag string, values ...string) {
	// It fails only where there is no such flag, or this was done before.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}
