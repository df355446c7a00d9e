// Package elffile reads parts of little endian ELF files, of 32 or 64 bits, that others have
// made. It never reads more than a file has, nor more than is asked for, and no claim of a file
// costs more than the bounds of this package.
//
// Start with Open. Contents gives a section of debug information, unpacked.
package elffile

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/procmem/procmem"
)

// Bounds of what is read of one file, whatever it claims.
const (
	MaxNotes        = 64 << 10  // bytes of a PT_NOTE
	MaxNoteSegments = 16        // that are looked at for the build id
	MaxStrings      = 256 << 20 // bytes of a string table

	maxSegments     = 1024    // the kernel itself takes no more than 64 KiB of program headers
	maxEntries      = 1 << 23 // of a symbol table
	maxSectionNames = 1 << 20 // bytes of the names of sections
)

// ErrNotELF reports a file that is none of those this package reads, or is damaged.
var ErrNotELF = errors.New("no ELF file that makes sense")

// File is an ELF file. It is safe for concurrent use if its reader is.
type File struct {
	// Machine is what the file's code is for.
	Machine elf.Machine

	r     io.ReaderAt
	size  uint64
	w     int // bytes of a word; most fields are at the same number of words
	phoff uint64
	phnum int
	shoff uint64
	shnum int
	names int // the section with the names of sections
}

// Open reads the header of a file of size bytes. It fails with ErrNotELF.
func Open(r io.ReaderAt, size int64) (*File, error) {
	f := &File{r: r, size: uint64(max(size, 0)), w: 4}
	b := make([]byte, 64)
	n, err := r.ReadAt(b, 0)
	if !bytes.HasPrefix(b, []byte(elf.ELFMAG)) || elf.Data(b[elf.EI_DATA]) != elf.ELFDATA2LSB {
		return nil, errors.Join(ErrNotELF, err)
	}
	if elf.Class(b[elf.EI_CLASS]) == elf.ELFCLASS64 {
		f.w = 8
	}
	if n < 40+3*f.w {
		return nil, ErrNotELF
	}
	half := func(i int) int { return int(binary.LittleEndian.Uint16(b[24+3*f.w+6+2*i:])) }
	f.Machine = elf.Machine(binary.LittleEndian.Uint16(b[18:]))
	f.phoff, f.phnum = f.Word(b[24+f.w:]), min(half(1), maxSegments)
	f.shoff, f.shnum, f.names = f.Word(b[24+2*f.w:]), half(3), half(4)
	if f.phnum > 0 && half(0) != f.phdrSize() || f.shnum > 0 && half(2) != f.shdrSize() {
		return nil, ErrNotELF
	}
	return f, nil
}

func (f *File) phdrSize() int { return 8 + 6*f.w }
func (f *File) shdrSize() int { return 16 + 6*f.w }

// WordSize returns how many bytes an address of the file has: 4 or 8.
func (f *File) WordSize() int { return f.w }

// SymSize returns how many bytes an entry of a symbol table has.
func (f *File) SymSize() int { return 8 + 2*f.w }

// SectionHeaderBytes returns how much Sections reads.
func (f *File) SectionHeaderBytes() int { return f.shnum * f.shdrSize() }

// Word returns the address at the beginning of b.
func (f *File) Word(b []byte) uint64 {
	if f.w == 8 {
		return binary.LittleEndian.Uint64(b)
	}
	return uint64(binary.LittleEndian.Uint32(b))
}

// Part reads n bytes at off, if the file has them.
func (f *File) Part(off, n uint64) ([]byte, error) {
	if off > f.size || n > f.size-off {
		return nil, fmt.Errorf("%w: %d bytes at offset %#x", ErrNotELF, n, off)
	}
	b := make([]byte, n)
	if got, err := f.r.ReadAt(b, int64(off)); uint64(got) < n {
		return nil, err
	}
	return b, nil
}

// Segment is a program header.
type Segment struct {
	Type                      elf.ProgType
	Writable                  bool
	Off, Addr, FileSize, Size uint64
}

// Covers reports whether the pages of a segment hold offset off of the file. If there is .bss
// the last page goes on behind the file's part.
func (s Segment) Covers(off uint64) bool {
	return off >= PageDown(s.Off) && off-PageDown(s.Off) < PageUp(s.FileSize+s.Off-PageDown(s.Off))
}

// PageDown returns the highest multiple of the page size that is not above n.
func PageDown(n uint64) uint64 { return n &^ (procmem.PageSize - 1) }

// PageUp returns the lowest multiple of the page size that is not below n, modulo 2^64.
func PageUp(n uint64) uint64 { return PageDown(n + procmem.PageSize - 1) }

// ProgramHeaders reads the bytes of all program headers.
func (f *File) ProgramHeaders() ([]byte, error) {
	return f.Part(f.phoff, uint64(f.phnum*f.phdrSize()))
}

// Segments reads the program headers.
func (f *File) Segments() ([]Segment, error) {
	b, err := f.ProgramHeaders()
	if err != nil {
		return nil, err
	}
	out := make([]Segment, 0, f.phnum)
	for ; len(b) > 0; b = b[f.phdrSize():] {
		flags := b[4:] // behind the type, or behind all but the alignment
		if f.w == 4 {
			flags = b[24:]
		}
		out = append(out, Segment{elf.ProgType(binary.LittleEndian.Uint32(b)),
			elf.ProgFlag(binary.LittleEndian.Uint32(flags))&elf.PF_W != 0,
			f.Word(b[f.w:]), f.Word(b[2*f.w:]), f.Word(b[4*f.w:]), f.Word(b[5*f.w:])})
	}
	return out, nil
}

// Section is a section header.
type Section struct {
	Type             elf.SectionType
	Exec, Compressed bool
	Addr, Off, Size  uint64
	Link             uint32

	name uint32 // in the names of sections
}

// Sections reads the section headers.
func (f *File) Sections() ([]Section, error) {
	b, err := f.Part(f.shoff, uint64(f.SectionHeaderBytes()))
	if err != nil {
		return nil, err
	}
	out := make([]Section, 0, f.shnum)
	for ; len(b) > 0; b = b[f.shdrSize():] {
		flags := elf.SectionFlag(f.Word(b[8:]))
		out = append(out, Section{elf.SectionType(binary.LittleEndian.Uint32(b[4:])),
			flags&elf.SHF_EXECINSTR != 0, flags&elf.SHF_COMPRESSED != 0,
			f.Word(b[8+f.w:]), f.Word(b[8+2*f.w:]), f.Word(b[8+3*f.w:]), binary.LittleEndian.Uint32(b[8+4*f.w:]),
			binary.LittleEndian.Uint32(b)})
	}
	return out, nil
}

// HasSection reports whether a section has that name.
func (f *File) HasSection(name string) bool {
	found, err := f.Named(name)
	return err == nil && len(found) > 0
}

// Named reads the headers of the sections with those names, the first of each.
func (f *File) Named(names ...string) (map[string]Section, error) {
	sections, err := f.Sections()
	if err != nil {
		return nil, err
	}
	if f.names >= len(sections) {
		return nil, nil
	}
	text, err := f.Part(sections[f.names].Off, min(sections[f.names].Size, maxSectionNames))
	if err != nil {
		return nil, err
	}
	const longest = 64 // bytes of a name that is asked for
	out := make(map[string]Section)
	for _, s := range sections {
		if uint64(s.name) >= uint64(len(text)) {
			continue
		}
		name, _, _ := bytes.Cut(text[s.name:min(len(text), int(s.name)+longest)], []byte{0})
		if _, twice := out[string(name)]; !twice && slices.Contains(names, string(name)) {
			out[string(name)] = s
		}
	}
	return out, nil
}

// Entry is one of a symbol table.
type Entry struct {
	Name        uint32
	Type        elf.SymType
	Section     elf.SectionIndex
	Value, Size uint64
}

func (f *File) entry(b []byte) Entry {
	e := Entry{Name: binary.LittleEndian.Uint32(b), Value: f.Word(b[f.w:]), Size: f.Word(b[2*f.w:])}
	rest := b[4:]
	if f.w == 4 {
		rest = b[12:]
	}
	e.Type, e.Section = elf.ST_TYPE(rest[0]), elf.SectionIndex(binary.LittleEndian.Uint16(rest[2:]))
	return e
}

// Entries visits those of the symbol table s, until visit returns false.
func (f *File) Entries(s Section, visit func(Entry) bool) error {
	step := uint64(f.SymSize())
	left := min(s.Size/step, maxEntries)
	for off := s.Off; left > 0; {
		n := min(left, 4096)
		b, err := f.Part(off, n*step)
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

// BuildID returns the descriptor of NT_GNU_BUILD_ID in the notes b, nil if there is none. The
// linker of Go puts that behind the notes that are loaded. Its own build id counts, too.
func BuildID(b []byte) []byte {
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
