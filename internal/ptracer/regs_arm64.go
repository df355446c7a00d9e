package ptracer

import (
	"encoding/binary"
	"errors"

	"github.com/procmem/procmem"
)

// Register sets of an arm64 core beside the first two. The keys of pointer authentication
// (0x407, 0x408) are secrets and are left out.
var arm64Sets = []uint32{0x401, 0x402, 0x403, 0x404, 0x405, 0x406, 0x409, 0x40a, 0x40b, 0x40c, 0x40d, 0x40e, 0x40f, 0x410}

// general returns the general purpose registers, and which bits of an address sign it.
func (r *regReader) general(tid int, arch procmem.Arch) ([]procmem.Regset, error) {
	regs := r.get(tid, procmem.NTPRStatus)
	if len(regs) != arch.GPRSize() {
		return nil, errOtherMode
	}
	const ntARMPacMask = 0x406
	return r.add([]procmem.Regset{{Type: procmem.NTPRStatus, Data: regs}}, tid, ntARMPacMask), nil
}

var errOtherMode = errors.New("the thread runs in a mode that is not the executable's")

func (r *regReader) all(tid int, arch procmem.Arch) ([]procmem.Regset, error) {
	regs := r.get(tid, procmem.NTPRStatus)
	if len(regs) != arch.GPRSize() {
		return nil, errOtherMode
	}
	sets := []procmem.Regset{{Type: procmem.NTPRStatus, Data: regs}}
	sets = r.add(sets, tid, procmem.NTFPRegset)
	sets = r.add(sets, tid, arm64Sets...)
	for i := range sets {
		switch sets[i].Type {
		case 0x405, 0x40b, 0x40c: // SVE, SSVE, ZA begin with their size
			if d := sets[i].Data; len(d) >= 4 {
				if n := binary.LittleEndian.Uint32(d); int(n) < len(d) {
					sets[i].Data = d[:n]
				}
			}
		}
	}
	return sets, nil
}

// XSaveLayout returns nil: only x86 has that note.
func XSaveLayout(procmem.Arch) []byte { return nil }
