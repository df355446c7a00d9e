package target

import (
	"strings"

	"github.com/procmem/procmem"
)

// pastedRange returns what a line that somebody has copied begins with: the address or range of
// a line of maps, of a hexdump, of what search, strings or diff print. Plain is set where it can
// only be an address. Otherwise the name of a file may begin like that.
func pastedRange(s string) (head string, plain, ok bool) {
	s = strings.TrimLeft(s, " │")
	head, rest, ok := cutBlank(s)
	if !ok || strings.Contains(head, "+") || isSum(strings.TrimLeft(rest, " \t")) {
		return "", false, false // somebody has written this
	}
	if plain = has0x(head); !plain && !addrForm(head) {
		// strings(1) prints an address without the zeros in front.
		n := digits(head, true)
		return "0x" + head, false, n == len(head) && n >= shortestAddr
	}
	return head, plain, true
}

// shortestAddr is how many digits the lowest address has that programs may map (mmap_min_addr).
const shortestAddr = 5

// isSum reports whether what follows a blank is a sign and a number, which belong to the address.
func isSum(s string) bool {
	number, ok := strings.CutPrefix(s, "- ")
	if !ok {
		number, ok = strings.CutPrefix(s, "+ ")
	}
	_, err := ParseSize(number)
	return ok && (err == nil || addrForm(number))
}

// cutBlank divides a text at its first blank, and takes away the colon that may be before.
func cutBlank(s string) (head, rest string, ok bool) {
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, "", false
	}
	return strings.TrimSuffix(s[:i], ":"), s[i:], true
}

// pasted returns the memory at the beginning of a line, where the line is not the name of a
// mapping. What has few digits must be mapped.
func (s Spec) pasted(ms []procmem.Mapping) []procmem.Range {
	if s.r.Empty() {
		return nil
	}
	if n := digits(strings.TrimLeft(s.text, " │"), true); n < 8 {
		if i := procmem.FindMapping(ms, s.r.Start); i == len(ms) || !ms[i].Contains(s.r.Start) {
			return nil
		}
	}
	if s.open {
		return []procmem.Range{clip(ms, s.r)}
	}
	return []procmem.Range{s.r}
}
