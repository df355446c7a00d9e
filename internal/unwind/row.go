package unwind

import (
	"errors"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/cfi"
)

var errNoValue = errors.New("a register that is needed is not known")

// byRow finds the caller by call frame information.
func (w *walk) byRow(row *cfi.Row) (step, error) {
	m := w.machine
	cfa, err := w.frame(row)
	if err != nil {
		return step{signal: row.Signal}, err
	}
	next := step{cfa: cfa, signal: row.Signal, how: ByCFI, regs: w.regs}
	if row.Signal {
		next.how = BySignal
	}
	next.regs.roughSP = false
	next.regs.set(m.sp, cfa)
	ruled, outermost := false, false
	for _, r := range row.Rules {
		v, ok, err := w.apply(r.Rule, int(r.Num), cfa)
		if err != nil {
			return next, err
		}
		if r.Num == row.RA {
			ruled, outermost = true, r.Kind == cfi.Undefined
		}
		if !ok {
			next.regs.forget(int(r.Num))
			continue
		}
		next.regs.set(int(r.Num), v)
	}
	// On x86 the return address is always on the stack, and only the outermost function has no
	// rule for it. The link register of arm64 stays as it is in a function that calls nobody.
	ra, ok := next.regs.get(int(row.RA))
	switch {
	case outermost, !ruled && m.arch != procmem.ARM64:
		return next, stop(End, nil)
	case !ok:
		return next, stop(NoCFI, errNoValue)
	}
	next.regs.set(m.pc, m.mask(ra)&w.code)
	return next, nil
}

// frame computes the CFA.
func (w *walk) frame(row *cfi.Row) (uint64, error) {
	m := w.machine
	if w.regs.roughSP && row.CFA.Kind == cfi.Register && int(row.CFA.Reg) == m.sp {
		// The frame pointer is where the frame pointer of the caller was saved.
		for _, r := range row.Rules {
			if int(r.Num) == m.fp && r.Kind == cfi.Offset {
				return m.mask(w.regs.value[m.fp] - uint64(r.Off)), nil
			}
		}
	}
	cfa, ok, err := w.apply(row.CFA, m.sp, 0)
	if err == nil && !ok {
		err = stop(BadCFI, errNoValue)
	}
	return cfa, err
}

// apply computes the value of one register of the caller, and tells whether it has one.
func (w *walk) apply(r cfi.Rule, num int, cfa uint64) (v uint64, ok bool, err error) {
	m := w.machine
	switch r.Kind {
	case cfi.Same:
		v, ok = w.regs.get(num)
		return v, ok, nil
	case cfi.Register:
		v, ok = w.regs.get(int(r.Reg))
		return m.mask(v + uint64(r.Off)), ok, nil
	case cfi.ValOffset:
		return m.mask(cfa + uint64(r.Off)), true, nil
	case cfi.Offset:
		v, err = w.stack.word(m.mask(cfa+uint64(r.Off)), m.arch.WordSize())
		return v, err == nil, err
	case cfi.Expr, cfi.ValExpr:
		v, err = cfi.Eval(r.Code, cfa, m.arch.WordSize(), (*looker)(w), w.left)
		if err == nil && r.Kind == cfi.Expr {
			v, err = w.stack.word(v, m.arch.WordSize())
		}
		return v, err == nil, err
	}
	return 0, false, nil
}

// looker lets expressions look at registers and memory.
type looker walk

// Register returns the value of a register, and whether it has one.
func (l *looker) Register(num uint64) (uint64, bool) {
	if num >= cfi.Registers {
		return 0, false
	}
	return l.regs.get(int(num))
}

// Word reads size bytes of memory.
func (l *looker) Word(addr uint64, size int) (uint64, error) { return l.stack.word(addr, size) }
