package target

import "strings"

// processOf returns the process that a path below /proc means, as a word: a pid or self.
func processOf(word string) (pid string, ok bool) {
	word, ok = strings.CutPrefix(word, "/proc/")
	pid, file, _ := strings.Cut(word, "/")
	switch file {
	case "", "mem", "maps", "smaps":
		return pid, ok && (isNumber(pid) || pid == "self")
	}
	return "", false
}
