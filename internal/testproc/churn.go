package testproc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/procmem/procmem"
)

// Churn is the memory that `witness --churn` changes: regions whose pages are filled, dropped,
// moved, unmapped and mapped, and a table of what each holds.
type Churn struct {
	Table   procmem.Addr
	Regions int
	pages   int // of each
	stamp   uint64
}

// Churn returns what the helper announced.
func (p *Proc) Churn(t testing.TB) Churn {
	t.Helper()
	return Churn{p.Addr(t, "churn"), int(p.number(t, "churn", 1)), int(p.number(t, "churn", 2)), p.number(t, "stamp", 0)}
}

// ErrTorn is what Check returns for a memory that is not one moment.
var ErrTorn = errors.New("torn")

const (
	wordsOfPage = procmem.PageSize / 8
	stateWords  = 7
	regionWords = 2 + 2*stateWords
)

// churnState is what a region holds, or is about to; see witness.c.
type churnState struct {
	mapped     bool
	addr, home uint64
	generation uint64
	filled     uint64 // a bit for each page
	gone       uint64
	fills      bool
}

func parseChurnState(w []uint64) churnState {
	return churnState{w[0] != 0, w[1], w[2], w[3], w[4], w[5], w[6] != 0}
}

// Check compares each region with the table. Any system call of the helper is done or is not;
// of a fill that is under way the first words are done. A page that cannot be read counts as
// zeros.
func (c Churn) Check(read func(addr procmem.Addr, p []byte) error) error {
	table := make([]byte, c.Regions*regionWords*8)
	if err := read(c.Table, table); err != nil {
		return fmt.Errorf("table of the regions: %w", err)
	}
	words := toWords(table)
	for id := range c.Regions {
		w := words[id*regionWords:]
		busy, now := w[0] != 0, w[1]&1
		states := [2]churnState{parseChurnState(w[2:]), parseChurnState(w[2+stateWords:])}
		problem := c.checkState(read, id, states[now], nil)
		if problem != "" && busy {
			before, after := states[now], states[1-now]
			if before.generation > after.generation { // now tells of the state after, already
				before, after = after, before
			}
			other := c.checkState(read, id, states[1-now], nil)
			if other != "" && after.fills && after.generation == before.generation+1 {
				other = c.checkState(read, id, after, &before)
			}
			if other == "" {
				continue
			}
			problem += "; and " + other
		}
		if problem != "" {
			return fmt.Errorf("%w: region %d: busy %v: %s", ErrTorn, id, busy, problem)
		}
	}
	return nil
}

// checkState tells how a region differs from a state. From some word on it may hold what it
// held before a fill.
func (c Churn) checkState(read func(addr procmem.Addr, p []byte) error, id int, s churnState, before *churnState) string {
	page := make([]byte, procmem.PageSize)
	size := uint64(c.pages) * procmem.PageSize
	for i := range uint64(c.pages) {
		// What it has left is not there any more.
		at := s.gone + i*procmem.PageSize
		if s.gone == 0 || s.mapped && at >= s.addr && at < s.addr+size {
			continue
		}
		if read(procmem.Addr(at), page) == nil && binary.LittleEndian.Uint64(page) == c.stamp+uint64(id) {
			return fmt.Sprintf("page %d is still at %#x", i, at)
		}
	}
	if !s.mapped {
		return ""
	}
	old := false // from here on, what was before
	for i := range uint64(c.pages) {
		at := s.addr + i*procmem.PageSize
		err := read(procmem.Addr(at), page)
		if err != nil {
			clear(page)
		}
		for k, got := range toWords(page) {
			want := c.word(id, s, i, uint64(k))
			if !old && got != want && before != nil {
				old = true
			}
			if old {
				want = c.word(id, *before, i, uint64(k))
			}
			if got != want {
				return fmt.Sprintf("generation %d: page %d of %d at %#x, word %d is %#x, want %#x (%v)",
					s.generation, i, c.pages, at, k, got, want, err)
			}
		}
	}
	return ""
}

// word is what a word of page i holds.
func (c Churn) word(id int, s churnState, i, k uint64) uint64 {
	addr := s.home + i*procmem.PageSize
	switch {
	case s.filled>>i&1 == 0:
		return 0
	case k == 0:
		return c.stamp + uint64(id)
	case k == 1:
		return addr
	case k == 2:
		return s.generation
	}
	return mix(c.stamp + addr + s.generation<<32 + k)
}

func toWords(b []byte) []uint64 {
	words := make([]uint64, len(b)/8)
	for i := range words {
		words[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return words
}
