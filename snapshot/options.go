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

// Reasons for Torn.
const (
	tornShared = "shared: other processes may have written to it while it was copied"
	tornBeyond = "shared, and too large to be copied during the pause: it was copied later"
	tornCall   = "a thread that could not be stopped is in a system call that may write to it"
)

// maxShared is how much shared memory is copied during a pause, in bytes: a
// matter of some milliseconds.
const maxShared = arenaSize

// boundShared chooses the shared mappings that are copied during the pause,
// the smallest first, and notes what all of them may suffer from.
func (s *Snapshot) boundShared(view *process.View, shared []procmem.Mapping) (inPause []procmem.Mapping) {
	size := make(map[procmem.Addr]uint64, len(shared))
	for i := range shared {
		size[shared[i].Start] = presentSize(view, &shared[i])
	}
	slices.SortStableFunc(shared, func(a, b procmem.Mapping) int { return cmp.Compare(size[a.Start], size[b.Start]) })
	var sum uint64
	for _, m := range shared {
		sum += size[m.Start]
		switch {
		case sum > maxShared:
			s.Torn = append(s.Torn, Torn{m.Range, tornBeyond})
		default:
			inPause = append(inPause, m)
			if othersHave(&m) {
				s.Torn = append(s.Torn, Torn{m.Range, tornShared})
			}
		}
	}
	s.sortTorn()
	return inPause
}

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

// othersHave reports whether another process has pages of a shared mapping in
// its memory, or may write to them.
func othersHave(m *procmem.Mapping) bool {
	u := m.Usage
	return u == nil || u.SharedClean+u.SharedDirty > 0
}

func compareAddr(a, b procmem.Addr) int { return cmp.Compare(a, b) }
