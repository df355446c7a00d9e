package snapshot

import (
	"cmp"
	"slices"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/process"
)

// Options say how a moment is to be taken.
type Options struct {
	Method Method // MethodAuto unless given
	// MaxPause bounds the pause; 0 is no bound.
	MaxPause time.Duration
	// Store takes memory that is copied before the moment is over and does
	// not fit in memory. MethodPrecopy needs one.
	Store Store
	// Want returns which memory will be read, as ascending ranges; nil is
	// all of it. It is called before the pause, with what is known then.
	Want func(img *procmem.Image, mem procmem.Memory) []procmem.Range
	// Phase is told what comes next: "planning", "round 2", "paused". It must
	// return at once: the process may be held.
	Phase func(what string)

	// Look, where it is not nil, is a look at the process that a moment begins
	// with. It is used once. MethodFork and MethodLive, which do not find out
	// later what has changed since, look themselves.
	Look *Look
}

func (o *Options) phase(what string) {
	if o.Phase != nil {
		o.Phase(what)
	}
}

func (o *Options) want(img procmem.Image, mem procmem.Memory) []procmem.Range {
	if o.Want != nil {
		return o.Want(&img, mem)
	}
	var all []procmem.Range
	for i := range img.Mappings {
		all = append(all, img.Mappings[i].Range)
	}
	return all
}

// Torn is memory whose bytes may be of another moment than the rest.
type Torn struct {
	procmem.Range
	Reason string
}

// Reasons for Torn; shared.go has others.
const (
	tornServer = "shared, and its file is on a server: what the process has not touched was read after the pause"
	tornCall   = "a thread that could not be stopped is in a system call that may write to it"
)

func (s *Snapshot) sortTorn() {
	slices.SortStableFunc(s.Torn, func(a, b Torn) int { return cmp.Compare(a.Start, b.Start) })
}

// dataSize is how much of r there is to copy, in bytes.
func dataSize(mem procmem.Sparse, r procmem.Range) (n uint64) {
	for d, err := range mem.Data(r) {
		if err != nil {
			return n
		}
		n += d.Size()
	}
	return n
}

// presentSize is how much of a mapping keep would copy, in bytes.
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
