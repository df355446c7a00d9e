package main

import (
	"debug/elf"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/regular"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/target"
)

// processID is target.PID, with what to do where the word is a file.
func processID(word string) (int, error) {
	pid, err := target.PID(word)
	if !errors.Is(err, target.ErrNotProcess) {
		return pid, err
	}
	if isCore(word) {
		return 0, fmt.Errorf("%w; it is a core already, or compressed: procmem info %s", err, shellWord(argument(word)))
	}
	if !isProgram(word) {
		return 0, err
	}
	name := filepath.Base(word)
	return 0, fmt.Errorf("%w; it is a program: start it, and name the process, as in procmem core %s (pgrep -x %[2]s prints its pid)", err, shellWord(name))
}

// isProgram reports whether a file says at its beginning that it is in the format of programs.
func isProgram(path string) bool {
	f, _, err := regular.Open(unix.AT_FDCWD, path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, len(elf.ELFMAG))
	_, err = f.ReadAt(head, 0)
	return err == nil && string(head) == elf.ELFMAG
}

// nearProcess returns the name of a process that a word may have been meant to be, or "".
func nearProcess(word string) string {
	pids, _ := process.List()
	var names []string
	for _, pid := range pids {
		if name, ok := nameOf(pid); ok {
			names = append(names, name)
		}
	}
	return nearest(word, names)
}
