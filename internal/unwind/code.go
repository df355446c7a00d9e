package unwind

import (
	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/epilogue"
)

const (
	maxInstructions   = 4000 // that are followed from one frame to the next
	workOfInstruction = 20   // in steps
)

// byCode finds the caller by following the code up to its return. A call must be in front of the
// return address: what follows a call that never returns may be another function.
func (w *walk) byCode() (next step, ok bool) {
	m := w.machine
	if m.arch == procmem.ARM64 {
		return next, false
	}
	sp := w.regs.value[m.sp]
	fp, known := w.regs.get(m.fp)
	start := epilogue.Start{PC: w.regs.value[m.pc], Called: !w.exact, FP: int64(fp - sp), FPKnown: known}
	left := w.left.Part(maxInstructions * workOfInstruction)
	r, ok := epilogue.Follow(w.instructions, start, 8*m.arch.WordSize(), func() bool { return left.Spend(workOfInstruction) == nil })
	at := m.mask(sp + uint64(r.At))
	if !ok || r.At < 0 || r.Drop < 0 || at < w.low {
		return next, false
	}
	ra, err := w.stack.word(at, m.arch.WordSize())
	if err != nil || !w.executable(ra) || !w.behindCall(ra) {
		return next, false
	}
	next = step{cfa: m.mask(at + m.word() + uint64(r.Drop)), how: ByInstruction, regs: w.regs}
	for num, dwarf := range m.numbers {
		if r.Lost&(1<<num) != 0 {
			next.regs.forget(dwarf)
		}
	}
	for _, saved := range r.Restored {
		if saved.Num >= len(m.numbers) {
			continue
		}
		v, err := w.stack.word(m.mask(sp+uint64(saved.At)), m.arch.WordSize())
		if err != nil {
			return next, false
		}
		next.regs.set(m.numbers[saved.Num], v)
	}
	next.regs.set(m.sp, next.cfa)
	next.regs.set(m.pc, ra)
	return next, true
}

// instructions returns up to size bytes of code, fewer where it ends.
func (w *walk) instructions(addr uint64, size int) []byte {
	b := make([]byte, size)
	for len(b) > 0 && (!w.executable(addr) || w.text.ReadAt(b, addr) != nil) {
		b = b[:len(b)/2]
	}
	return b
}

// behindCall reports whether a call is in front of an address.
func (w *walk) behindCall(ra uint64) bool {
	const longest = 7
	b := make([]byte, longest)
	if w.text.ReadAt(b, ra-longest) != nil {
		return false
	}
	if b[longest-5] == 0xe8 { // call of a place that is known
		return true
	}
	for _, size := range []int{2, 3, 4, 6, 7} { // call of what is in a register or in memory
		if b[longest-size] == 0xff && b[longest-size+1]>>3&7 == 2 {
			return true
		}
	}
	return false
}
