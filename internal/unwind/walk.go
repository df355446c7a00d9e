package unwind

import (
	"context"
	"errors"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/cfi"
)

// partOfWork is how much of all work one walk may take: one of so many parts.
const partOfWork = 10

// Walk calls yield for each frame of a thread, the innermost first, at most most of them. It
// ends early if yield returns false, with the reason Canceled.
func (u *Unwinder) Walk(ctx context.Context, t *procmem.Thread, most int, yield func(Frame) bool) Stop {
	regs, ok := u.machine.registers(t)
	if !ok {
		return Stop{Unreadable, errors.Join(errNoRegisters, t.Err)}
	}
	return u.walk(ctx, regs, u.machine.code(t), most, yield)
}

var errNoRegisters = errors.New("the registers of the thread are not known")

// WalkFrom is Walk for a stack of which only these are known, such as that of a goroutine that
// does not run. pc is the next instruction.
func (u *Unwinder) WalkFrom(ctx context.Context, pc, sp, fp procmem.Addr, most int, yield func(Frame) bool) Stop {
	var regs Registers
	regs.set(u.machine.pc, uint64(pc))
	regs.set(u.machine.sp, uint64(sp))
	regs.set(u.machine.fp, uint64(fp))
	return u.walk(ctx, regs, u.machine.code(&procmem.Thread{}), most, yield)
}

func (u *Unwinder) walk(ctx context.Context, regs Registers, code uint64, most int, yield func(Frame) bool) Stop {
	w := &walk{Unwinder: u, regs: regs, code: code, stack: stack{mem: u.mem}, left: u.left.Part(u.work / partOfWork), exact: true,
		handlers: make(map[[2]uint64]bool)}
	m := u.machine
	for n, how := 0, ByRegisters; ; n++ {
		if n == most {
			return Stop{Limit, nil}
		}
		next, err := w.step()
		f := Frame{
			PC: procmem.Addr(w.regs.value[m.pc]), SP: procmem.Addr(w.regs.value[m.sp]), CFA: procmem.Addr(next.cfa),
			How: how, Exact: w.exact, Signal: next.signal,
		}
		if !yield(f) {
			return Stop{Canceled, nil}
		}
		if err == nil {
			err = w.ascends(&next)
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return reasonOf(err)
		}
		how, w.exact, w.regs = next.how, next.signal, next.regs
	}
}

// reasonOf returns why a walk ended with an error.
func reasonOf(err error) Stop {
	if s, ok := errors.AsType[*stopped](err); ok {
		return Stop(*s)
	}
	switch {
	case errors.Is(err, cfi.ErrBudget):
		return Stop{Limit, err}
	case errors.Is(err, cfi.ErrFormat):
		return Stop{BadCFI, err}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return Stop{Canceled, err}
	}
	return Stop{Unreadable, err}
}

// ascends checks that the caller's frame is above, so that a walk has an end.
func (w *walk) ascends(next *step) error {
	sp := w.machine.sp
	if next.signal {
		at := [2]uint64{next.regs.value[w.machine.pc], next.regs.value[sp]}
		if w.handlers[at] {
			return stop(Loop, nil)
		}
		w.handlers[at] = true
		w.low = 0
		return nil
	}
	first := w.low == 0
	if next.cfa < w.regs.value[sp] && !w.regs.roughSP || !first && next.cfa <= w.low {
		return stop(Loop, nil)
	}
	w.low = next.cfa
	return nil
}

// step finds the caller of the frame.
func (w *walk) step() (step, error) {
	pc := w.regs.value[w.machine.pc]
	p := w.place(pc, w.exact, w.left)
	var next step
	var err error
	switch {
	case p.signal != nil:
		next, err = w.bySignal(p.signal)
	case p.row != nil:
		next, err = w.byRow(p.row)
	case errors.Is(p.err, cfi.ErrBudget):
		return step{}, p.err
	default:
		next, err = w.withoutCFI(p)
	}
	if err != nil {
		return next, err
	}
	pc = next.regs.value[w.machine.pc]
	if pc == 0 {
		return next, stop(End, nil)
	}
	if !w.executable(pc) {
		return next, stop(NotCode, notCode(pc))
	}
	return next, nil
}

type notCode procmem.Addr

func (a notCode) Error() string { return "it is " + procmem.Addr(a).String() }
