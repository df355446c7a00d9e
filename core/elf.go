package core

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"

	"github.com/procmem/procmem"
)

// maxPlainHeaders is PN_XNUM. An e_phnum of that value says that sh_info of the first section
// header has the number of program headers.
const maxPlainHeaders = 0xffff

// FormatError reports that a file is no core file, or contradicts itself.
type FormatError struct {
	Off int64 // offset in the file, in bytes
	Msg string
}

func (e *FormatError) Error() string { return fmt.Sprintf("offset %#x: %s", e.Off, e.Msg) }

// ehdr is the part of an ELF header that matters here.
type ehdr struct {
	class   elf.Class
	typ     elf.Type
	machine elf.Machine
	phoff   uint64
	shoff   uint64
	phnum   uint32
	phsize  uint16
}

// phdr is a program header of either class.
type phdr struct {
	typ, flags                       uint32
	off, vaddr, filesz, memsz, align uint64
}

func ehdrSize(c elf.Class) int {
	if c == elf.ELFCLASS32 {
		return 52
	}
	return 64
}

func phdrSize(c elf.Class) int {
	if c == elf.ELFCLASS32 {
		return 32
	}
	return 56
}

func shdrSize(c elf.Class) int {
	if c == elf.ELFCLASS32 {
		return 40
	}
	return 64
}

func classOf(a procmem.Arch) elf.Class {
	if a.WordSize() == 4 {
		return elf.ELFCLASS32
	}
	return elf.ELFCLASS64
}

func machineOf(a procmem.Arch) (elf.Machine, error) {
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

// appendEHeader appends the ELF header of a core with phnum program headers at phoff. Where
// e_phnum cannot hold their number, it refers to a section header that follows them.
func appendEHeader(b []byte, c elf.Class, machine elf.Machine, phnum int, phoff uint64) []byte {
	le := binary.LittleEndian
	b = append(b, elf.ELFMAG...)
	b = append(b, byte(c), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT), 0, 0, 0, 0, 0, 0, 0, 0, 0)
	b = le.AppendUint16(b, uint16(elf.ET_CORE))
	b = le.AppendUint16(b, uint16(machine))
	b = le.AppendUint32(b, uint32(elf.EV_CURRENT))
	num, shoff, shsize, shnum := phnum, uint64(0), 0, 0
	if phnum >= maxPlainHeaders {
		num, shsize, shnum = maxPlainHeaders, shdrSize(c), 1
		shoff = phoff + uint64(phnum)*uint64(phdrSize(c))
	}
	b = appendWord(b, c, 0) // e_entry
	b = appendWord(b, c, phoff)
	b = appendWord(b, c, shoff)
	b = le.AppendUint32(b, 0) // e_flags
	for _, v := range [6]int{ehdrSize(c), phdrSize(c), num, shsize, shnum, 0} {
		b = le.AppendUint16(b, uint16(v))
	}
	return b
}

// appendCountHeader appends the null section header with the number of program headers
// (fs/binfmt_elf.c, fill_extnum_info).
func appendCountHeader(b []byte, c elf.Class, phnum int) []byte {
	h := make([]byte, shdrSize(c))
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

func appendPHdr(b []byte, c elf.Class, p phdr) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, p.typ)
	if c == elf.ELFCLASS64 {
		b = le.AppendUint32(b, p.flags)
	}
	for _, v := range [5]uint64{p.off, p.vaddr, 0, p.filesz, p.memsz} {
		b = appendWord(b, c, v)
	}
	if c == elf.ELFCLASS32 {
		b = le.AppendUint32(b, p.flags)
	}
	return appendWord(b, c, p.align)
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

// decodeEHeader reads the header of any little-endian ELF file.
func decodeEHeader(b []byte) (ehdr, error) {
	le := binary.LittleEndian
	if !bytes.HasPrefix(b, []byte(elf.ELFMAG)) {
		return ehdr{}, &FormatError{0, "not a core file: " + whatInstead(b)}
	}
	if len(b) < 20 {
		return ehdr{}, &FormatError{int64(len(b)), "the ELF header is cut off"}
	}
	h := ehdr{class: elf.Class(b[elf.EI_CLASS])}
	if h.class != elf.ELFCLASS32 && h.class != elf.ELFCLASS64 {
		return ehdr{}, &FormatError{elf.EI_CLASS, fmt.Sprintf("ELF class %d is neither 32 nor 64 bits", b[elf.EI_CLASS])}
	}
	if b[elf.EI_DATA] != byte(elf.ELFDATA2LSB) {
		return ehdr{}, &FormatError{elf.EI_DATA, "not little endian"}
	}
	if len(b) < ehdrSize(h.class) {
		return ehdr{}, &FormatError{int64(len(b)), "the ELF header is cut off"}
	}
	h.typ = elf.Type(le.Uint16(b[16:]))
	h.machine = elf.Machine(le.Uint16(b[18:]))
	if h.class == elf.ELFCLASS32 {
		h.phoff, h.shoff = uint64(le.Uint32(b[28:])), uint64(le.Uint32(b[32:]))
		h.phsize, h.phnum = le.Uint16(b[42:]), uint32(le.Uint16(b[44:]))
	} else {
		h.phoff, h.shoff = le.Uint64(b[32:]), le.Uint64(b[40:])
		h.phsize, h.phnum = le.Uint16(b[54:]), uint32(le.Uint16(b[56:]))
	}
	return h, nil
}

// decodePHdr reads one program header. b holds at least phdrSize bytes.
func decodePHdr(c elf.Class, b []byte) phdr {
	le := binary.LittleEndian
	if c == elf.ELFCLASS32 {
		w := func(at int) uint64 { return uint64(le.Uint32(b[at:])) }
		return phdr{typ: le.Uint32(b), off: w(4), vaddr: w(8), filesz: w(16), memsz: w(20), flags: le.Uint32(b[24:]), align: w(28)}
	}
	w := func(at int) uint64 { return le.Uint64(b[at:]) }
	return phdr{typ: le.Uint32(b), flags: le.Uint32(b[4:]), off: w(8), vaddr: w(16), filesz: w(32), memsz: w(40), align: w(48)}
}

// The flags of a PT_LOAD and procmem's permissions have the same three bits in another order.

func permFlags(p procmem.Perm) uint32 {
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
	return uint32(f)
}

func flagsPerm(flags uint32) procmem.Perm {
	var p procmem.Perm
	f := elf.ProgFlag(flags)
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
