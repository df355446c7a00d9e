package snapshot

import (
	"slices"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/ptracer"
)

// LiveRegisters returns the known general purpose registers of a thread that was not stopped
// (MethodLive). These are pc and sp of a blocked thread, and, in a system call, its number and
// arguments. It returns nil if nothing is known. Threads of other methods have all registers,
// and do not need it.
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

// CallOf returns the name of the system call that CallIn returns, or "" where there is none.
func CallOf(arch procmem.Arch, t *procmem.Thread, live bool) string {
	if number, _, ok := CallIn(arch, t, live); ok {
		return ptracer.CallName(arch, number)
	}
	return ""
}

// CallIn returns the number and the arguments of the system call that the registers of a thread
// show it in. ok is false where they show none. The number of a call that was interrupted once is
// that of restart_syscall(2). Registers of arm64 do not tell whether there is a call: ok is false
// unless live says that the thread was not stopped (MethodLive).
func CallIn(arch procmem.Arch, t *procmem.Thread, live bool) (number int, args [6]uint64, ok bool) {
	all := arch.Registers(t.Regset(procmem.NTPRStatus))
	pc, sp := arch.PCSP()
	if len(all) == 0 || all[pc].Value == 0 && all[sp].Value == 0 || arch == procmem.ARM64 && !live {
		return 0, args, false
	}
	regs := ptracer.SyscallRegs[arch]
	n := all[regs.Number].Value
	if n >= 1<<31-1 { // -1, in 32 bits or 64: it was interrupted in user mode
		return 0, args, false
	}
	for i, r := range regs.Args {
		args[i] = all[r].Value
	}
	return int(n), args, true
}
