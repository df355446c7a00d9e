package inject

import (
	"encoding/binary"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/sys"
)

// Register sets of long vectors (include/uapi/linux/elf.h).
const (
	ntARMSVE  = 0x405
	ntARMSSVE = 0x40b // in streaming mode
	ntARMFPMR = 0x40e // which leaving streaming mode changes
)

// Bits of struct user_sve_header, which both sets of vectors begin with.
const (
	headerSize  = 16
	vectorFlags = 12       // offset of its flags, a word of 16 bits
	wide        = 1        // SVE_PT_REGS_SVE: the registers are in use beyond their first 128 bits
	maxVectors  = 64 << 10 // more than the longest vectors take, in bytes
)

// wideVectors returns what a system call makes a stopped thread lose: the vector registers
// beyond 128 bits, and streaming mode. It returns nil where the thread uses neither.
func wideVectors(tid int) []procmem.Regset {
	for _, typ := range []uint32{ntARMSSVE, ntARMSVE} {
		var head [headerSize]byte
		if n, err := sys.GetRegset(tid, typ, head[:]); err != nil || n < headerSize {
			continue
		}
		if binary.LittleEndian.Uint16(head[vectorFlags:])&wide == 0 {
			continue
		}
		data := make([]byte, maxVectors)
		n, err := sys.GetRegset(tid, typ, data)
		if err != nil || n < headerSize {
			continue
		}
		sets := []procmem.Regset{{Type: typ, Data: data[:min(n, int(binary.LittleEndian.Uint32(data)))]}}
		var mode [8]byte
		if n, err := sys.GetRegset(tid, ntARMFPMR, mode[:]); typ == ntARMSSVE && err == nil && n == len(mode) {
			sets = append(sets, procmem.Regset{Type: ntARMFPMR, Data: mode[:]})
		}
		return sets
	}
	return nil
}
