package sys

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// GetRegs64 reads the general purpose registers of a stopped thread (PTRACE_GETREGS), encoded
// like the NT_PRSTATUS register set. The layout is that of 64 bits, whatever code segment the
// thread runs in.
func GetRegs64(tid int) ([]byte, error) {
	regs := make([]byte, unsafe.Sizeof(unix.PtraceRegs{})) // as they are in memory: little endian
	if err := ptrace(unix.PTRACE_GETREGS, tid, 0, unsafe.Pointer(&regs[0])); err != nil {
		return nil, err
	}
	return regs, nil
}

// SetRegs64 writes what GetRegs64 has read.
func SetRegs64(tid int, regs []byte) error {
	return ptrace(unix.PTRACE_SETREGS, tid, 0, unsafe.Pointer(&regs[0]))
}

// GetFPRegs64 reads the 512 bytes of the fxsave area of a stopped thread (PTRACE_GETFPREGS).
func GetFPRegs64(tid int) ([]byte, error) {
	buf := make([]byte, 512)
	err := ptrace(unix.PTRACE_GETFPREGS, tid, 0, unsafe.Pointer(&buf[0]))
	return buf, err
}

func cpuid(leaf, sub uint32) (a, b, c, d uint32)

// XSaveLayout returns the descriptor of the NT_X86_XSAVE_LAYOUT note, or nil if there is no
// XSAVE. It has 16 bytes for each extended state component of this processor that the operating
// system enabled. They are its number, size in bytes, offset in the standard format and flags,
// little endian. Sources are CPUID leaf 0xD, and fs/coredump and arch/x86/kernel/fpu/xstate.c
// of kernel 6.12.
func XSaveLayout() []byte {
	if max, _, _, _ := cpuid(0, 0); max < 0xd {
		return nil
	}
	if _, _, c, _ := cpuid(1, 0); c&(1<<27) == 0 { // OSXSAVE
		return nil
	}
	lo, _, _, hi := cpuid(0xd, 0)
	enabled := uint64(hi)<<32 | uint64(lo)
	var out []byte
	for i := uint32(2); i < 63; i++ {
		if enabled&(1<<i) == 0 {
			continue
		}
		size, off, flags, _ := cpuid(0xd, i)
		for _, v := range [4]uint32{i, size, off, flags} {
			out = binary.LittleEndian.AppendUint32(out, v)
		}
	}
	return out
}
