package stacks

import (
	"context"
	"errors"
	"iter"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/unwind"
	"github.com/procmem/procmem/symbols"
)

// Walker walks the stacks of one process at one moment. It is safe for concurrent use, except
// for Close.
type Walker struct {
	img    *procmem.Image
	unwind *unwind.Unwinder
	places PlacesFunc
	most   int // frames of a stack
}

// New returns a Walker for the process that img describes, with the memory mem. Neither may
// change. Close must be called. It fails if the architecture is not known.
func New(mem procmem.Memory, img *procmem.Image, o Options) (*Walker, error) {
	u, err := unwind.New(mem, img, unwind.Options{Open: opener(o.Open)})
	if err != nil {
		return nil, err
	}
	w := &Walker{img: img, unwind: u, places: o.Places, most: o.MaxFrames}
	if w.most <= 0 {
		w.most = DefaultMaxFrames
	}
	if w.places == nil && o.Open != nil {
		w.places = BySymbols(symbols.New(img.Mappings, o.Open))
	}
	return w, nil
}

// opener returns open with the result of the package below.
func opener(open symbols.Opener) unwind.Opener {
	if open == nil {
		return nil
	}
	return func(m *procmem.Mapping) (unwind.File, error) { return open(m) }
}

// Close closes the files.
func (w *Walker) Close() error {
	w.unwind.Close()
	return nil
}

// Frames yields the frames of a thread, the innermost first. Where the stack ends before its
// outermost function, the last pair has a *StopError and no frame.
func (w *Walker) Frames(ctx context.Context, t *procmem.Thread) iter.Seq2[Frame, error] {
	return w.frames(t.TID, func(yield func(unwind.Frame) bool) unwind.Stop {
		return w.unwind.Walk(ctx, t, w.most, yield)
	})
}

// FramesFrom is Frames for a stack that no thread is on, such as that of a goroutine that
// waits. Its next instruction is at pc; sp and fp are its stack pointer and frame pointer.
func (w *Walker) FramesFrom(ctx context.Context, pc, sp, fp procmem.Addr) iter.Seq2[Frame, error] {
	return w.frames(0, func(yield func(unwind.Frame) bool) unwind.Stop {
		return w.unwind.WalkFrom(ctx, pc, sp, fp, w.most, yield)
	})
}

func (w *Walker) frames(tid int, walk func(func(unwind.Frame) bool) unwind.Stop) iter.Seq2[Frame, error] {
	return func(yield func(Frame, error) bool) {
		more := true
		stop := walk(func(f unwind.Frame) bool {
			more = yield(Frame{PC: f.PC, SP: f.SP, CFA: f.CFA, How: How(f.How), Exact: f.Exact, Signal: f.Signal}, nil)
			return more
		})
		if reason := Reason(stop.Reason); more && reason != End {
			yield(Frame{}, &StopError{tid, reason, stop.Err})
		}
	}
}

// Stack is what a thread is doing.
type Stack struct {
	TID    int     // 0 where no thread is on it
	Frames []Frame // the innermost first
	// Stop says why the frames end before the outermost function. It is nil where they do not.
	Stop *StopError
}

// Walk returns the stack of a thread.
func (w *Walker) Walk(ctx context.Context, t *procmem.Thread) Stack {
	return Collect(t.TID, w.Frames(ctx, t))
}

// Collect keeps the frames of a stack.
func Collect(tid int, frames iter.Seq2[Frame, error]) Stack {
	s := Stack{TID: tid}
	for f, err := range frames {
		if err == nil {
			s.Frames = append(s.Frames, f)
			continue
		}
		s.Stop, _ = errors.AsType[*StopError](err)
	}
	return s
}

// All yields the stacks of all threads, in the order of the image. It walks each when it is
// asked for.
func (w *Walker) All(ctx context.Context) iter.Seq[Stack] {
	return func(yield func(Stack) bool) {
		for i := range w.img.Threads {
			if !yield(w.Walk(ctx, &w.img.Threads[i])) {
				return
			}
		}
	}
}
