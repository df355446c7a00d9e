package unwind

import (
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
	room    *cfi.Budget // bytes of tables that are held

	mu      sync.Mutex
	modules map[int]*module // by the mapping that begins the file
	places  map[placeKey]*place
	held    int // bytes of places
}

// maxRoom bounds the bytes of tables that have no .eh_frame_hdr, and so have to be held: those of
// the largest programs of Go have some 20 MiB.
const maxRoom = 256 << 20

// maxPlaces bounds the bytes of places that are remembered, placeSize is that of one without
// its row.
const (
	maxPlaces = 32 << 20
	placeSize = 128
)

type placeKey struct {
	pc    uint64
	exact bool
}

// place is what is known of the code at an address.
type place struct {
	code   bool         // it is in memory that may be executed
	file   bool         // which is a part of a program or of a library
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
		machine: m, mem: mem, maps: img.Mappings, work: o.Work, left: cfi.NewBudget(o.Work), room: cfi.NewBudget(maxRoom),
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

// executable reports whether an address is in memory that may be executed.
func (u *Unwinder) executable(pc uint64) bool {
	i := u.mapping(pc)
	if i < 0 {
		return false
	}
	m := &u.maps[i]
	// A core of gdb names the files of code that it leaves out, and not their permissions.
	return m.Perm&procmem.PermExec != 0 || m.Perm == 0 && m.HasFile()
}

// mapping returns the index of the one that holds an address, or -1.
func (u *Unwinder) mapping(a uint64) int {
	i := procmem.FindMapping(u.maps, procmem.Addr(a))
	if i == len(u.maps) || !u.maps[i].Contains(procmem.Addr(a)) {
		return -1
	}
	return i
}
