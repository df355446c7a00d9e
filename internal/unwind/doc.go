// Package unwind walks the stacks of threads: from the registers of a thread to the frames of
// all functions that have yet to return.
//
// Start with New and Unwinder.Walk. A caller's registers come from call frame information
// (package cfi) or from what the kernel has saved for a signal handler. For code that has neither,
// they come from the chain of frame pointers, or from following the code (package epilogue).
//
// It only reads. The target is not trusted: frames must ascend, return addresses must be code,
// and all work is bounded. Each walk ends with the reason for its end. Names are not given here.
package unwind

import (
	"fmt"

	"github.com/procmem/procmem"
)

// How says how a frame was found.
type How uint8

// The ways of finding a frame.
const (
	ByRegisters    How = iota // the thread itself is there
	ByCFI                     // by call frame information
	BySignal                  // from what the kernel has saved for a signal handler
	ByFramePointer            // by the chain of frame pointers
	ByInstruction             // by the instructions up to the return
)

// String returns "registers", "cfi", "signal", "frame pointer" or "instruction".
func (h How) String() string {
	switch h {
	case ByCFI:
		return "cfi"
	case BySignal:
		return "signal"
	case ByFramePointer:
		return "frame pointer"
	case ByInstruction:
		return "instruction"
	}
	return "registers"
}

// Frame is one function that has yet to return.
type Frame struct {
	PC  procmem.Addr
	SP  procmem.Addr
	CFA procmem.Addr // where the frame of the caller begins; 0 if it is not known
	How How
	// Exact says that PC is the next instruction. Else it is a return address, which is behind
	// the call, and may be behind the function.
	Exact bool
	// Signal says that the kernel has made the frame, for the handler that was called before.
	Signal bool
}

// Reason says why a walk has ended.
type Reason uint8

// The reasons for an end.
const (
	End        Reason = iota // the outermost function
	NoCFI                    // nothing tells how the function returns
	BadCFI                   // the call frame information makes no sense
	Unreadable               // the stack cannot be read
	NotCode                  // the return address is not in code
	Loop                     // the frames do not ascend
	Limit                    // there are more frames, or there is more work, than asked for
	Canceled                 // the context has ended
)

// String returns the reason in words, such as "end of the stack".
func (r Reason) String() string {
	switch r {
	case End:
		return "end of the stack"
	case NoCFI:
		return "no call frame information"
	case BadCFI:
		return "bad call frame information"
	case Unreadable:
		return "the stack cannot be read"
	case NotCode:
		return "the return address is not in code"
	case Loop:
		return "the frames do not ascend"
	case Limit:
		return "limit reached"
	}
	return "canceled"
}

// Stop tells why a walk has ended.
type Stop struct {
	Reason Reason
	Err    error // the reason behind it; nil where there is none
}

func (s Stop) String() string {
	if s.Err == nil {
		return s.Reason.String()
	}
	return fmt.Sprintf("%v: %v", s.Reason, s.Err)
}

// Options are what a walk depends upon besides memory.
type Options struct {
	// Open opens the file of a mapping, for tables that are not in memory. It may be nil.
	Open Opener
	// Work bounds the work of all walks, in steps of some 10 ns. 0 means DefaultWork.
	Work int64
}

// DefaultWork is some ten seconds.
const DefaultWork = 1e9
