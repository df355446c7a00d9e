package unwind

import (
	"bytes"
	"errors"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/cfi"
)

// withoutCFI finds the caller of code that has no call frame information.
func (w *walk) withoutCFI(p *place) (step, error) {
	if w.exact {
		if next, ok := w.byInstruction(p.code); ok {
			return next, nil
		}
	}
	pointer, byPointer := w.byFramePointer()
	code, byCode := w.byCode()
	switch fp, known := w.regs.get(w.machine.fp); {
	// Code that has been compiled at run time keeps frame pointers. Elsewhere, what is nearer
	// is right: the frame pointer may be that of a function further out. No return address is
	// what a pointer to anything leads to.
	case byPointer && (!byCode || (pointer.cfa < code.cfa || !p.file) && pointer.regs.value[w.machine.pc] != 0):
		return pointer, nil
	case byCode:
		return code, nil
	case known && fp == 0 && !w.exact: // how the first function of a thread begins
		return step{}, stop(End, nil)
	}
	switch {
	case !p.code:
		return step{}, stop(NotCode, nil)
	case errors.Is(p.err, cfi.ErrNone):
		return step{}, stop(NoCFI, nil)
	case errors.Is(p.err, cfi.ErrFormat):
		return step{}, stop(BadCFI, p.err)
	}
	return step{}, stop(NoCFI, p.err)
}

// atEntry are instructions at which the return address is still, or again, where the call has
// put it; on x86 at the stack pointer plus skip.
type atEntry struct {
	code []byte
	skip uint64
}

var (
	entriesX86 = []atEntry{
		{[]byte("\xc3"), 0},             // ret
		{[]byte("\x55\x48\x89\xe5"), 0}, // push %rbp; mov %rsp, %rbp
		{[]byte("\x48\x89\xe5"), 8},     // mov %rsp, %rbp
		{[]byte("\x55\x89\xe5"), 0},     // push %ebp; mov %esp, %ebp
		{[]byte("\x89\xe5"), 4},         // mov %esp, %ebp
		{[]byte("\xf3\x0f\x1e"), 0},     // endbr64, endbr32
		{[]byte("\xff\x25"), 0},         // jmp through the PLT
		{[]byte("\xf2\xff\x25"), 0},     // the same, with a prefix
	}
	entriesARM64 = []atEntry{
		{[]byte("\xc0\x03\x5f\xd6"), 0}, // ret
		{[]byte("\xfd\x7b\xbf\xa9"), 0}, // stp x29, x30, [sp, #-16]!
		{[]byte("\x3f\x23\x03\xd5"), 0}, // paciasp
		{[]byte("\x5f\x24\x03\xd5"), 0}, // bti c
	}
)

// byInstruction finds the caller of a function that has just been called, or is about to
// return. A call of what is no code is such a function, too.
func (w *walk) byInstruction(code bool) (step, bool) {
	m := w.machine
	entries := entriesX86
	if m.arch == procmem.ARM64 {
		entries = entriesARM64
	}
	skip := uint64(0)
	if code {
		i := w.entryAt(entries)
		if i < 0 {
			return step{}, false
		}
		skip = entries[i].skip
	}
	sp := w.regs.value[m.sp]
	next := step{cfa: sp, how: ByInstruction, regs: w.regs}
	ra := w.regs.value[link]
	if m.arch != procmem.ARM64 {
		var err error
		if ra, err = w.stack.word(m.mask(sp+skip), m.arch.WordSize()); err != nil {
			return step{}, false
		}
		if skip != 0 { // the frame pointer of the caller
			fp, err := w.stack.word(sp, m.arch.WordSize())
			if err != nil {
				return step{}, false
			}
			next.regs.set(m.fp, fp)
		}
		next.cfa = m.mask(sp + skip + m.word())
	}
	ra &= w.code
	next.regs.set(m.sp, next.cfa)
	next.regs.set(m.pc, ra)
	return next, w.executable(ra)
}

// entryAt returns which of the instructions are at the place, -1 for none.
func (w *walk) entryAt(entries []atEntry) int {
	for i, e := range entries {
		b := make([]byte, len(e.code))
		if w.text.ReadAt(b, w.regs.value[w.machine.pc]) == nil && bytes.Equal(b, e.code) {
			return i
		}
	}
	return -1
}

// byFramePointer finds the caller by the frame pointer, if it may be one: it is on the same
// stack, above, and leads to a return address.
func (w *walk) byFramePointer() (next step, ok bool) {
	m := w.machine
	fp, known := w.regs.get(m.fp)
	sp := w.regs.value[m.sp]
	i := w.mapping(sp)
	if !known || fp < sp || fp%m.word() != 0 || i < 0 || i != w.mapping(fp) {
		return next, false
	}
	up, err := w.stack.word(fp, m.arch.WordSize())
	if err != nil {
		return next, false
	}
	ra, err := w.stack.word(m.mask(fp+m.word()), m.arch.WordSize())
	if err != nil {
		return next, false
	}
	if ra &= w.code; ra != 0 && !w.executable(ra) {
		return next, false
	}
	next = step{cfa: m.mask(fp + 2*m.word()), how: ByFramePointer}
	next.regs.set(m.pc, ra)
	next.regs.set(m.sp, next.cfa)
	next.regs.set(m.fp, up)
	next.regs.roughSP = m.arch == procmem.ARM64
	return next, true
}
