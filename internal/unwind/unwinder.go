package unwind

import (
	"errors"
	"fmt"
	"sync"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/cfi"
)

// Unwinder walks the stacks of one target. It is safe for concurrent use, except for Close.
type Unwinder struct {
	machine *machine
	mem     procmem.Memory
	maps    []procmem.Mapping
	text    *text
	work    int64 // of all walks
	left    *cfi.Budget

	mu      sync.Mutex
	modules map[int]*module // by the mapping that begins the file
	places  map[placeKey]*place
}

// maxPlaces bounds the places that are remembered: some 10 MiB.
const maxPlaces = 1 << 16

type placeKey struct {
	pc    uint64
	exact bool
}

// place is what is known of the code at an address.
type place struct {
	code   bool         // it is in memory that may be executed
	signal *signalFrame // nil elsewhere
	row    *cfi.Row     // nil where there is none
	err    error        // why there is no row
}

// New returns an Unwinder for the process that img describes, with the memory mem. Close must
// be called. It fails if the architecture is not known.
func New(mem procmem.Memory, img *procmem.Image, o Options) (*Unwinder, error) {
	m := machines[img.Arch]
	if m == nil {
		return nil, fmt.Errorf("walk stacks: the architecture %v is not known", img.Arch)
	}
	if o.Work == 0 {
		o.Work = DefaultWork
	}
	return &Unwinder{
		machine: m, mem: mem, maps: img.Mappings, work: o.Work, left: cfi.NewBudget(o.Work),
		text:    &text{mem: mem, maps: img.Mappings, open: o.Open, pages: make(map[uint64]page), files: make(map[fileKey]File)},
		modules: make(map[int]*module),
		places:  make(map[placeKey]*place),
	}, nil
}

// Close closes the files.
func (u *Unwinder) Close() {
	u.text.mu.Lock()
	defer u.text.mu.Unlock()
	u.text.closeFiles()
}

// place finds out what is known of an address, or remembers. exact says that it is the next
// instruction, else it is a return address.
func (u *Unwinder) place(pc uint64, exact bool, left *cfi.Budget) *place {
	u.mu.Lock()
	defer u.mu.Unlock()
	key := placeKey{pc, exact}
	if p, ok := u.places[key]; ok {
		return p
	}
	if len(u.places) >= maxPlaces {
		clear(u.places)
	}
	p := &place{code: u.executable(pc), err: cfi.ErrNone}
	u.places[key] = p
	if !p.code {
		return p
	}
	if p.signal = u.signalAt(pc); p.signal != nil {
		return p
	}
	if m := u.module(pc); m != nil {
		lookup := pc
		if !exact { // the call is in the function, what is behind it may not be
			lookup--
		}
		p.row, p.err = m.find(lookup, left)
		if errors.Is(p.err, cfi.ErrBudget) {
			delete(u.places, key) // another walk may have more
		}
	}
	return p
}

// executable reports whether an address is in memory that may be executed.
func (u *Unwinder) executable(pc uint64) bool {
	i := u.mapping(pc)
	return i >= 0 && u.maps[i].Perm&procmem.PermExec != 0
}

// mapping returns the index of the one that holds an address, or -1.
func (u *Unwinder) mapping(a uint64) int {
	i := procmem.FindMapping(u.maps, procmem.Addr(a))
	if i == len(u.maps) || !u.maps[i].Contains(procmem.Addr(a)) {
		return -1
	}
	return i
}
