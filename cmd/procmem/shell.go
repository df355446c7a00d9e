package main

import (
	"os"
	"strings"
	"unicode"

	"github.com/procmem/procmem/internal/term"
)

// shellWord makes one word for a shell of a text.
func shellWord(s string) string {
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plainRune(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func shellWords(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = shellWord(w)
	}
	return strings.Join(quoted, " ")
}

// plainRune reports whether no program takes a character of a file name for anything else.
func plainRune(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("/._-+:@%,=", r)
}

// plainName reports whether a file name has such characters alone. The quotes of debuggers'
// own command lines do not hold a line break, or a backtick of lldb.
func plainName(path string) bool {
	return strings.IndexFunc(path, func(r rune) bool { return !plainRune(r) || r == unicode.ReplacementChar }) < 0
}

// typable reports whether a command can be copied from a terminal, and means the same there and
// in a debugger.
func typable(line string) bool {
	return term.Printable(line) == line && !strings.Contains(line, "`")
}

// argument returns a path in a form that no program takes for an option or a number.
func argument(path string) string {
	if strings.HasPrefix(path, "/") || strings.HasPrefix(path, ".") || path != "" && unicode.IsLetter(rune(path[0])) {
		return path
	}
	return "./" + path
}

// openCommand returns the command that opens a core.
func openCommand(path string) string { return shellWords([]string{"procmem", "open", argument(path)}) }

// tellOpen says on a terminal what to do with a core.
func tellOpen(path string) {
	if term.IsTerminal(os.Stderr) {
		term.Fprintf(os.Stderr, "open it: %s\n", openCommand(path))
	}
}
