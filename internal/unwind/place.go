package unwind

import (
	"bytes"
	"errors"

	"github.com/procmem/procmem/internal/cfi"
)

// place finds out what is known of an address, or remembers. exact says that it is the next
// instruction, else it is a return address.
func (u *Unwinder) place(pc uint64, exact bool, left *cfi.Budget) *place {
	u.mu.Lock()
	defer u.mu.Unlock()
	key := placeKey{pc, exact}
	if p, ok := u.places[key]; ok {
		return p
	}
	p := u.find(pc, exact, left)
	if errors.Is(p.err, cfi.ErrBudget) {
		return p // another walk may have more
	}
	size := placeSize
	if p.row != nil {
		size += p.row.Size()
	}
	if u.held += size; u.held > maxPlaces {
		clear(u.places)
		u.held = size
	}
	u.places[key] = p
	return p
}

// find finds out what is known of an address.
func (u *Unwinder) find(pc uint64, exact bool, left *cfi.Budget) *place {
	p := &place{code: u.executable(pc), err: cfi.ErrNone}
	if !p.code {
		return p
	}
	if p.signal = u.signalAt(pc); p.signal != nil {
		return p
	}
	if m := u.module(pc); m != nil {
		p.file = true
		lookup := pc
		if !exact { // the call is in the function, what is behind it may not be
			lookup--
		}
		p.row, p.err = m.find(lookup, left)
	}
	return p
}

// signalAt returns the signal frame whose handler returns to pc, nil if there is none.
func (u *Unwinder) signalAt(pc uint64) *signalFrame {
	for i := range u.machine.signals {
		s := &u.machine.signals[i]
		code := make([]byte, len(s.code))
		if u.text.ReadAt(code, pc) == nil && bytes.Equal(code, s.code) {
			return s
		}
	}
	return nil
}
