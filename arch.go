package procmem

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
)

// Arch is the instruction set of the target. It fixes the ELF class, the size of a word and the
// layout of registers and notes. All are little endian.
type Arch uint8

// The architectures that procmem knows.
const (
	ArchUnknown Arch = iota
	AMD64
	I386
	ARM64
)

// String returns the name that Go uses: "amd64", "386", "arm64".
func (a Arch) String() string {
	switch a {
	case AMD64:
		return "amd64"
	case I386:
		return "386"
	case ARM64:
		return "arm64"
	}
	return "unknown"
}

// ArchOf returns the architecture of an ELF file with this class and machine. It fails if
// procmem does not know it.
func ArchOf(class elf.Class, machine elf.Machine) (Arch, error) {
	switch {
	case class == elf.ELFCLASS64 && machine == elf.EM_X86_64:
		return AMD64, nil
	case class == elf.ELFCLASS32 && machine == elf.EM_386:
		return I386, nil
	case class == elf.ELFCLASS64 && machine == elf.EM_AARCH64:
		return ARM64, nil
	}
	return ArchUnknown, fmt.Errorf("%v %v: not supported (programs for amd64, 386 and arm64 are)", class, machine)
}

// WordSize returns the size of a pointer in bytes: 4 or 8.
func (a Arch) WordSize() int {
	if a == I386 {
		return 4
	}
	return 8
}

// Register is one register of the general purpose set.
type Register struct {
	Name  string
	Value uint64
}

var registerNames = map[Arch][]string{
	AMD64: {"r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx",
		"rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs"},
	I386: {"ebx", "ecx", "edx", "esi", "edi", "ebp", "eax", "ds", "es", "fs", "gs", "orig_eax", "eip",
		"cs", "eflags", "esp", "ss"},
	ARM64: {"x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14",
		"x15", "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28",
		"x29", "x30", "sp", "pc", "pstate"},
}

// RegisterNames returns the names of the general purpose registers, in the order in which
// NTPRStatus holds them. Each is a word. The caller must not change the slice.
func (a Arch) RegisterNames() []string { return registerNames[a] }

// GPRSize returns the size in bytes of the general purpose register set.
func (a Arch) GPRSize() int { return len(registerNames[a]) * a.WordSize() }

// PCSP returns the indexes of the program counter and the stack pointer in RegisterNames.
func (a Arch) PCSP() (pc, sp int) {
	switch a {
	case I386:
		return 12, 15
	case ARM64:
		return 32, 31
	}
	return 16, 19
}

// Registers decodes a general purpose register set. It returns nil if data does not have the
// size of the architecture's set.
func (a Arch) Registers(data []byte) []Register {
	names := registerNames[a]
	if len(names) == 0 || len(data) != a.GPRSize() {
		return nil
	}
	regs := make([]Register, len(names))
	for i, name := range names {
		regs[i] = Register{name, a.word(data, i)}
	}
	return regs
}

// PC returns the program counter and the stack pointer of a thread. Ok is false if its
// registers are not known.
func (a Arch) PC(t *Thread) (pc, sp Addr, ok bool) {
	data := t.Regset(NTPRStatus)
	if len(data) == 0 || len(data) != a.GPRSize() {
		return 0, 0, false
	}
	ipc, isp := a.PCSP()
	return Addr(a.word(data, ipc)), Addr(a.word(data, isp)), true
}

func (a Arch) word(data []byte, i int) uint64 {
	if a.WordSize() == 4 {
		return uint64(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return binary.LittleEndian.Uint64(data[8*i:])
}
