package main

import (
	"bytes"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// copyright writes the licence of procmem and those of all that is linked into it,
// because most of them ask for that.
func (r *release) copyright(arch string) error {
	info, err := buildinfo.ReadFile(r.in(arch, binaryPath))
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := addLicences(&text, "procmem", r.source); err != nil {
		return err
	}
	goroot, err := r.goCommand("env", "GOROOT")
	if err != nil {
		return err
	}
	if err := addLicences(&text, "Go "+info.GoVersion, goroot); err != nil {
		return err
	}
	for _, m := range info.Deps {
		dir, err := r.goCommand("list", "-m", "-f", "{{.Dir}}", m.Path)
		if err != nil {
			return err
		}
		if err := addLicences(&text, m.Path+" "+m.Version, dir); err != nil {
			return err
		}
	}
	return r.put(arch, copyrightPath, text.Bytes())
}

func (r *release) goCommand(args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Stderr = r.source, os.Stderr
	b, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", cmd, err)
	}
	return strings.TrimSpace(string(b)), nil
}

// addLicences adds the files of a module that hold its licence. A module without one is an error.
func addLicences(text *bytes.Buffer, what, dir string) error {
	before := text.Len()
	for _, pattern := range []string{"LICEN[CS]E*", "COPYING*", "COPYRIGHT*", "NOTICE*", "PATENTS"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			fmt.Fprintf(text, "==== %s: %s\n\n%s\n\n", what, filepath.Base(name), bytes.TrimSpace(b))
		}
	}
	if text.Len() == before {
		return fmt.Errorf("%s has no licence in %s", what, dir)
	}
	return nil
}
