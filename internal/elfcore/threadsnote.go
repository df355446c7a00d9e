package elfcore

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/procmem/procmem"
)

var (
	escapeName   = strings.NewReplacer("\n", `\012`, `\012`, `\134012`)
	unescapeName = strings.NewReplacer(`\012`, "\n", `\134012`, `\012`)
)

// EncodeThreads returns a line "TID STATE NAME" for each thread, because NT_PRSTATUS has no
// place for the name and the state.
func EncodeThreads(threads []procmem.Thread) []byte {
	b := make([]byte, 0, 30*len(threads)+1)
	for i := range threads {
		t := &threads[i]
		state := t.State
		if state == 0 {
			state = '?'
		}
		b = fmt.Appendf(b, "%d %c %s\n", t.TID, state, escapeName.Replace(t.Name))
	}
	if len(b) == 0 {
		b = append(b, '\n')
	}
	return b
}

// ApplyThreads gives threads the names and states that EncodeThreads wrote. Malformed lines are
// skipped.
func ApplyThreads(text string, threads []procmem.Thread) {
	byTID := make(map[int]*procmem.Thread, len(threads))
	for i := range threads {
		byTID[threads[i].TID] = &threads[i]
	}
	for line := range strings.Lines(text) {
		tid, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		state, name, ok := strings.Cut(rest, " ")
		id, err := strconv.Atoi(tid)
		t := byTID[id]
		if !ok || err != nil || t == nil || len(state) != 1 {
			continue
		}
		t.Name = unescapeName.Replace(name)
		if state != "?" {
			t.State = state[0]
		}
	}
}
