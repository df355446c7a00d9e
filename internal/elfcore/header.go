package elfcore

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/procmem/procmem"
)

// MaxPlainHeaders is PN_XNUM. An e_phnum of that value says that sh_info of the first section
// header has the number of program headers.
const MaxPlainHeaders = 0xffff

// Header is the part of an ELF header that matters here, of either class (elf(5), Elf64_Ehdr).
type Header struct {
	Class   elf.Class
	Type    elf.Type
	Machine elf.Machine
	Phoff   uint64
	Shoff   uint64
	Phnum   uint32
	Phsize  uint16
}

// HeaderSize returns the size of the ELF header, in bytes.
func HeaderSize(c elf.Class) int {
	if c == elf.ELFCLASS32 {
		return 52
	}
	return 64
}

// ProgHeaderSize returns the size of a program header, in bytes.
func ProgHeaderSize(c elf.Class) int {
	if c == elf.ELFCLASS32 {
		return 32
	}
	return 56
}

// SectionHeaderSize returns the size of a section header, in bytes.
func SectionHeaderSize(c elf.Class) int {
	if c == elf.ELFCLASS32 {
		return 40
	}
	return 64
}

// ClassOf returns the class of cores of an architecture.
func ClassOf(a procmem.Arch) elf.Class {
	if a.WordSize() == 4 {
		return elf.ELFCLASS32
	}
	return elf.ELFCLASS64
}

// MachineOf returns the machine in the header of cores of an architecture.
func MachineOf(a procmem.Arch) (elf.Machine, error) {
	switch a {
	case procmem.AMD64:
		return elf.EM_X86_64, nil
	case procmem.I386:
		return elf.EM_386, nil
	case procmem.ARM64:
		return elf.EM_AARCH64, nil
	}
	return elf.EM_NONE, fmt.Errorf("architecture %v has no core layout", a)
}

// appendWord appends an ELF word of the class's size.
func appendWord(b []byte, c elf.Class, v uint64) []byte {
	if c == elf.ELFCLASS32 {
		return binary.LittleEndian.AppendUint32(b, uint32(v))
	}
	return binary.LittleEndian.AppendUint64(b, v)
}

// AppendHeader appends the ELF header of a core with phnum program headers at phoff. Where
// e_phnum cannot hold their number, it refers to a section header that follows them.
func AppendHeader(b []byte, c elf.Class, machine elf.Machine, phnum int, phoff uint64) []byte {
	le := binary.LittleEndian
	b = append(b, elf.ELFMAG...)
	b = append(b, byte(c), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT), 0, 0, 0, 0, 0, 0, 0, 0, 0)
	b = le.AppendUint16(b, uint16(elf.ET_CORE))
	b = le.AppendUint16(b, uint16(machine))
	b = le.AppendUint32(b, uint32(elf.EV_CURRENT))
	num, shoff, shsize, shnum := phnum, uint64(0), 0, 0
	if phnum >= MaxPlainHeaders {
		num, shsize, shnum = MaxPlainHeaders, SectionHeaderSize(c), 1
		shoff = phoff + uint64(phnum)*uint64(ProgHeaderSize(c))
	}
	b = appendWord(b, c, 0) // e_entry
	b = appendWord(b, c, phoff)
	b = appendWord(b, c, shoff)
	b = le.AppendUint32(b, 0) // e_flags
	for _, v := range [6]int{HeaderSize(c), ProgHeaderSize(c), num, shsize, shnum, 0} {
		b = le.AppendUint16(b, uint16(v))
	}
	return b
}

// AppendCountHeader appends the null section header with the number of program headers
// (fs/binfmt_elf.c, fill_extnum_info).
func AppendCountHeader(b []byte, c elf.Class, phnum int) []byte {
	h := make([]byte, SectionHeaderSize(c))
	le := binary.LittleEndian
	if c == elf.ELFCLASS32 {
		le.PutUint32(h[20:], 1) // sh_size
		le.PutUint32(h[28:], uint32(phnum))
	} else {
		le.PutUint64(h[32:], 1)
		le.PutUint32(h[44:], uint32(phnum))
	}
	return append(b, h...)
}

// DecodeCountHeader returns the number of program headers that the first section header has. b
// holds at least SectionHeaderSize bytes.
func DecodeCountHeader(c elf.Class, b []byte) uint32 {
	at := 44
	if c == elf.ELFCLASS32 {
		at = 28
	}
	return le32(b[at:])
}

// AppendProgHeader appends one program header, whose physical address is 0.
func AppendProgHeader(b []byte, c elf.Class, p elf.ProgHeader) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(p.Type))
	if c == elf.ELFCLASS64 {
		b = le.AppendUint32(b, uint32(p.Flags))
	}
	for _, v := range [5]uint64{p.Off, p.Vaddr, 0, p.Filesz, p.Memsz} {
		b = appendWord(b, c, v)
	}
	if c == elf.ELFCLASS32 {
		b = le.AppendUint32(b, uint32(p.Flags))
	}
	return appendWord(b, c, p.Align)
}

// whatInstead returns a clause that says what a file is whose first bytes are b.
func whatInstead(b []byte) string {
	for _, c := range []struct{ magic, name, undo string }{
		{"\x1f\x8b", "gzip", "gunzip"},
		{"\x28\xb5\x2f\xfd", "zstd", "unzstd"},
		{"\xfd7zXZ\x00", "xz", "unxz"},
		{"\x04\x22\x4d\x18", "lz4", "unlz4"},
		{"BZh", "bzip2", "bunzip2"},
	} {
		if bytes.HasPrefix(b, []byte(c.magic)) {
			return "it is compressed with " + c.name + ": decompress it first (" + c.undo + ")"
		}
	}
	return "no ELF header"
}

// DecodeHeader reads the header of any little-endian ELF file.
func DecodeHeader(b []byte) (Header, error) {
	le := binary.LittleEndian
	if !bytes.HasPrefix(b, []byte(elf.ELFMAG)) {
		return Header{}, &FormatError{0, "not a core file: " + whatInstead(b)}
	}
	if len(b) < 20 {
		return Header{}, &FormatError{int64(len(b)), "the ELF header is cut off"}
	}
	h := Header{Class: elf.Class(b[elf.EI_CLASS])}
	if h.Class != elf.ELFCLASS32 && h.Class != elf.ELFCLASS64 {
		return Header{}, &FormatError{elf.EI_CLASS, fmt.Sprintf("ELF class %d is neither 32 nor 64 bits", b[elf.EI_CLASS])}
	}
	if b[elf.EI_DATA] != byte(elf.ELFDATA2LSB) {
		return Header{}, &FormatError{elf.EI_DATA, "not little endian"}
	}
	if len(b) < HeaderSize(h.Class) {
		return Header{}, &FormatError{int64(len(b)), "the ELF header is cut off"}
	}
	h.Type = elf.Type(le.Uint16(b[16:]))
	h.Machine = elf.Machine(le.Uint16(b[18:]))
	if h.Class == elf.ELFCLASS32 {
		h.Phoff, h.Shoff = uint64(le.Uint32(b[28:])), uint64(le.Uint32(b[32:]))
		h.Phsize, h.Phnum = le.Uint16(b[42:]), uint32(le.Uint16(b[44:]))
	} else {
		h.Phoff, h.Shoff = le.Uint64(b[32:]), le.Uint64(b[40:])
		h.Phsize, h.Phnum = le.Uint16(b[54:]), uint32(le.Uint16(b[56:]))
	}
	return h, nil
}

// DecodeProgHeader reads one program header. b holds at least ProgHeaderSize bytes.
func DecodeProgHeader(c elf.Class, b []byte) elf.ProgHeader {
	le := binary.LittleEndian
	if c == elf.ELFCLASS32 {
		w := func(at int) uint64 { return uint64(le.Uint32(b[at:])) }
		return elf.ProgHeader{Type: elf.ProgType(le.Uint32(b)), Off: w(4), Vaddr: w(8), Filesz: w(16), Memsz: w(20), Flags: elf.ProgFlag(le.Uint32(b[24:])), Align: w(28)}
	}
	w := func(at int) uint64 { return le.Uint64(b[at:]) }
	return elf.ProgHeader{Type: elf.ProgType(le.Uint32(b)), Flags: elf.ProgFlag(le.Uint32(b[4:])), Off: w(8), Vaddr: w(16), Filesz: w(32), Memsz: w(40), Align: w(48)}
}

// The flags of a PT_LOAD and procmem's permissions have the same three bits in another order.

// PermFlags returns the flags of a segment with permissions p.
func PermFlags(p procmem.Perm) elf.ProgFlag {
	var f elf.ProgFlag
	if p&procmem.PermRead != 0 {
		f |= elf.PF_R
	}
	if p&procmem.PermWrite != 0 {
		f |= elf.PF_W
	}
	if p&procmem.PermExec != 0 {
		f |= elf.PF_X
	}
	return f
}

// FlagsPerm returns the permissions of a segment with these flags.
func FlagsPerm(f elf.ProgFlag) procmem.Perm {
	var p procmem.Perm
	if f&elf.PF_R != 0 {
		p |= procmem.PermRead
	}
	if f&elf.PF_W != 0 {
		p |= procmem.PermWrite
	}
	if f&elf.PF_X != 0 {
		p |= procmem.PermExec
	}
	return p
}

// NotesOfPage yields the PT_NOTE headers that the first page of an ELF file holds. If the page
// is of no ELF file, there are none.
func NotesOfPage(page []byte) iter.Seq[elf.ProgHeader] {
	return func(yield func(elf.ProgHeader) bool) {
		h, err := DecodeHeader(page)
		if err != nil {
			return
		}
		step := ProgHeaderSize(h.Class)
		for k := range int(min(h.Phnum, procmem.PageSize)) {
			at := h.Phoff + uint64(k*step)
			if at < h.Phoff || at+uint64(step) > uint64(len(page)) {
				return
			}
			if p := DecodeProgHeader(h.Class, page[at:]); p.Type == elf.PT_NOTE && !yield(p) {
				return
			}
		}
	}
}
