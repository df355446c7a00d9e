package snapshot

import (
	"cmp"
	"slices"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/process"
)

// Torn is memory whose bytes may be of another moment than the rest.
type Torn struct {
	procmem.Range
	Reason string // one clause for people
}

// Reasons for Torn; shared.go has others.
const (
	tornServer = "shared, and its file is on a server: what the process has not touched was read after the pause"
	tornCall   = "a thread that could not be stopped is in a system call that may write to it"
)

func (s *Snapshot) sortTorn() {
	slices.SortStableFunc(s.Torn, func(a, b Torn) int { return cmp.Compare(a.Start, b.Start) })
}

// dataSize returns how many bytes of r there are to copy.
func dataSize(mem procmem.Sparse, r procmem.Range) (n uint64) {
	for d, err := range mem.Data(r) {
		if err != nil {
			return n
		}
		n += d.Size()
	}
	return n
}

// presentSize returns how many bytes of a mapping keep would copy.
func presentSize(view *process.View, m *procmem.Mapping) (n uint64) {
	for d, err := range present(view, m) {
		if err != nil {
			return n
		}
		n += d.Size()
	}
	return n
}

func compareAddr(a, b procmem.Addr) int { return cmp.Compare(a, b) }
