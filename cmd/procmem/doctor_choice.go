package main

import (
	"fmt"

	"github.com/procmem/procmem/process"
)

// choice says which method procmem core would take now, and what becomes of the process. It is ""
// where no method is possible.
func (q *prediction) choice() string {
	after := "and then goes on"
	if q.halted {
		after = "and stays stopped, as it is"
	}
	for _, m := range q.Methods {
		if m.First {
			return fmt.Sprintf("procmem core would take method %s: the process is held for about %s, %s", m.Method, duration(m.PauseMS), after)
		}
	}
	return ""
}

// halted reports whether a process does not run, by job control or because it is frozen.
func halted(p *process.Process) bool {
	st, err := p.Stat()
	return err == nil && st.State == 'T' || p.Frozen() != ""
}
