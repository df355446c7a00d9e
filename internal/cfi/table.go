package cfi

import (
	"sort"
	"sync"
)

// Table is one .eh_frame or .debug_frame. It is safe for concurrent use.
type Table struct {
	src        Source
	start, end uint64 // of the entries
	word       int
	debug      bool // .debug_frame
	room       *Budget

	search *search // nil where there is no .eh_frame_hdr

	mu        sync.Mutex
	lastCIE   *cie
	lastCIEAt uint64
	index     []ref // of all functions, where there is no search
	indexed   bool
	broken    error // why the index has not all functions
}

// Section returns a table that is the addresses [start, end) of src, for a machine with
// addresses of word bytes. debug says that it is a .debug_frame, else it is an .eh_frame. The
// first Find reads all of it, and keeps an index, whose bytes are taken from room.
func Section(src Source, start, end uint64, word int, debug bool, room *Budget) *Table {
	return &Table{src: src, start: start, end: max(start, end), word: word, debug: debug, room: room}
}

// Find returns the rules for an address.
func (t *Table) Find(pc uint64, left *Budget) (*Row, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f, err := t.function(pc, left)
	if err != nil {
		return nil, err
	}
	return f.row(pc, left)
}

// function returns the entry of the function that holds an address.
func (t *Table) function(pc uint64, left *Budget) (*fde, error) {
	at, err := t.entry(pc, left)
	if err != nil {
		return nil, err
	}
	f, err := t.fde(at, left)
	if err != nil {
		return nil, err
	}
	if pc < f.begin || pc >= f.end {
		return nil, ErrNone
	}
	return f, nil
}

// entry returns the address of the entry that may hold pc.
func (t *Table) entry(pc uint64, left *Budget) (uint64, error) {
	if t.search != nil {
		return t.search.entry(t.src, pc, left)
	}
	if !t.indexed {
		t.indexed = true
		t.broken = t.makeIndex(left)
	}
	i := sort.Search(len(t.index), func(i int) bool { return t.index[i].begin > pc })
	if i == 0 || pc-t.index[i-1].begin >= t.index[i-1].size {
		if t.broken != nil {
			return 0, t.broken
		}
		return 0, ErrNone
	}
	return t.index[i-1].at, nil
}

// fde reads the entry of a function.
func (t *Table) fde(at uint64, left *Budget) (*fde, error) {
	r, err := t.raw(at, left)
	if err != nil {
		return nil, err
	}
	if r.final || r.isCIE {
		return nil, formatError("no function at %#x", at)
	}
	return t.parseFDE(&r, left)
}

func (t *Table) parseFDE(r *raw, left *Budget) (*fde, error) {
	parent := t.start + r.id
	if !t.debug {
		parent = r.idAt - r.id
	}
	c, err := t.cie(parent, left)
	if err != nil {
		return nil, err
	}
	r.word = c.word
	f := &fde{cie: c}
	f.begin = r.pointer(c.enc, 0)
	f.end = f.begin + r.stored(c.enc&0x0f&^encSigned)
	if c.augmented {
		r.take(r.uleb())
	}
	f.program = r.b[r.at:]
	return f, r.err
}

// ref is where the entry of a function is.
type ref struct{ begin, size, at uint64 }

// refSize is the bytes of a ref, while a slice grows.
const refSize = 2 * 24

// makeIndex reads all entries. What comes before an error can be found.
func (t *Table) makeIndex(left *Budget) (err error) {
	defer func() { sort.Slice(t.index, func(i, j int) bool { return t.index[i].begin < t.index[j].begin }) }()
	for at := t.start; at < t.end; {
		r, err := t.raw(at, left)
		if err != nil {
			return err
		}
		at = r.next
		if r.final || r.isCIE {
			continue
		}
		f, err := t.parseFDE(&r, left)
		if err != nil {
			return err
		}
		// The linker leaves functions that it has thrown away at 0.
		if f.begin == 0 || f.end <= f.begin {
			continue
		}
		if err := t.room.Spend(refSize); err != nil {
			return err
		}
		t.index = append(t.index, ref{f.begin, f.end - f.begin, r.first})
	}
	return nil
}
