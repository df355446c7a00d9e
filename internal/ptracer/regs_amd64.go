package ptracer

import (
	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/sys"
)

// all returns the register sets that a core of the architecture holds. GETREGSET answers in the
// layout of the code segment that the thread runs in. That need not be the executable's: 64-bit
// code may run 32-bit code for a while, and the other way round.
func (r *regReader) all(tid int, arch procmem.Arch) ([]procmem.Regset, error) {
	regs, err := sys.GetRegs64(tid)
	if err != nil {
		return nil, err
	}
	if arch == procmem.I386 {
		sets := []procmem.Regset{{Type: procmem.NTPRStatus, Data: narrow(regs)}}
		own := r.get(tid, procmem.NTPRStatus)
		if len(own) == arch.GPRSize() {
			sets[0].Data = own
			return r.add(sets, tid, procmem.NTFPRegset, procmem.NTPRXFPReg, procmem.NTX86XState, procmem.NT386TLS), nil
		}
		return r.add(sets, tid, procmem.NTX86XState), nil
	}
	sets := []procmem.Regset{{Type: procmem.NTPRStatus, Data: regs}}
	if fp, err := sys.GetFPRegs64(tid); err == nil {
		sets = append(sets, procmem.Regset{Type: procmem.NTFPRegset, Data: fp})
	}
	return r.add(sets, tid, procmem.NTX86XState, procmem.NT386IOPerm, procmem.NTX86ShStk), nil
}

// general returns the general purpose registers.
func (r *regReader) general(tid int, arch procmem.Arch) ([]procmem.Regset, error) {
	regs, err := sys.GetRegs64(tid)
	if err != nil {
		return nil, err
	}
	if arch == procmem.I386 {
		regs = narrow(regs)
	}
	return []procmem.Regset{{Type: procmem.NTPRStatus, Data: regs}}, nil
}

// narrow returns 64-bit registers in the layout of i386.
func narrow(regs []byte) []byte {
	// The index is that of a name of I386, and the value that of the AMD64 name.
	from := [...]int{5, 11, 12, 13, 14, 4, 10, 23, 24, 25, 26, 15, 16, 17, 18, 19, 20}
	var out []byte
	for _, i := range from {
		out = append(out, regs[8*i:8*i+4]...)
	}
	return out
}

// XSaveLayout returns the contents of NT_X86_XSAVE_LAYOUT for this processor, or nil for other
// architectures.
func XSaveLayout(arch procmem.Arch) []byte {
	if arch != procmem.AMD64 && arch != procmem.I386 {
		return nil
	}
	return sys.XSaveLayout()
}
