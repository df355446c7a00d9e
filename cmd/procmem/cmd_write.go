package main

import "github.com/spf13/cobra"

// newWrite answers whoever comes from a tool that writes to memory.
func newWrite() *cobra.Command {
	return &cobra.Command{
		Use: "write", Short: "Procmem only reads", Hidden: true, DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error {
			return usagef("procmem only reads memory, on purpose, so that it can do no harm: a debugger writes, such as gdb -p PID")
		},
	}
}
