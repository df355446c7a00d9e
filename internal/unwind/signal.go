package unwind

// interrupted returns the registers that the thread had when the signal came.
func (w *walk) interrupted(s *signalFrame) (Registers, error) {
	m := w.machine
	at := m.mask(w.regs.value[m.sp] + s.base)
	if s.ptr {
		var err error
		if at, err = w.stack.word(at, m.arch.WordSize()); err != nil {
			return Registers{}, err
		}
	}
	var r Registers
	for num, off := range s.saved {
		v, err := w.stack.word(m.mask(at+off), m.arch.WordSize())
		if err != nil {
			return Registers{}, err
		}
		r.set(num, v)
	}
	return r, nil
}

// bySignal finds what a signal has interrupted.
func (w *walk) bySignal(s *signalFrame) (step, error) {
	regs, err := w.interrupted(s)
	return step{cfa: regs.value[w.machine.sp], signal: true, how: BySignal, regs: regs}, err
}
