package target

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/process"
)

// ErrManyProcesses reports a name that several processes have.
var ErrManyProcesses = errors.New("several processes have this name")

// Target is what a command works on. Exactly one of Process and Core is set.
type Target struct {
	Word    string // as the user gave it
	Process *process.Process
	Core    *core.File
}

// Open resolves a TARGET: a process id, the word self, the name of one
// process, or the path of a core file. A word that names a file which is a
// core means the file; a path with a slash always does.
func Open(word string) (*Target, error) {
	if word == "" {
		return nil, &SyntaxError{Kind: "target", Text: word, Err: errors.New("a target is empty: want a pid, a process name or a core file")}
	}
	if isPath(word) {
		c, err := core.Open(word)
		if err != nil {
			return nil, err
		}
		return &Target{Word: word, Core: c}, nil
	}
	pid, err := PID(word)
	if err != nil {
		return nil, err
	}
	p, err := process.Open(pid)
	if err != nil {
		return nil, &ProcessError{PID: pid, Err: err}
	}
	return &Target{Word: word, Process: p}, nil
}

// ProcessError is a failure on one process, with its pid.
type ProcessError struct {
	PID int
	Err error
}

func (e *ProcessError) Error() string { return fmt.Sprintf("process %d: %v", e.PID, e.Err) }
func (e *ProcessError) Unwrap() error { return e.Err }

// isPath reports whether a word means a file.
func isPath(word string) bool {
	if strings.Contains(word, "/") {
		return true
	}
	if _, err := strconv.Atoi(word); err == nil || word == "self" {
		return false
	}
	f, err := os.Open(word)
	if err != nil {
		return false
	}
	defer f.Close()
	var head [18]byte
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return false
	}
	return string(head[:4]) == elf.ELFMAG && elf.Type(head[16]) == elf.ET_CORE
}

// PID resolves a TARGET that is a process: a process id, the word self, or the
// name of one process.
func PID(word string) (int, error) {
	if word == "self" {
		return os.Getpid(), nil
	}
	if strings.Trim(word, "0123456789") == "" && word != "" {
		pid, err := strconv.ParseInt(word, 10, 32)
		if err != nil || pid == 0 {
			return 0, &SyntaxError{Kind: "target", Text: word, Err: errors.New("no process id: want 1 or more, below 2^31")}
		}
		return int(pid), nil
	}
	if isPath(word) {
		return 0, fmt.Errorf("%s is a file: want a process", word)
	}
	return byName(word)
}

// byName finds the one process whose command name or executable is word;
// procmem itself is not meant.
func byName(word string) (int, error) {
	pids, err := process.List()
	if err != nil {
		return 0, err
	}
	var found []int
	var lines []string
	for _, pid := range pids {
		if pid == os.Getpid() {
			continue
		}
		p, err := process.Open(pid)
		if err != nil {
			continue // it has ended
		}
		if called(p, word) {
			found = append(found, pid)
			args, _ := p.Cmdline()
			lines = append(lines, fmt.Sprintf("%d %s", pid, strings.Join(args, " ")))
		}
		p.Close()
	}
	switch len(found) {
	case 0:
		return 0, fmt.Errorf("target %q: %w has this name, and there is no core file of this name", word, process.ErrNoProcess)
	case 1:
		return found[0], nil
	}
	const most = 10
	if len(lines) > most {
		lines = append(lines[:most], fmt.Sprintf("and %d more", len(found)-most))
	}
	return 0, fmt.Errorf("target %q: %w; use one of these pids:\n  %s", word, ErrManyProcesses, strings.Join(lines, "\n  "))
}

func called(p *process.Process, word string) bool {
	st, err := p.Stat()
	if err != nil || st.Zombie() || st.KernelThread() {
		return false
	}
	if st.Name == word {
		return true
	}
	exe, err := p.Exe()
	return err == nil && filepath.Base(strings.TrimSuffix(exe, " (deleted)")) == word
}

// Memory opens the memory of the target: a process as it runs, or the core.
// done must be called afterwards.
func (t *Target) Memory() (mem procmem.Sparse, done func(), err error) {
	if t.Core != nil {
		return t.Core, func() {}, nil
	}
	v, err := t.Process.View()
	if err != nil {
		return nil, nil, &ProcessError{PID: t.Process.PID(), Err: err}
	}
	return v, func() { v.Close() }, nil
}

// Close releases what Open holds. A process is not affected.
func (t *Target) Close() error {
	if t.Core != nil {
		return t.Core.Close()
	}
	return t.Process.Close()
}
