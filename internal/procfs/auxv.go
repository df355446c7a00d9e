package procfs

import (
	"fmt"

	"github.com/procmem/procmem"
)

// ParseAuxv returns an auxiliary vector up to and with AT_NULL, in the words of the
// architecture. It fails if there is no AT_NULL.
func ParseAuxv(b []byte, arch procmem.Arch) ([]byte, error) {
	if auxv, complete := arch.TrimAuxv(b); complete {
		return auxv, nil
	}
	return nil, fmt.Errorf("parse auxv: no AT_NULL in %d bytes", len(b))
}

// AuxvValue returns the value of an entry of an auxiliary vector of either word size, or 0.
func AuxvValue(b []byte, typ uint64) uint64 {
	v, ok := procmem.AMD64.AuxvValue(b, typ)
	if !ok {
		v, _ = procmem.I386.AuxvValue(b, typ)
	}
	return v
}
