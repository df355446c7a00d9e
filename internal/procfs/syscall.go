package procfs

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/procmem/procmem"
)

// Syscall is process.Syscall.
type Syscall struct {
	Running bool // the thread is on a processor, and all else is unknown
	Number  int  // -1 for a thread that is blocked outside a system call
	Args    [6]uint64
	SP, PC  procmem.Addr
}

// ParseSyscall reads the text of /proc/PID/task/TID/syscall. It fails if the text has another
// form.
func ParseSyscall(r io.Reader) (*Syscall, error) {
	b, err := ReadSmall(r)
	if err != nil {
		return nil, fmt.Errorf("parse syscall: %w", err)
	}
	f := strings.Fields(string(b))
	if len(f) == 1 && f[0] == "running" {
		return &Syscall{Running: true}, nil
	}
	if len(f) != 3 && len(f) != 9 {
		return nil, fmt.Errorf("parse syscall: %d words: want 1, 3 or 9", len(f))
	}
	s := &Syscall{}
	if s.Number, err = strconv.Atoi(f[0]); err != nil {
		return nil, fmt.Errorf("parse syscall: number: %w", errors.Unwrap(err))
	}
	words := make([]uint64, len(f)-1)
	for i, w := range f[1:] {
		if words[i], err = strconv.ParseUint(strings.TrimPrefix(w, "0x"), 16, 64); err != nil {
			return nil, fmt.Errorf("parse syscall: word %d: %w", i+1, errors.Unwrap(err))
		}
	}
	copy(s.Args[:], words[:len(words)-2])
	s.SP, s.PC = procmem.Addr(words[len(words)-2]), procmem.Addr(words[len(words)-1])
	return s, nil
}
