// Package stacks tells what the threads of a process are doing: the functions of each that have
// yet to return.
//
// Start with New, over a memory and an image: a core file, or one moment of a process. Frames
// walks the stack of one thread, Walk keeps it, and Group puts identical ones together. A frame
// is an address. Places gives it names and lines, afterwards and only where that is wanted.
//
//	w, err := stacks.New(mem, img, stacks.Options{Open: symbols.OfCore(mem)})
//	defer w.Close()
//	for _, g := range stacks.Group(w.All(ctx)) {
//		...
//	}
//
// The package only reads memory and files. What it reads is not trusted: return addresses must
// be code, frames must ascend, and all work is bounded. Each stack says why it ends.
//
// Frames are those of machine code. An interpreter has frames of its own, which are not here.
package stacks

import (
	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/unwind"
	"github.com/procmem/procmem/symbols"
)

// Frame is one function that has yet to return.
type Frame struct {
	PC  procmem.Addr
	SP  procmem.Addr
	CFA procmem.Addr // where the frame of the caller begins; 0 if it is not known
	How How
	// Exact says that PC is the next instruction: of the innermost frame, and where a signal
	// came. Else it is a return address, which is behind the call.
	Exact bool
	// Signal says that the kernel has made the frame, for the handler that is the frame before.
	Signal bool
}

// Lookup returns the address that names and lines are those of: PC, or in front of it where PC
// is behind a call, which may be the last instruction of its function.
func (f Frame) Lookup() procmem.Addr {
	if f.Exact || f.Signal || f.PC == 0 {
		return f.PC
	}
	return f.PC - 1
}

// How says how a frame was found.
type How uint8

// The ways of finding a frame.
const (
	ByRegisters    = How(unwind.ByRegisters)    // the thread itself is there
	ByCFI          = How(unwind.ByCFI)          // by call frame information (.eh_frame, .debug_frame)
	BySignal       = How(unwind.BySignal)       // from what the kernel has saved for a signal handler
	ByFramePointer = How(unwind.ByFramePointer) // by the chain of frame pointers
	ByInstruction  = How(unwind.ByInstruction)  // by following the instructions to the return
)

// String returns "registers", "cfi", "signal", "frame pointer" or "instruction".
func (h How) String() string { return unwind.How(h).String() }

// Reason says why a stack ends.
type Reason uint8

// The reasons for an end.
const (
	End        = Reason(unwind.End)        // the outermost function
	NoCFI      = Reason(unwind.NoCFI)      // nothing tells how the function returns
	BadCFI     = Reason(unwind.BadCFI)     // the call frame information makes no sense
	Unreadable = Reason(unwind.Unreadable) // the stack cannot be read
	NotCode    = Reason(unwind.NotCode)    // the return address is not in code
	Loop       = Reason(unwind.Loop)       // the frames do not ascend
	Limit      = Reason(unwind.Limit)      // there are more frames, or there is more work, than asked for
	Canceled   = Reason(unwind.Canceled)   // the context has ended
)

// String returns the reason in words, such as "no call frame information".
func (r Reason) String() string { return unwind.Reason(r).String() }

// StopError reports that a stack may go on behind the last frame.
type StopError struct {
	TID    int
	Reason Reason // never End
	Err    error  // the reason behind it, such as a *procmem.FaultError; nil where there is none
}

func (e *StopError) Error() string {
	return unwind.Stop{Reason: unwind.Reason(e.reason()), Err: e.Unwrap()}.String()
}

// Unwrap returns Err. It may be called for nil, as errors.Is does for the Stop of a Stack.
func (e *StopError) Unwrap() error {
	if e == nil {
		return nil
	}
	return e.Err
}

// Options say what a Walker may use besides memory. The zero Options are valid.
type Options struct {
	// Open opens the file of a mapping, as symbols.OfProcess and symbols.OfCore return it. Cores
	// leave out code, and the tables that lead from one frame to the next, because files have
	// them. Without Open, names are lacking, and frames where memory does not hold the tables.
	Open symbols.Opener
	// Places gives names to an address. nil means the symbols of the files that Open opens.
	Places PlacesFunc
	// MaxFrames bounds the frames of one stack. 0 means DefaultMaxFrames.
	MaxFrames int
}

// DefaultMaxFrames is more than fit into a stack of the usual 8 MiB.
const DefaultMaxFrames = 200_000
