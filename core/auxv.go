package core

import (
	"encoding/binary"

	"github.com/procmem/procmem"
)

// Entries of the auxiliary vector (include/uapi/linux/auxvec.h).
const (
	atNull        = 0
	atPhdr        = 3
	atEntry       = 9
	atExecFn      = 31
	atSysinfoEHdr = 33
)

// trimAuxv returns the whole entries of the vector, up to and with the first
// AT_NULL: /proc/PID/auxv has zeros behind it on some kernels.
func trimAuxv(a procmem.Arch, b []byte) []byte {
	step := 2 * a.WordSize()
	for i := 0; i+step <= len(b); i += step {
		if auxWord(a, b[i:]) == atNull {
			return b[:i+step]
		}
	}
	return b[:len(b)/step*step]
}

// auxValue returns the value of the first entry of type typ.
func auxValue(a procmem.Arch, b []byte, typ uint64) (procmem.Addr, bool) {
	w := a.WordSize()
	for b = trimAuxv(a, b); len(b) > 0; b = b[2*w:] {
		if auxWord(a, b) == typ {
			return procmem.Addr(auxWord(a, b[w:])), true
		}
	}
	return 0, false
}

func auxWord(a procmem.Arch, b []byte) uint64 {
	if a.WordSize() == 4 {
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return binary.LittleEndian.Uint64(b)
}
