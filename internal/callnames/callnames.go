// Package callnames has the names of system calls.
//
// Start with Of. The tables are those of golang.org/x/sys/unix, which has each as constants of
// one architecture; a test compares them. Numbers that later kernels have added have no name.
package callnames

import (
	"embed"
	"strconv"
	"strings"
	"sync"

	"github.com/procmem/procmem"
)

//go:embed tables
var tables embed.FS

// Of returns the name of a system call, or "" where none is known. It is safe for concurrent use.
func Of(arch procmem.Arch, number int) string {
	if t, ok := parsed[arch]; ok {
		return t()[number]
	}
	return ""
}

var parsed = map[procmem.Arch]func() map[int]string{
	procmem.AMD64: lazily(procmem.AMD64), procmem.I386: lazily(procmem.I386), procmem.ARM64: lazily(procmem.ARM64),
}

func lazily(arch procmem.Arch) func() map[int]string {
	return sync.OnceValue(func() map[int]string {
		b, _ := tables.ReadFile("tables/" + arch.String() + ".txt")
		return parse(string(b))
	})
}

// parse reads lines of a number and a name.
func parse(text string) map[int]string {
	out := make(map[int]string)
	for line := range strings.Lines(text) {
		number, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.Atoi(number); err == nil {
			out[n] = name
		}
	}
	return out
}
