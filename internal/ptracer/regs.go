package ptracer

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// maxRegset, in bytes, is larger than any register set. AMX needs 11 KiB, and the kernel fills
// a buffer that is too small without an error.
const maxRegset = 64 << 10

// regReader reads register sets through one buffer.
type regReader struct {
	buf     [maxRegset]byte
	unknown map[uint32]bool // types that the kernel does not know for this target
}

// get returns one register set, or nil if the thread has none.
func (r *regReader) get(tid int, typ uint32) []byte {
	if r.unknown[typ] {
		return nil
	}
	n, err := sys.GetRegset(tid, typ, r.buf[:])
	if errors.Is(err, unix.EINVAL) {
		if r.unknown == nil {
			r.unknown = make(map[uint32]bool)
		}
		r.unknown[typ] = true
	}
	if err != nil || n == 0 {
		return nil
	}
	return append([]byte(nil), r.buf[:n]...)
}

// add appends those of the register sets that the thread has.
func (r *regReader) add(sets []procmem.Regset, tid int, types ...uint32) []procmem.Regset {
	for _, typ := range types {
		if data := r.get(tid, typ); data != nil {
			sets = append(sets, procmem.Regset{Type: typ, Data: data})
		}
	}
	return sets
}

// BlockedRegs returns a general purpose register set with what /proc tells of a blocked thread.
// All else in it is zero. It fails with ErrRunning if the thread is on a processor, so that
// nothing is known.
func BlockedRegs(p *process.Process, tid int, arch procmem.Arch) ([]byte, error) {
	sc, err := p.ThreadSyscall(tid)
	if err != nil {
		return nil, err
	}
	if sc.Running {
		return nil, ErrRunning
	}
	regs := make([]byte, arch.GPRSize())
	set := func(i int, v uint64) {
		if arch.WordSize() == 4 {
			binary.LittleEndian.PutUint32(regs[4*i:], uint32(v))
		} else {
			binary.LittleEndian.PutUint64(regs[8*i:], v)
		}
	}
	pc, sp := arch.PCSP()
	set(pc, uint64(sc.PC))
	set(sp, uint64(sc.SP))
	call := SyscallRegs[arch]
	if sc.Number >= 0 {
		for i, reg := range call.Args {
			set(reg, sc.Args[i])
		}
	}
	set(call.Number, uint64(sc.Number))
	for reg, v := range call.Fixed {
		set(reg, v)
	}
	return regs, nil
}

// SyscallRegs says where a system call has its number and arguments, and what the registers of
// user mode always hold. Registers are indexes of Arch.RegisterNames.
var SyscallRegs = map[procmem.Arch]struct {
	Number int
	Args   [6]int
	Fixed  map[int]uint64
}{
	procmem.AMD64: {15, [6]int{14, 13, 12, 7, 9, 8}, map[int]uint64{17: 0x33, 20: 0x2b, 18: 0x202}},
	procmem.I386:  {11, [6]int{0, 1, 2, 3, 4, 5}, map[int]uint64{13: 0x23, 16: 0x2b, 7: 0x2b, 8: 0x2b, 14: 0x202}},
	procmem.ARM64: {8, [6]int{0, 1, 2, 3, 4, 5}, nil},
}
