package access

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// caller is how this program was called: what a remedy repeats.
type caller struct {
	program string   // its path, as a word of a shell
	words   []string // of the command line after it
}

// again returns the caller that runs the command which is running.
func again() caller { return caller{called(), os.Args[1:]} }

// core returns the caller that takes a core of a process.
func core(pid int) caller { return caller{called(), []string{"core", strconv.Itoa(pid)}} }

// sudo returns the command line with the rights of root.
func (c caller) sudo() string { return "sudo " + c.line(c.words) }

// live returns the command line with method live. Commands without methods have it in core.
func (c caller) live(pid int) string {
	if len(c.words) > 0 && slices.Contains([]string{"core", "dump", "threads"}, c.words[0]) {
		words := without(c.words, "--method", "--max-pause") // which say otherwise
		return c.line(slices.Insert(words, 1, "--method", "live"))
	}
	return caller{program: executable()}.line([]string{"core", "--method", "live", strconv.Itoa(pid)})
}

// without returns words without some flags and their values.
func without(words []string, flags ...string) (left []string) {
	for i := 0; i < len(words); i++ {
		name, _, joined := strings.Cut(words[i], "=")
		if !slices.Contains(flags, name) {
			left = append(left, words[i])
		} else if !joined {
			i++
		}
	}
	return left
}

func (c caller) line(words []string) string {
	line := []string{c.program}
	for _, w := range words {
		line = append(line, quote(w))
	}
	return strings.Join(line, " ")
}

// called returns the path by which this program was called, which decides whether it is gcore.
func called() string {
	if path, err := exec.LookPath(os.Args[0]); err == nil {
		if path, err = filepath.Abs(path); err == nil {
			return quote(path)
		}
	}
	return executable()
}

// executable returns the path of this program's file.
func executable() string {
	if exe, err := os.Executable(); err == nil && exe != "" && unix.Access(exe, unix.F_OK) == nil {
		return quote(exe)
	}
	return "$(command -v procmem)"
}

// quote makes one word for a shell of a text.
func quote(text string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@%,=", r)
	}
	if text != "" && strings.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0 {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
