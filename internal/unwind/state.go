package unwind

import "github.com/procmem/procmem/internal/cfi"

// walk is one walk over a stack.
type walk struct {
	*Unwinder
	regs  Registers // of the frame
	code  uint64    // the bits of a code address that are not a signature
	stack stack
	left  *cfi.Budget

	exact bool   // regs has the next instruction, and not a return address
	low   uint64 // each frame ends above it
	// handlers are the places where a signal came. The stack may be another one there, below or
	// above, so that frames ascend from there on anew.
	handlers map[[2]uint64]bool
}

// step is what is known of one frame when its caller has been found.
type step struct {
	cfa    uint64 // 0 if it is not known
	signal bool
	how    How       // of the caller
	regs   Registers // of the caller
}

// stopped ends a walk.
type stopped Stop

func (s *stopped) Error() string { return Stop(*s).String() }

func stop(r Reason, err error) error { return &stopped{r, err} }
