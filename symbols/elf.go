package symbols

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Bounds of what is read of one file, whatever it claims.
const (
	maxNotes        = 64 << 10  // bytes of a PT_NOTE
	maxNoteSegments = 16        // that are looked at for the build id
	maxSegments     = 1024      // the kernel itself takes no more than 64 KiB of program headers
	maxEntries      = 1 << 23   // of a symbol table
	maxStrings      = 256 << 20 // bytes of a string table
	maxSectionNames = 1 << 20   // bytes of the names of sections
)

var errNotELF = errors.New("no ELF file that makes sense")

// elfFile reads the parts of a little endian ELF file, of 32 or 64 bits. It never reads more
// than the file has, nor more than is asked for.
type elfFile struct {
	r     io.ReaderAt
	size  uint64
	w     int // bytes of a word; most fields are at the same number of words
	phoff uint64
	phnum int
	shoff uint64
	shnum int
	names int // the section with the names of sections
}

func openELF(r io.ReaderAt, size int64) (*elfFile, error) {
	f := &elfFile{r: r, size: uint64(max(size, 0)), w: 4}
	b := make([]byte, 64)
	n, err := r.ReadAt(b, 0)
	if !bytes.HasPrefix(b, []byte(elf.ELFMAG)) || elf.Data(b[elf.EI_DATA]) != elf.ELFDATA2LSB {
		return nil, errors.Join(errNotELF, err)
	}
	if elf.Class(b[elf.EI_CLASS]) == elf.ELFCLASS64 {
		f.w = 8
	}
	if n < 40+3*f.w {
		return nil, errNotELF
	}
	half := func(i int) int { return int(binary.LittleEndian.Uint16(b[24+3*f.w+6+2*i:])) }
	f.phoff, f.phnum = f.word(b[24+f.w:]), min(half(1), maxSegments)
	f.shoff, f.shnum, f.names = f.word(b[24+2*f.w:]), half(3), half(4)
	if f.phnum > 0 && half(0) != f.phdrSize() || f.shnum > 0 && half(2) != f.shdrSize() {
		return nil, errNotELF
	}
	return f, nil
}

func (f *elfFile) phdrSize() int { return 8 + 6*f.w }
func (f *elfFile) shdrSize() int { return 16 + 6*f.w }
func (f *elfFile) symSize() int  { return 8 + 2*f.w }

func (f *elfFile) word(b []byte) uint64 {
	if f.w == 8 {
		return binary.LittleEndian.Uint64(b)
	}
	return uint64(binary.LittleEndian.Uint32(b))
}

// part reads n bytes at off, if the file has them.
func (f *elfFile) part(off, n uint64) ([]byte, error) {
	if off > f.size || n > f.size-off {
		return nil, fmt.Errorf("%w: %d bytes at offset %#x", errNotELF, n, off)
	}
	b := make([]byte, n)
	if got, err := f.r.ReadAt(b, int64(off)); uint64(got) < n {
		return nil, err
	}
	return b, nil
}

// segment is a program header.
type segment struct {
	typ                       elf.ProgType
	writable                  bool
	off, addr, fileSize, size uint64
}

func (f *elfFile) segments() ([]segment, error) {
	b, err := f.part(f.phoff, uint64(f.phnum*f.phdrSize()))
	if err != nil {
		return nil, err
	}
	out := make([]segment, 0, f.phnum)
	for ; len(b) > 0; b = b[f.phdrSize():] {
		flags := b[4:] // behind the type, or behind all but the alignment
		if f.w == 4 {
			flags = b[24:]
		}
		out = append(out, segment{elf.ProgType(binary.LittleEndian.Uint32(b)),
			elf.ProgFlag(binary.LittleEndian.Uint32(flags))&elf.PF_W != 0,
			f.word(b[f.w:]), f.word(b[2*f.w:]), f.word(b[4*f.w:]), f.word(b[5*f.w:])})
	}
	return out, nil
}

// section is a section header.
type section struct {
	name            uint32 // in the names of sections
	typ             elf.SectionType
	exec            bool
	addr, off, size uint64
	link            uint32
}

func (f *elfFile) sections() ([]section, error) {
	b, err := f.part(f.shoff, uint64(f.shnum*f.shdrSize()))
	if err != nil {
		return nil, err
	}
	out := make([]section, 0, f.shnum)
	for ; len(b) > 0; b = b[f.shdrSize():] {
		out = append(out, section{binary.LittleEndian.Uint32(b), elf.SectionType(binary.LittleEndian.Uint32(b[4:])),
			f.word(b[8:])&uint64(elf.SHF_EXECINSTR) != 0,
			f.word(b[8+f.w:]), f.word(b[8+2*f.w:]), f.word(b[8+3*f.w:]), binary.LittleEndian.Uint32(b[8+4*f.w:])})
	}
	return out, nil
}

// hasSection reports whether a section has that name.
func (f *elfFile) hasSection(name string) bool {
	sections, err := f.sections()
	if err != nil || f.names >= len(sections) {
		return false
	}
	names, err := f.part(sections[f.names].off, min(sections[f.names].size, maxSectionNames))
	return err == nil && slices.ContainsFunc(sections, func(s section) bool {
		return uint64(s.name) < uint64(len(names)) && bytes.HasPrefix(names[s.name:], []byte(name+"\x00"))
	})
}

// entry is one of a symbol table.
type entry struct {
	name        uint32
	typ         elf.SymType
	section     elf.SectionIndex
	value, size uint64
}

func (f *elfFile) entry(b []byte) entry {
	e := entry{name: binary.LittleEndian.Uint32(b), value: f.word(b[f.w:]), size: f.word(b[2*f.w:])}
	rest := b[4:]
	if f.w == 4 {
		rest = b[12:]
	}
	e.typ, e.section = elf.ST_TYPE(rest[0]), elf.SectionIndex(binary.LittleEndian.Uint16(rest[2:]))
	return e
}

// entries visits those of the symbol table s.
func (f *elfFile) entries(s section, visit func(entry) bool) error {
	step := uint64(f.symSize())
	left := min(s.size/step, maxEntries)
	for off := s.off; left > 0; {
		n := min(left, 4096)
		b, err := f.part(off, n*step)
		if err != nil {
			return err
		}
		for ; len(b) > 0; b = b[step:] {
			if !visit(f.entry(b)) {
				return nil
			}
		}
		left, off = left-n, off+n*step
	}
	return nil
}

// buildID returns the descriptor of NT_GNU_BUILD_ID in the notes b, nil if there is none. The
// linker of Go puts that behind the notes that are loaded. Its own build id counts, too.
func buildID(b []byte) []byte {
	const ntGNUBuildID, ntGoBuildID, head = 3, 4, 12
	align := func(n uint64) uint64 { return (n + 3) &^ 3 }
	for len(b) >= head {
		le := binary.LittleEndian
		nameSize, size, typ := uint64(le.Uint32(b)), uint64(le.Uint32(b[4:])), le.Uint32(b[8:])
		at := head + align(nameSize)
		if at > uint64(len(b)) || size > uint64(len(b))-at {
			return nil
		}
		switch owner := string(b[head : head+nameSize]); {
		case typ == ntGNUBuildID && owner == "GNU\x00", typ == ntGoBuildID && owner == "Go\x00\x00" && size > 0:
			return b[at : at+size]
		}
		b = b[min(uint64(len(b)), at+align(size)):]
	}
	return nil
}
