package core

import (
	"io"
	"iter"
	"sync/atomic"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
)

// store has what was put ahead of Copy.
type store interface {
	Put(addr procmem.Addr, p []byte) error
	Forget(r procmem.Range) error
	ReadAt(p []byte, addr procmem.Addr) (int, error)
	// Settle returns where the memory of ascending ranges lies, in places
	// each of which is in one of them.
	Settle(ranges []procmem.Range) ([]pageset.Place, error)
	// Lacks yields what of r has to be written where Settle has said.
	Lacks(r procmem.Range) iter.Seq[procmem.Range]
	// Held yields what of r was put and not forgotten.
	Held(r procmem.Range) iter.Seq[procmem.Range]
	// End is where the memory ends in the file.
	End() int64
	// Bytes is how much was put.
	Bytes() int64
}

// Log is a file that can be appended to alone, but for its head, such as a
// compressed one. It may append what is put ahead, and divides what Settle
// gets in pieces so that what was true only for a while is not led to.
type Log interface {
	store
	// Begin makes room for the head.
	Begin(head int64)
	// Ahead tells whether what is put from now on is likely to stay.
	Ahead(likely bool) bool
	// Len is how long the file is, with what was put and the head.
	Len() int64
	io.Writer
	Zeros(n int64) error
	// WriteHead writes the head, in the end.
	WriteHead(p []byte) error
}

// NewLogWriter is NewFileWriter for a Log, which is written by one goroutine at
// a time.
func NewLogWriter(dst Log, arch procmem.Arch, segs []Segment) (*Writer, error) {
	l, err := newLayout(arch, segs, 0)
	if err != nil {
		return nil, err
	}
	dst.Begin(l.headRoom)
	out := &logOutput{streamOutput: streamOutput{dst: dst}, log: dst, head: make([]byte, l.headRoom)}
	return &Writer{l: l, out: out, sums: newSums(), log: dst, store: dst}, nil
}

// Ahead tells that what is put from now on is likely to stay as it is, or, as
// at first, that it is not. It reports whether that makes a difference; if it
// does, Put is best called with ascending addresses.
func (w *Writer) Ahead(likely bool) bool { return w.log != nil && w.log.Ahead(likely) }

// logOutput appends to a log. What is for the head waits until its first byte
// comes, which is the last to come.
type logOutput struct {
	streamOutput
	log   Log
	head  []byte
	begun bool
	had   atomic.Int64 // what was put ahead
}

func (o *logOutput) put(off int64, p []byte) error {
	if off < int64(len(o.head)) {
		copy(o.head[off:], p)
		if off > 0 {
			return nil
		}
		return o.log.WriteHead(o.head)
	}
	if !o.begun {
		o.begun = true
		o.pos.Store(o.log.Len())
		o.had.Store(o.log.Len())
	}
	return o.streamOutput.put(off, p)
}

// finish has nothing to do: what is put last is at the end.
func (o *logOutput) finish(int64) error { return nil }

func (o *logOutput) bytes() int64 { return o.pos.Load() - o.had.Load() }
