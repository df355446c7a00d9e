package unwind

import (
	"encoding/binary"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/cfi"
)

// Registers are those of one frame, by their DWARF numbers.
type Registers struct {
	value [cfi.Registers]uint64
	known uint64 // a bit for each that has a value
	// roughSP says that the stack pointer may be too low, as frame pointers of arm64 do not
	// tell it.
	roughSP bool
}

func (r *Registers) get(num int) (uint64, bool) { return r.value[num], r.known&(1<<num) != 0 }

func (r *Registers) set(num int, v uint64) {
	r.value[num] = v
	r.known |= 1 << num
}

func (r *Registers) forget(num int) { r.known &^= 1 << num }

// machine is what the walk knows of an architecture.
type machine struct {
	arch       procmem.Arch
	pc, sp, fp int      // DWARF numbers
	names      []string // by DWARF number
	numbers    []int    // DWARF numbers by the numbers of instructions; nil where code is not followed
	signals    []signalFrame
}

// link is the register of arm64 that has the return address.
const link = 30

var machines = map[procmem.Arch]*machine{
	procmem.AMD64: {
		arch: procmem.AMD64, pc: 16, sp: 7, fp: 6,
		names: []string{"rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp",
			"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip"},
		numbers: []int{0, 2, 1, 3, 7, 6, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15},
		signals: signalsAMD64,
	},
	procmem.I386: {
		arch: procmem.I386, pc: 8, sp: 4, fp: 5,
		names:   []string{"eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip"},
		numbers: []int{0, 1, 2, 3, 4, 5, 6, 7},
		signals: signalsI386,
	},
	procmem.ARM64: {
		arch: procmem.ARM64, pc: 32, sp: 31, fp: 29,
		names: []string{"x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12",
			"x13", "x14", "x15", "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25",
			"x26", "x27", "x28", "x29", "x30", "sp", "pc"},
		signals: signalsARM64,
	},
}

func (m *machine) word() uint64 { return uint64(m.arch.WordSize()) }

// mask makes a value one of the machine's size.
func (m *machine) mask(v uint64) uint64 {
	if m.word() == 4 {
		return uint64(uint32(v))
	}
	return v
}

// registers returns those of a thread.
func (m *machine) registers(t *procmem.Thread) (r Registers, ok bool) {
	byName := map[string]uint64{}
	for _, reg := range m.arch.Registers(t.Regset(procmem.NTPRStatus)) {
		byName[reg.Name] = reg.Value
	}
	for num, name := range m.names {
		if v, ok := byName[name]; ok {
			r.set(num, v)
		}
	}
	return r, r.known != 0
}

const (
	ntARMPacMask = 0x406 // data_mask, insn_mask (include/uapi/linux/elf.h)
	// userBits are the bits of an address of user space where the kernel does not tell which
	// ones sign it.
	userBits = 1<<48 - 1
)

// code returns the bits of a code address that are not a signature (pointer authentication).
func (m *machine) code(t *procmem.Thread) uint64 {
	if m.arch != procmem.ARM64 {
		return ^uint64(0)
	}
	if b := t.Regset(ntARMPacMask); len(b) == 16 {
		if mask := binary.LittleEndian.Uint64(b[8:]); mask&userBits == 0 {
			return ^mask
		}
	}
	return userBits
}
