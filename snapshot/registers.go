package snapshot

import (
	"slices"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/ptracer"
)

// LiveRegisters returns those general purpose registers of a thread that are
// known where it was not stopped (Live), which no other method needs: the pc and the
// sp of one that is blocked, and in a system call its number and arguments.
func LiveRegisters(arch procmem.Arch, t *procmem.Thread) (known []procmem.Register) {
	all := arch.Registers(t.Regset(procmem.NTPRStatus))
	pc, sp := arch.PCSP()
	if len(all) == 0 || all[pc].Value == 0 && all[sp].Value == 0 { // nothing was known
		return nil
	}
	call := ptracer.SyscallRegs[arch]
	inCall := all[call.Number].Value != 1<<(8*arch.WordSize())-1 // -1
	for i, r := range all {
		if i == pc || i == sp || inCall && (i == call.Number || slices.Contains(call.Args[:], i)) {
			known = append(known, r)
		}
	}
	return known
}
