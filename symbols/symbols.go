// Package symbols names the addresses of a target by the symbol tables of the ELF files that
// are mapped there.
//
// Start with New, and OfProcess or OfCore for the files. A file is read when an address of it
// is first asked for, and the memory that it can take is bounded. Names are those of .symtab
// and .dynsym, so C++ and Rust names are mangled. Code that is stripped, or was compiled while
// the process ran, has no names.
package symbols

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/procmem/procmem"
)

// Opener opens the file that is mapped in m: that file, and not another that has its name by
// now. It fails if the file cannot be had.
type Opener func(m *procmem.Mapping) (File, error)

// File is what a symbol table is read from. The Table closes it.
type File interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// maxMemory bounds the bytes of all symbols that a Table holds: the files of some hundred
// libraries, or one browser. Further ones have no symbols. maxWork bounds the bytes of files
// that it looks at for that: some seconds.
const (
	maxMemory = 1 << 30
	maxWork   = 4 << 30
)

// Table tells the names of the addresses of one target. It is safe for concurrent use.
type Table struct {
	maps []procmem.Mapping
	open Opener
	runs []*run // ascending

	mu    sync.Mutex
	files map[fileKey]*object
	left  budget
}

// run is consecutive mappings of one file, maybe with anonymous ones between them, and the
// anonymous ones that touch the last: its .bss.
type run struct {
	first, last int // in maps, of the file; inclusive
	limit       procmem.Addr
	once        sync.Once
	file        *object    // nil if it has no symbols
	loaded      []instance // ascending
}

// instance is one time that a file has been loaded.
type instance struct {
	start procmem.Addr
	bias  uint64 // an address less the one in the file, modulo 2^64
}

type fileKey struct {
	path         string
	major, minor uint32
	inode        uint64
}

func keyOf(m *procmem.Mapping) fileKey { return fileKey{m.Path, m.Major, m.Minor, m.Inode} }

// New returns a table for the mappings ms, which must ascend and not change.
func New(ms []procmem.Mapping, open Opener) *Table {
	t := &Table{maps: ms, open: open, files: make(map[fileKey]*object), left: budget{maxMemory, maxWork}}
	for i := range ms {
		m := &ms[i]
		switch k := len(t.runs) - 1; {
		case neutral(m):
			if k >= 0 && t.runs[k].limit == m.Start {
				t.runs[k].limit = m.End
			}
		case !hasSymbols(m):
			t.runs = append(t.runs, &run{first: i, last: i - 1, limit: m.Start}) // nothing goes on behind it
		case k >= 0 && t.runs[k].last >= t.runs[k].first && keyOf(&ms[t.runs[k].first]) == keyOf(m):
			t.runs[k].last, t.runs[k].limit = i, m.End
		default:
			t.runs = append(t.runs, &run{first: i, last: i, limit: m.End})
		}
	}
	return t
}

// neutral reports whether m may be a part of a program without being of its file.
func neutral(m *procmem.Mapping) bool {
	return !m.HasFile() && (m.Path == "" || strings.HasPrefix(m.Path, "[anon"))
}

const vdso = "[vdso]"

func hasSymbols(m *procmem.Mapping) bool {
	const device = procmem.VMIO | procmem.VMPFNMap
	return m.Path == vdso || strings.HasPrefix(m.Path, "/") && m.Flags&device == 0
}

// Lookup returns the symbol that holds the address, and the offset of the address in it in
// bytes. Ok is false if no such symbol is known.
func (t *Table) Lookup(a procmem.Addr) (name string, offset uint64, ok bool) {
	r, v := t.place(a)
	if r == nil {
		return "", 0, false
	}
	return r.file.lookup(v)
}

// place returns the run that an address belongs to, and what the address is in the file. It
// returns nil if the address is no part of a file that is loaded and has symbols.
func (t *Table) place(a procmem.Addr) (*run, uint64) {
	i := procmem.FindMapping(t.maps, a)
	if i == len(t.maps) || !t.maps[i].Contains(a) {
		return nil, 0
	}
	// The last run that begins at or below mapping i.
	k, found := slices.BinarySearchFunc(t.runs, i, func(r *run, i int) int { return r.first - i })
	if !found {
		k--
	}
	if k < 0 || a >= t.runs[k].limit {
		return nil, 0
	}
	r := t.runs[k]
	r.once.Do(func() { t.load(r) })
	in, ok := r.instance(a)
	if !ok {
		return nil, 0
	}
	v := uint64(a) - in.bias
	if m := &t.maps[i]; !neutral(m) && !r.file.holds(v, m.Offset+uint64(a-m.Start)) {
		return nil, 0 // the file is mapped as data, not loaded
	}
	return r, v
}

// Name returns the symbol of an address as "malloc+0x10", or "" if there is none.
func (t *Table) Name(a procmem.Addr) string {
	name, off, ok := t.Lookup(a)
	switch {
	case !ok:
		return ""
	case off == 0:
		return name
	}
	return fmt.Sprintf("%s+%#x", name, off)
}

// Symbol is a symbol of a target.
type Symbol struct {
	procmem.Range        // its end is its start where its size is not known
	Name, File    string // File is the path of the file that has it
}

// Find returns the symbols of that name, ascending, each address once. It reads the symbols of
// all files.
func (t *Table) Find(name string) []Symbol {
	var out []Symbol
	for _, r := range t.runs {
		if r.last < r.first {
			continue
		}
		r.once.Do(func() { t.load(r) })
		if r.file == nil {
			continue
		}
		for _, s := range r.file.find(name) {
			for _, in := range r.loaded[:min(len(r.loaded), maxFound)] {
				if len(out) >= maxFound {
					break
				}
				start := procmem.Addr(s.value + in.bias)
				if at, v := t.place(start); at == r && v == s.value {
					out = append(out, Symbol{procmem.Range{Start: start, End: start + procmem.Addr(s.end-s.value)}, name, t.maps[r.first].Path})
				}
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Symbol) int {
		switch {
		case a.Start < b.Start:
			return -1
		case a.Start > b.Start:
			return 1
		}
		return 0
	})
	return slices.CompactFunc(out, func(a, b Symbol) bool { return a.Start == b.Start })
}

func (s Symbol) String() string {
	return fmt.Sprintf("%v (%s of %s)", s.Start, s.Name, path.Base(s.File))
}

// instance returns the one that holds the address, if the file has symbols.
func (r *run) instance(a procmem.Addr) (instance, bool) {
	if r.file == nil {
		return instance{}, false
	}
	for k := len(r.loaded) - 1; k >= 0; k-- {
		if r.loaded[k].start <= a {
			return r.loaded[k], true
		}
	}
	return instance{}, false
}

// load reads the symbols of a run's file, unless that has been done, and finds out how often
// and where it is loaded.
func (t *Table) load(r *run) {
	if r.last < r.first {
		return
	}
	if r.file = t.fileOf(&t.maps[r.first]); r.file == nil {
		return
	}
	for i := r.first; i <= r.last; i++ {
		m := &t.maps[i]
		if keyOf(m) != keyOf(&t.maps[r.first]) {
			continue // anonymous
		}
		if k := len(r.loaded) - 1; k >= 0 && r.file.holds(uint64(m.Start)-r.loaded[k].bias, m.Offset) {
			continue
		}
		if v, ok := r.file.address(m.Offset); ok {
			r.loaded = append(r.loaded, instance{m.Start, uint64(m.Start) - v})
		}
	}
}

func (t *Table) fileOf(m *procmem.Mapping) *object {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := keyOf(m)
	if f, ok := t.files[key]; ok {
		return f
	}
	f := t.read(m)
	t.files[key] = f
	return f
}

// read returns nil if the file cannot be opened, or is no ELF file that makes sense. Names are
// an extra, without which all else works.
func (t *Table) read(m *procmem.Mapping) *object {
	f, err := t.open(m)
	if err != nil {
		return nil
	}
	defer f.Close()
	o, err := readObject(f, f.Size(), &t.left)
	if err != nil {
		return nil
	}
	return o
}
