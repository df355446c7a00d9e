package target

import (
	"debug/elf"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	_ "github.com/procmem/procmem/access" // words the refusals of process
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/regular"
	"github.com/procmem/procmem/process"
)

// ErrNotProcess reports that a word names a file where a process is wanted.
var ErrNotProcess = errors.New("this is a file")

// Target is what a command works on. Either Process or Core is set.
type Target struct {
	Word    string // as the user gave it
	Process *process.Process
	Core    *core.File
}

// Open resolves a TARGET. That is a process id, the word self, the name of one process, or the
// path of a core file, plain or compressed (see core.Open). A word that names a core in the
// working directory means that file. A path with a slash always means a file, but for /proc/PID and
// its files mem, maps and smaps, which mean the process.
//
// It fails with a *SyntaxError, a *ManyError if it means several targets (see ParseList), a
// *NameError, a *ProcessError, or as core.Open does.
func Open(word string) (*Target, error) { return OpenWith(word, core.OpenOptions{}) }

// OpenWith is Open with options for a core file.
func OpenWith(word string, o core.OpenOptions) (*Target, error) {
	one, err := expandOne(word)
	if err != nil {
		return nil, err
	}
	pid, err := pidOf(one)
	if errors.Is(err, ErrNotProcess) {
		return openCore(one, o)
	}
	if err != nil {
		return nil, err
	}
	p, err := process.Open(pid)
	if err != nil {
		return nil, &ProcessError{PID: pid, Err: err}
	}
	return &Target{Word: word, Process: p}, nil
}

var errEmpty = &SyntaxError{Kind: "target", Err: errors.New("it is empty: want a pid, a process name or a core file")}

func openCore(path string, o core.OpenOptions) (*Target, error) {
	c, err := core.OpenWith(path, o)
	if err != nil {
		return nil, err
	}
	return &Target{Word: path, Core: c}, nil
}

// ProcessError reports a failure on one process.
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
	if isNumber(word) || word == "self" || word == allWord {
		return false
	}
	f, _, err := regular.Open(unix.AT_FDCWD, word)
	if err != nil {
		return false
	}
	defer f.Close()
	var head [18]byte
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return false
	}
	const zstd, gzip = "\x28\xb5\x2f\xfd", "\x1f\x8b"
	return string(head[:4]) == elf.ELFMAG && elf.Type(head[16]) == elf.ET_CORE ||
		string(head[:4]) == zstd || string(head[:2]) == gzip
}

func isNumber(word string) bool { return word != "" && strings.Trim(word, "0123456789") == "" }

// PID resolves a TARGET that must be a process: a process id, the word self, or the name of one
// process. It fails as Open does, and with ErrNotProcess if the word names a file.
func PID(word string) (int, error) {
	one, err := expandOne(word)
	if err != nil {
		return 0, err
	}
	return pidOf(one)
}

// pidOf returns the process id that a word is, if it is a name no more.
func pidOf(word string) (int, error) {
	switch {
	case word == "self":
		pid, err := process.Self()
		if err != nil {
			return 0, fmt.Errorf("target self: %w", err)
		}
		return pid, nil
	case isNumber(word):
		pid, err := strconv.ParseInt(word, 10, 32)
		if err == nil && pid == 0 {
			return 0, &SyntaxError{Kind: "target", Text: word, Err: errors.New("no process has the id 0, by which the kernel means whoever asks: for procmem itself say self, and pgrep NAME prints the ids of others")}
		}
		if err != nil {
			return 0, &SyntaxError{Kind: "target", Text: word, Err: errors.New("no process id: want 1 or more, below 2^31")}
		}
		return int(pid), nil
	}
	return 0, fmt.Errorf("target %q: %w: want a pid or the name of a process", word, ErrNotProcess)
}

// ManyError reports that a word means several targets where one is wanted.
type ManyError struct {
	Word  string
	Lines []string // for each of the first few what means it alone, and the arguments of a process, for people to read
}

func (e *ManyError) Error() string {
	return fmt.Sprintf("target %q means several, and one is wanted; use one of these:\n  %s", e.Word, strings.Join(e.Lines, "\n  "))
}

// memberLines returns a line for each target: the word, and the arguments of a process. All are
// asked at once, since each may let us wait.
func memberLines(words []string) []string {
	lines := slices.Clone(words)
	var wg sync.WaitGroup
	for i, word := range words {
		pid, err := strconv.Atoi(word)
		if err != nil {
			continue // a core, or a process that the user has named
		}
		wg.Go(func() {
			if p, err := process.Open(pid); err == nil {
				lines[i] += " " + commandLine(p)
				p.Close()
			}
		})
	}
	wg.Wait()
	return lines
}

// commandLine returns the arguments of a process as one short line, or why they are not known.
func commandLine(p *process.Process) string {
	const most = 100
	args, err := p.Cmdline()
	if errors.Is(err, process.ErrBlocked) {
		return "(" + process.ErrBlocked.Error() + ")"
	}
	line := []rune(strings.Join(args, " "))
	if len(line) > most {
		line = append(line[:most], '…')
	}
	q := strconv.Quote(string(line)) // what is no text could harm a terminal
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

func called(p *process.Process, word string) bool {
	st, err := p.Stat()
	if err != nil {
		return false
	}
	if st.Name == word {
		return true
	}
	exe, err := p.Exe()
	return err == nil && filepath.Base(strings.TrimSuffix(exe, " (deleted)")) == word
}

// Memory returns the memory of the target: of the process as it runs, or of the core. Done must
// be called when it is not needed any more.
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

// Close releases what Open holds. It does not affect a process.
func (t *Target) Close() error {
	if t.Core != nil {
		return t.Core.Close()
	}
	return t.Process.Close()
}
