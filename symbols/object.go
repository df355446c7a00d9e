package symbols

import (
	"bytes"
	"cmp"
	"debug/elf"
	"io"
	"math"
	"slices"

	"github.com/procmem/procmem/internal/elffile"
)

const (
	// maxName is the longest name in bytes. Those of templates have some hundreds.
	maxName = 4 << 10
	// maxLoads is the most segments of a file that are loaded. Those of linkers have some ten;
	// each is looked at for each mapping of the file.
	maxLoads = 128
)

// object is what an ELF file tells of names. Its addresses are those in the file.
type object struct {
	loads   []elffile.Segment
	symbols []symbol // by value; of equal ones the best name is the last
	names   []byte
}

// symbol is the name of [value, end); end is value where nothing tells.
type symbol struct {
	value, end uint64
	reach      uint64 // the highest end up to this one
	name       uint32 // in names
	length     uint16 // of the name
	dashes     uint8  // how many underscores it begins with
	sized      bool
}

// symbolBytes is what a symbol takes, while a slice grows.
const symbolBytes = 2 * 32

func (o *object) memory() int64 { return int64(len(o.symbols)*symbolBytes + len(o.names)) }

// budget is what the files of a table may still cost, whatever they claim.
type budget struct {
	room int64 // bytes of memory
	work int64 // bytes that are looked at
}

// readObject reads the symbols of a file of size bytes, as many as the budget allows, which it
// takes its part of.
func readObject(r io.ReaderAt, size int64, left *budget) (*object, error) {
	f, err := elffile.Open(r, size)
	if err != nil {
		return nil, err
	}
	segs, err := f.Segments()
	if err != nil {
		return nil, err
	}
	o := &object{loads: loadsOf(segs)}
	if left.work -= int64(f.SectionHeaderBytes()); left.work <= 0 {
		return o, nil
	}
	sections, err := f.Sections()
	if err != nil {
		return nil, err
	}
	for _, typ := range []elf.SectionType{elf.SHT_SYMTAB, elf.SHT_DYNSYM} {
		// A file has one of each. One that is damaged leaves what was read of it.
		if i := slices.IndexFunc(sections, func(s elffile.Section) bool { return s.Type == typ }); i >= 0 {
			_ = o.add(f, sections[i], sections, left)
		}
	}
	left.room -= o.memory()
	o.sort()
	return o, nil
}

// add reads a symbol table.
func (o *object) add(f *elffile.File, table elffile.Section, sections []elffile.Section, left *budget) error {
	if uint64(table.Link) >= uint64(len(sections)) {
		return elffile.ErrNotELF
	}
	strtab := sections[table.Link]
	first := uint64(len(o.names))
	if n := min(strtab.Size, elffile.MaxStrings); int64(n) > min(left.room-o.memory(), left.work) || first+n > math.MaxUint32 {
		return nil
	}
	left.work -= int64(min(strtab.Size, elffile.MaxStrings))
	b, err := f.Part(strtab.Off, min(strtab.Size, elffile.MaxStrings))
	if err != nil {
		return err
	}
	if o.names == nil {
		o.names = b
	} else {
		o.names = append(o.names, b...)
	}
	return f.Entries(table, func(e elffile.Entry) bool {
		if left.work -= int64(f.SymSize()); left.work <= 0 {
			return false
		}
		if uint64(e.Name) >= uint64(len(b)) || !worthwhile(e, b[e.Name], sections) {
			return true
		}
		s := symbol{value: e.Value, end: e.Value + e.Size, name: uint32(first) + e.Name, sized: e.Size > 0}
		// Names are measured once, not in each comparison: all may be the same long one.
		left.work -= int64(o.measure(&s))
		if s.end < s.value {
			return true
		}
		if !s.sized && int(e.Section) < len(sections) {
			sec := sections[e.Section]
			if s.end = sec.Addr + sec.Size; s.end < s.value || sec.Addr > s.value {
				s.end = s.value
			}
		}
		o.symbols = append(o.symbols, s)
		return o.memory()+symbolBytes <= left.room
	})
}

// measure finds out what sort must know of a name, and returns how much it has looked at.
func (o *object) measure(s *symbol) int {
	text, seen := o.textFrom(s.name)
	s.length = uint16(len(text))
	for int(s.dashes) < len(text) && s.dashes < math.MaxUint8 && text[s.dashes] == '_' {
		s.dashes++
	}
	return seen
}

// worthwhile tells the names of code and data from those of sections, files, thread-local
// offsets, and the marks of linkers and assemblers. first is the first byte of the name.
func worthwhile(e elffile.Entry, first byte, sections []elffile.Section) bool {
	if first == 0 || e.Section == elf.SHN_UNDEF || e.Section == elf.SHN_ABS || e.Section == elf.SHN_COMMON {
		return false
	}
	switch e.Type {
	case elf.STT_FUNC, elf.STT_OBJECT, elf.STT_GNU_IFUNC:
		return true
	case elf.STT_NOTYPE: // a function of assembly; jumps go to .L1, and arm64 marks code and data with $x and $d
		return first != '$' && first != '.' && int(e.Section) < len(sections) && sections[e.Section].Exec
	}
	return false
}

// sort orders the symbols. One without a size ends where the next begins.
func (o *object) sort() {
	slices.SortFunc(o.symbols, func(a, b symbol) int {
		if a.value != b.value {
			return cmp.Compare(a.value, b.value)
		}
		return o.better(a, b)
	})
	next, value := uint64(math.MaxUint64), uint64(math.MaxUint64)
	for i := len(o.symbols) - 1; i >= 0; i-- {
		s := &o.symbols[i]
		if s.value != value {
			if i+1 < len(o.symbols) {
				next = o.symbols[i+1].value
			}
			value = s.value
		}
		if !s.sized {
			s.end = min(s.end, next)
		}
	}
	reach, sized := uint64(0), uint64(0)
	for i := range o.symbols {
		s := &o.symbols[i]
		switch {
		case s.sized:
			sized = max(sized, s.end)
		case sized > s.value: // a label in a function
			s.end = min(s.end, sized)
		}
		reach = max(reach, s.end)
		s.reach = reach
	}
}

// better compares two names of one address. A name with a size is better, then one with fewer
// leading underscores, because libraries keep those for themselves. Then the shorter name is
// better, then the one that the file has first.
func (o *object) better(a, b symbol) int {
	if a.sized != b.sized {
		if a.sized {
			return 1
		}
		return -1
	}
	if a.end != b.end {
		return cmp.Compare(b.end, a.end) // the narrower
	}
	return cmp.Or(cmp.Compare(b.dashes, a.dashes), cmp.Compare(b.length, a.length), cmp.Compare(b.name, a.name))
}

// text returns the name of a symbol, without the version that the linker adds.
func (o *object) text(s symbol) []byte { return o.names[s.name:][:s.length] }

// textFrom returns the name that begins there, and how many bytes tell where it ends.
func (o *object) textFrom(at uint32) (text []byte, seen int) {
	b := o.names[at:]
	b = b[:min(len(b), maxName)]
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	seen = len(b) + 1
	if i := bytes.IndexByte(b, '@'); i > 0 {
		b = b[:i]
	}
	return b, seen
}

// lookup returns the innermost symbol that holds the address v. One without a size may be a
// label in a function that has one.
func (o *object) lookup(v uint64) (name string, offset uint64, ok bool) {
	const most = 64 // symbols inside of each other, and aliases
	i, _ := slices.BinarySearchFunc(o.symbols, v, func(s symbol, v uint64) int {
		if s.value <= v {
			return -1
		}
		return 1
	})
	label := -1
	for k := i - 1; k >= max(0, i-most) && o.symbols[k].reach > v; k-- {
		s := o.symbols[k]
		switch {
		case s.end <= v:
		case s.sized:
			return string(o.text(s)), v - s.value, true
		case label < 0:
			label = k
		}
	}
	if label < 0 {
		return "", 0, false
	}
	return string(o.text(o.symbols[label])), v - o.symbols[label].value, true
}

// maxFound is how many symbols of one name are found. A caller that asks for one wants to know
// whether there is another.
const maxFound = 1000

// find returns the symbols of that name.
func (o *object) find(name string) []symbol {
	var out []symbol
	for _, s := range o.symbols {
		if len(out) == maxFound {
			break
		}
		if int(s.length) == len(name) && string(o.text(s)) == name {
			if !s.sized {
				s.end = s.value
			}
			out = append(out, s)
		}
	}
	return out
}

// address returns the address at which the page at offset off of the file is to be loaded.
func (o *object) address(off uint64) (v uint64, ok bool) {
	for _, s := range o.loads {
		if at := elffile.PageDown(s.Addr) + off - elffile.PageDown(s.Off); s.Covers(off) && (!ok || at < v) {
			v, ok = at, true
		}
	}
	return v, ok
}

// holds reports whether the program headers load offset off at the address v.
func (o *object) holds(v, off uint64) bool {
	return slices.ContainsFunc(o.loads, func(s elffile.Segment) bool { return s.Covers(off) && v-s.Addr == off-s.Off })
}
