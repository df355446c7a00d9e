package search

import (
	"errors"
	"fmt"
	"slices"

	"github.com/procmem/procmem"
)

// Options say where to look, and what a match brings along.
type Options struct {
	// In is where to look; nil is in all mappings. Ranges may overlap, and what they hold
	// besides mappings is passed over.
	In []procmem.Range
	// Context is how many bytes Match.Before and Match.After have, as far as these can be read.
	Context int
	// Swapped adds memory that is swapped out to what is searched. Reading brings it back.
	Swapped bool
}

// Match is a place where a pattern was found.
type Match struct {
	procmem.Range
	Pattern int // index of the pattern among those of New
	// Mapping is the one in which the match begins, as mem.Mappings has it. It is nil if none of
	// those holds it, or Mappings fails. The caller must not change it.
	Mapping *procmem.Mapping
	Bytes   []byte // what matched; valid until the next match
	// Before and After are what lies on either side; valid until the next match.
	Before, After []byte
}

// String returns the range and, in quotes, the bytes.
func (m Match) String() string { return fmt.Sprintf("%v: %q", m.Range, m.Bytes) }

// Stats tells how much was searched.
type Stats struct {
	Scanned uint64 // bytes
	Swapped uint64 // bytes that were left out because they are swapped out
	// Faults is what could not be read, ascending. [vvar] and [vsyscall] of a live process are
	// among it where they are searched, because the kernel shows them to no other process.
	Faults []procmem.Fault
}

// Searcher looks for patterns. It may be used again, but is not safe for concurrent use.
type Searcher struct {
	engine
	o     Options
	stats Stats

	blockSize int // in bytes
}

// New returns a Searcher for the patterns. It fails if Options.Context is negative.
func New(patterns []Pattern, o Options) (*Searcher, error) {
	if o.Context < 0 {
		return nil, errors.New("a context of less than nothing")
	}
	s := &Searcher{o: o}
	s.compile(slices.Clone(patterns))
	s.size()
	return s, nil
}

// size sets the size of blocks, which must not be read twice for the most part.
func (s *Searcher) size() {
	s.blockSize = max(blockSize, 16*s.overlap) &^ (procmem.PageSize - 1)
}

// Stats returns how much the last call of Matches or Text has searched. It must be called after
// the iteration.
func (s *Searcher) Stats() Stats { return s.stats }

// compile chooses the finder of each pattern. It may change patterns in the slice.
func (e *engine) compile(patterns []Pattern) {
	var literals []int
	for i := range patterns {
		p := &patterns[i]
		if p.number != nil {
			e.overlap = max(e.overlap, p.number.size-1)
			if b, ok := p.number.exact(); ok {
				p.value, p.mask = b, slices.Repeat([]byte{0xff}, len(b))
			}
		}
		switch {
		case p.expr != nil:
			e.sequence(i, p.expr)
		case p.value != nil:
			e.overlap = max(e.overlap, len(p.value)-1)
			literals = append(literals, i)
		case p.number != nil:
			e.finders = append(e.finders, &numberFinder{p, i})
		}
	}
	if len(literals) > maxAutomata {
		var finders []finder
		finders, literals = newSamples(patterns, literals)
		e.finders = append(e.finders, finders...)
	}
	for _, i := range literals {
		if p := &patterns[i]; p.number != nil && int(p.align) >= p.number.size {
			e.finders = append(e.finders, &numberFinder{p, i})
		} else {
			e.finders = append(e.finders, newBytesFinder(p, i))
		}
	}
	if len(e.sequences) > 0 {
		// A seeker must see whether what follows the longest match belongs to it.
		e.overlap += e.look + 1
	}
}

// sequence adds a regular expression.
func (e *engine) sequence(i int, x *expression) {
	e.sequences = append(e.sequences, sequence{i, x.seeker})
	e.overlap = max(e.overlap, x.longest())
	e.look = max(e.look, 1)
}
