package main

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// debuggers are those whose command lines are known.
var debuggers = []string{"gdb", "lldb", "dlv"}

// debugger is a program that opens cores.
type debugger struct {
	kind string // one of debuggers
	name string // as it is typed
	path string
}

// kindOf returns which debugger a name means, such as lldb-19 or /opt/bin/gdb, or "".
func kindOf(name string) string {
	base := filepath.Base(name)
	if base == "delve" {
		return "dlv"
	}
	i := slices.IndexFunc(debuggers, func(kind string) bool {
		return base == kind || strings.HasPrefix(base, kind+"-")
	})
	if i < 0 {
		return ""
	}
	return debuggers[i]
}

// checkDebugger refuses a name of which the command line is not known.
func checkDebugger(name string) error {
	if name != "" && kindOf(name) == "" {
		return usagef("--with %q: want gdb, lldb or dlv, such as lldb-19 or /opt/bin/gdb", name)
	}
	return nil
}

// findDebugger returns the first that is installed. Its error says how to get one.
func findDebugger(names ...string) (*debugger, error) {
	for _, name := range names {
		if name == "delve" {
			name = "dlv"
		}
		path, err := exec.LookPath(name)
		if err == nil {
			return &debugger{kindOf(name), name, path}, nil
		}
		if strings.Contains(name, "/") {
			return nil, err
		}
	}
	if len(names) == 1 {
		return nil, fmt.Errorf("%s is not installed: %s", names[0], howToGet(kindOf(names[0]), names[0]))
	}
	return nil, errors.New("no debugger is installed: " + howToGet("gdb", "gdb"))
}

// command returns the words that start the debugger. program is "" where it is not at hand.
func (d *debugger) command(core, program string, args []string) []string {
	words := []string{d.name}
	switch d.kind {
	case "dlv":
		return append(append(append(words, "core"), args...), program, core)
	case "lldb":
		words = append(append(words, args...), "--core", core)
	default: // the word after the program could be taken for a process id
		words = append(append(words, args...), "--core="+core)
	}
	if program != "" {
		words = append(words, program)
	}
	return words
}
