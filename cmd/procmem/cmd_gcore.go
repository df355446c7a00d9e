package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/procmem/procmem/snapshot"
)

// newGcore returns procmem under the name gcore, with gcore's options and its default output.
func newGcore() *cobra.Command {
	job := &coreJob{gcore: true, method: methodFlag(snapshot.MethodStop)}
	var dataDir string
	cmd := &cobra.Command{
		Use:   "gcore [-h] [-v] [-a] [-o prefix] [-d data-directory] pid...",
		Short: "Take a core of each process (procmem core, with the options of gcore)",
		Long: `Take a core of each process into the file prefix.pid; prefix is "core" unless
given. This is procmem core with the options of gcore(1).`,
		Example:       "  gcore 1234\n  gcore -o /var/tmp/core 1234 5678\n  gcore -a 1234",
		Version:       version + " (procmem)",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return exactly("pid")(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return undoing(func(ctx context.Context) error { return job.run(ctx, args) })
		},
	}
	cmd.DisableFlagsInUseLine = true
	cmd.SetHelpFunc(showHelp)
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usagef("%v: see gcore -h", err) })
	cmd.Flags().StringVarP(&job.prefix, "output", "o", "core", "write to `PREFIX`.PID")
	cmd.Flags().BoolVarP(&job.all, "all", "a", false, "dump all mappings, whatever coredump_filter and MADV_DONTDUMP say")
	cmd.Flags().StringVarP(&dataDir, "data-directory", "d", "", "`DIR` is accepted for gcore's sake; it means nothing here")
	cmd.Flags().BoolVar(&job.force, "force", false, "replace an existing file, as gdb's gcore does unasked")
	return cmd
}
