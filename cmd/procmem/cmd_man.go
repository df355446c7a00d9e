package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// newMan writes the man pages from the definitions of the commands.
func newMan() *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		Short:   "Write the man pages into a folder",
		Example: "  procmem man man\n  man -l man/procmem.1\n  SOURCE_DATE_EPOCH=1700000000 procmem man man",
		Hidden:  true,
		Args:    exactly("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			date, err := releaseDate()
			if err != nil {
				return err
			}
			return writeManual(cmd.Root(), date, args[0])
		},
	}
}

// writeManual writes a page for procmem, for each command, and for --json.
func writeManual(root *cobra.Command, date time.Time, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	t, _ := findTopic("json")
	pages := []*manPage{
		newManPage(pageName(root), date, sectionsOf(root)),
		newManPage("procmem-json", date, []manSection{{title: "NAME", text: "procmem-json - " + t.short}, {title: "DESCRIPTION", text: t.text}}),
	}
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" {
			pages = append(pages, newManPage(pageName(c), date, sectionsOf(c)))
		}
	}
	for _, p := range pages {
		if err := os.WriteFile(filepath.Join(dir, p.name+".1"), []byte(p.b.String()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// releaseDate returns the time of SOURCE_DATE_EPOCH or, where that is not set, of the commit that
// was built; zero where neither is known.
func releaseDate() (time.Time, error) {
	if s := os.Getenv("SOURCE_DATE_EPOCH"); s != "" {
		seconds, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH %q: want seconds since 1970", s)
		}
		return time.Unix(seconds, 0), nil
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.time" {
				return time.Parse(time.RFC3339, s.Value)
			}
		}
	}
	return time.Time{}, nil
}
