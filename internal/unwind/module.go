package unwind

import (
	"debug/elf"
	"slices"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/cfi"
)

// module returns that of an address, nil if it is in no file.
func (u *Unwinder) module(pc uint64) *module {
	i := procmem.FindMapping(u.maps, procmem.Addr(pc))
	if i == len(u.maps) || !u.maps[i].Contains(procmem.Addr(pc)) {
		return nil
	}
	first := u.text.first(i)
	if m := &u.maps[i]; !m.HasFile() && !m.Special() {
		if first = u.unnamed(i, pc); first < 0 {
			return nil
		}
	}
	m, ok := u.modules[first]
	if !ok {
		m = u.load(first)
		u.modules[first] = m
	}
	return m
}

// mostBefore is how many mappings are looked at for the beginning of a file.
const mostBefore = 8

// unnamed returns the mapping that begins the file of which mapping i is a part, in a core that
// does not name files, as those of qemu do not. It returns -1 if there is none.
func (u *Unwinder) unnamed(i int, pc uint64) int {
	for k := i; k >= 0 && i-k < mostBefore && u.maps[k].Path == ""; k-- {
		segs, err := u.segments(u.maps[k].Start)
		if err != nil {
			continue
		}
		bias, ok := base(segs, u.maps[k].Start)
		if ok && slices.ContainsFunc(segs, func(s segment) bool {
			return s.typ == elf.PT_LOAD && u.machine.mask(pc-bias-s.addr) < s.size
		}) {
			return k
		}
	}
	return -1
}

// load reads where the tables of a module are. first is the mapping that begins its file.
func (u *Unwinder) load(first int) *module {
	m := &module{err: cfi.ErrNone}
	start := u.maps[first].Start
	segs, err := u.segments(start)
	if err != nil {
		m.err = err
		return m
	}
	bias, ok := base(segs, start)
	if !ok {
		m.err = errNotELF
		return m
	}
	for _, s := range segs {
		if s.typ != elf.PT_GNU_EH_FRAME {
			continue
		}
		at := u.machine.mask(bias + s.addr)
		t, err := cfi.Header(u.text, at, s.size, u.endOf(segs, bias), u.machine.arch.WordSize(), u.room)
		if err != nil {
			m.err = err
			break
		}
		m.tables = append(m.tables, table{t, 0})
	}
	noHeader := len(m.tables) == 0
	m.late = func() []table { return u.sectionTables(first, bias, noHeader) }
	return m
}

// segments reads the program headers of a file whose first page is at start.
func (u *Unwinder) segments(start procmem.Addr) ([]segment, error) {
	b := make([]byte, headerSize)
	if err := u.text.ReadAt(b, uint64(start)); err != nil {
		return nil, err
	}
	h, err := parseHeader(b)
	if err != nil || h.word != u.machine.arch.WordSize() {
		return nil, errNotELF
	}
	b = make([]byte, h.phnum*h.segmentSize())
	if err := u.text.ReadAt(b, uint64(start)+h.phoff); err != nil {
		return nil, err
	}
	return h.segments(b), nil
}

// endOf returns the address behind all that is loaded of a file.
func (u *Unwinder) endOf(segs []segment, bias uint64) uint64 {
	var end uint64
	for _, s := range segs {
		if s.typ == elf.PT_LOAD {
			end = max(end, u.machine.mask(bias+s.addr+s.size))
		}
	}
	return end
}

// sectionTables returns the tables that section headers alone lead to: .debug_frame, and
// .eh_frame where there is no .eh_frame_hdr. Section headers are in the file.
func (u *Unwinder) sectionTables(first int, bias uint64, ehFrame bool) (all []table) {
	const eh, debug = ".eh_frame", ".debug_frame"
	found, err := u.text.sections(first, eh, debug)
	if err != nil {
		return nil
	}
	word := u.machine.arch.WordSize()
	if s, ok := found[eh]; ok && ehFrame {
		at := u.machine.mask(bias + s.addr)
		all = append(all, table{cfi.Section(u.text, at, at+s.size, word, false, u.room), 0})
	}
	if s, ok := found[debug]; ok {
		if b, err := u.text.contents(first, s, word, u.room); err == nil {
			all = append(all, table{cfi.Section(contents(b), 0, uint64(len(b)), word, true, u.room), bias})
		}
	}
	return all
}
