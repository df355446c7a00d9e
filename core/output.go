package core

import (
	"fmt"
	"io"
	"sync/atomic"
)

// output takes the parts of a core, each with its offset in the file.
type output interface {
	// put writes p at off. What is never put reads as zeros.
	put(off int64, p []byte) error
	// finish ends the file at size.
	finish(size int64) error
	// bytes returns how many bytes have been written.
	bytes() int64
}

// fileOutput writes anywhere. Its put is safe for concurrent use.
type fileOutput struct {
	dst     io.WriterAt
	written atomic.Int64
}

func (o *fileOutput) put(off int64, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if _, err := o.dst.WriteAt(p, off); err != nil {
		return fmt.Errorf("write core at offset %#x: %w", off, err)
	}
	o.written.Add(int64(len(p)))
	return nil
}

func (o *fileOutput) finish(size int64) error {
	if t, ok := o.dst.(interface{ Truncate(int64) error }); ok {
		if err := t.Truncate(size); err != nil {
			return fmt.Errorf("set size of core to %d: %w", size, err)
		}
	}
	return nil
}

func (o *fileOutput) bytes() int64 { return o.written.Load() }

// streamOutput takes ascending offsets and fills the gaps with zeros. It uses the method
// Zeros(n int64) error of dst, where dst has one.
type streamOutput struct {
	dst io.Writer
	pos atomic.Int64 // atomic, because Written reads it
}

func (o *streamOutput) put(off int64, p []byte) error {
	if off < o.pos.Load() {
		return fmt.Errorf("write core at offset %#x: the stream is at %#x already", off, o.pos.Load())
	}
	if err := o.finish(off); err != nil {
		return err
	}
	return o.write(p)
}

func (o *streamOutput) finish(size int64) error {
	if z, ok := o.dst.(interface{ Zeros(n int64) error }); ok && o.pos.Load() < size {
		if err := z.Zeros(size - o.pos.Load()); err != nil {
			return fmt.Errorf("write core at offset %#x: %w", o.pos.Load(), err)
		}
		o.pos.Store(size)
	}
	for o.pos.Load() < size {
		if err := o.write(zeroBlock[:min(int64(len(zeroBlock)), size-o.pos.Load())]); err != nil {
			return err
		}
	}
	return nil
}

// zeroBlock fills the gaps of streams.
var zeroBlock [256 << 10]byte

func (o *streamOutput) write(p []byte) error {
	n, err := o.dst.Write(p)
	o.pos.Add(int64(n))
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("write core at offset %#x: %w", o.pos.Load(), err)
	}
	return nil
}

func (o *streamOutput) bytes() int64 { return o.pos.Load() }

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
