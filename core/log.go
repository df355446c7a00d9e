package core

import (
	"io"
	"iter"
	"sync/atomic"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/checksums"
	"github.com/procmem/procmem/internal/pageset"
)

// store has what was put ahead of Copy.
type store interface {
	Put(addr procmem.Addr, p []byte) error
	Forget(r procmem.Range) error
	ReadAt(p []byte, addr procmem.Addr) (int, error)
	// Settle returns where the memory of ascending ranges lies. Each place is inside one range.
	Settle(ranges []procmem.Range) ([]pageset.Place, error)
	// Lacks yields the parts of r that have to be written to the places of Settle.
	Lacks(r procmem.Range) iter.Seq[procmem.Range]
	// Held yields the parts of r that were put and not forgotten.
	Held(r procmem.Range) iter.Seq[procmem.Range]
	// End returns the file offset of the end of the memory.
	End() int64
	// Bytes returns how many bytes were put.
	Bytes() int64
}

// Log is a file that can only be appended to, but for its head, such as a compressed one. It
// may append what is put ahead. Settle then divides ranges into places, so that headers lead to
// no bytes that were put over or forgotten.
type Log interface {
	store
	// Begin makes room for a head of that many bytes.
	Begin(head int64)
	// Ahead says whether pages that are put from now on are likely to stay. It reports whether
	// the Log makes use of that.
	Ahead(likely bool) bool
	// Len returns the length of the file, in bytes, with what was put and the head.
	Len() int64
	io.Writer
	// Zeros writes n zeros.
	Zeros(n int64) error
	// WriteHead writes the head, after all else.
	WriteHead(p []byte) error
}

// NewLogWriter is NewFileWriter for a Log. One goroutine at a time writes to the Log.
func NewLogWriter(dst Log, arch procmem.Arch, segs []Segment) (*Writer, error) {
	l, err := newLayout(arch, segs, 0)
	if err != nil {
		return nil, err
	}
	dst.Begin(l.headRoom)
	out := &logOutput{streamOutput: streamOutput{dst: dst}, log: dst, head: make([]byte, l.headRoom)}
	return &Writer{l: l, out: out, sums: checksums.NewPages(), log: dst, store: dst}, nil
}

// Ahead says whether pages that are put from now on are likely to stay as they are. At first
// they are not. It reports whether that makes a difference. If it does, Put is best called with
// ascending addresses.
func (w *Writer) Ahead(likely bool) bool { return w.log != nil && w.log.Ahead(likely) }

// logOutput appends to a log. Bytes for the head wait until the first byte of the head is put,
// which comes last.
type logOutput struct {
	streamOutput
	log   Log
	head  []byte
	begun bool
	had   atomic.Int64 // length of the log before Copy
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

// finish has nothing to do, because what is put last is at the end.
func (o *logOutput) finish(int64) error { return nil }

func (o *logOutput) bytes() int64 { return o.pos.Load() - o.had.Load() }
