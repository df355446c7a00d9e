package target

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/procmem/procmem/process"
)

// allWord means every process that may be read, but for procmem itself.
const allWord = "all"

// List is what a TARGET means where it may mean several.
type List struct {
	Word  string   // as the user gave it
	Words []string // each means one target, for Open
	// All is set where every process was asked for. Some of them may not be read, and some
	// will have ended before they are opened.
	All bool
}

// Several reports whether there may be more than one target.
func (l *List) Several() bool { return l.All || len(l.Words) > 1 }

// ParseList resolves a TARGET that may mean several: words for Open with commas between, of which
// one that is the name of several processes means them all, and the word all, which means every
// process but the caller. No process is in it twice. A word that is the path of a file means the
// file, whatever commas it has.
//
// It fails with a *SyntaxError, or with a *NameError where a word means nothing. Whether
// what the words mean can be opened, only Open tells.
func ParseList(word string) (List, error) {
	l, err := expand(word)
	if err == nil && !l.Several() {
		l.Words[0] = word
	}
	return l, err
}

// expand is ParseList with a pid for each name.
func expand(word string) (List, error) {
	l := List{Word: word}
	parts, err := Split(word)
	if err != nil {
		return List{}, err
	}
	known := make(map[string]bool)
	for _, part := range parts {
		words, err := members(part)
		if err != nil {
			return List{}, err
		}
		for _, w := range words {
			if !known[w] {
				known[w] = true
				l.Words = append(l.Words, w)
			}
		}
		l.All = l.All || part == allWord
	}
	return l, nil
}

// expandOne returns the one target that a word means: a pid, the word self, or a path.
func expandOne(word string) (string, error) {
	l, err := expand(word)
	if err != nil {
		return "", err
	}
	if l.Several() {
		return "", l.tooMany()
	}
	return l.Words[0], nil
}

// Split divides a TARGET at its commas, unless it is the path of a file. It fails with a
// *SyntaxError where nothing is between two.
func Split(word string) ([]string, error) {
	if word == "" {
		return nil, errEmpty
	}
	if !strings.Contains(word, ",") || isFile(word) {
		return []string{word}, nil
	}
	parts := strings.Split(word, ",")
	at := 0
	for _, part := range parts {
		if part == "" {
			return nil, &SyntaxError{Kind: "target", Text: word, Offset: at, Err: errors.New("a target is missing beside the comma")}
		}
		at += len(part) + 1
	}
	return parts, nil
}

// members returns what one of the words means: itself, or the pids of several processes.
func members(word string) ([]string, error) {
	if pid, ok := processOf(word); ok {
		return []string{pid}, nil
	}
	switch {
	case word == allWord:
		pids, err := processes(func(*process.Process) bool { return true })
		return texts(pids), err
	case isNumber(word) || word == "self" || isPath(word):
		return []string{word}, nil
	}
	pids, err := named(word)
	if errors.Is(err, process.ErrNoProcess) && isFile(word) {
		return []string{word}, nil // Open says why it is no core
	}
	return texts(pids), err
}

// named returns the processes whose command name or executable is word.
func named(word string) ([]int, error) {
	pids, err := processes(func(p *process.Process) bool { return called(p, word) })
	if err == nil && len(pids) == 0 {
		err = &NameError{Word: word}
	}
	return pids, err
}

// NameError reports that no process has a name, and that no core file has it either. It wraps
// process.ErrNoProcess.
type NameError struct {
	Word string // the name
}

func (e *NameError) Error() string {
	return fmt.Sprintf("target %q: %v has this name, and no core file either", e.Word, process.ErrNoProcess)
}

func (e *NameError) Unwrap() error { return process.ErrNoProcess }

// processes returns the pids of those that have memory and are wanted, ascending. procmem itself
// is never meant.
func processes(wanted func(*process.Process) bool) ([]int, error) {
	pids, err := process.List()
	if err != nil {
		return nil, err
	}
	self, _ := process.Self() // an error: it is not among them
	var found []int
	for _, pid := range pids {
		if pid == self {
			continue
		}
		p, err := process.Open(pid)
		if err != nil {
			continue // it has ended
		}
		if st, err := p.Stat(); err == nil && !st.Zombie() && !st.KernelThread() && wanted(p) {
			found = append(found, pid)
		}
		p.Close()
	}
	return found, nil
}

func texts(pids []int) []string {
	out := make([]string, len(pids))
	for i, pid := range pids {
		out[i] = strconv.Itoa(pid)
	}
	return out
}

// tooMany refuses a list where one target is wanted.
func (l *List) tooMany() error {
	const most = 10
	lines := memberLines(l.Words[:min(len(l.Words), most)])
	if more := len(l.Words) - most; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return &ManyError{Word: l.Word, Lines: lines}
}

// isFile reports whether a word names a regular file: opening another, such
// as a pipe, could wait for ever.
func isFile(word string) bool {
	fi, err := os.Stat(word)
	return err == nil && fi.Mode().IsRegular()
}
