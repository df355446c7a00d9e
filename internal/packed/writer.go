package packed

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"

	"github.com/procmem/procmem/internal/pageset"
)

// Options of a Writer. The zero value is the fastest.
type Options struct {
	// Level is how hard to compress: zstd.SpeedFastest where it is 0.
	Level zstd.EncoderLevel
	// Workers is how many frames are compressed at once: GOMAXPROCS where it
	// is 0. Each takes some 3 MiB of memory at the fastest level.
	Workers int
	// Thread, where there is one, is called for each frame, by all workers at
	// once. It runs the compression on a thread of its choice and returns
	// when that has ended.
	Thread func(run func())
}

// Writer compresses what is written to it. Close or Abort ends it. Only
// Written may be called from another goroutine.
type Writer struct {
	dst    io.Writer
	cur    *frame // being filled; nil where the next byte begins one
	frames int64  // begun so far
	ended  bool

	free  chan *frame // to be filled
	todo  chan *frame // to be compressed
	order chan piece  // in the order of the file
	wait  sync.WaitGroup

	sizes   []uint32 // of the frames in dst; of the goroutine that writes, until it ends
	err     atomic.Pointer[error]
	written atomic.Int64
}

// frame is the buffers of one frame, used again and again.
type frame struct {
	plain  []byte
	packed []byte
	done   chan struct{} // tells that packed is ready
}

// piece is what is written next: a frame, or a run of frames of zeros.
type piece struct {
	frame *frame
	zeros int64
}

var (
	errEnded   = errors.New("write to packed core: it is closed")
	errTooLong = fmt.Errorf("write to packed core: it is full, at %d TiB: the format has no more than %d frames", maxFrames*frameSize>>40, maxFrames)
)

// NewWriter returns a Writer to dst, which takes whole frames of up to
// frameSize and a little.
func NewWriter(dst io.Writer, o Options) *Writer {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Level == 0 {
		o.Level = zstd.SpeedFastest
	}
	if o.Thread == nil {
		o.Thread = func(run func()) { run() }
	}
	// Each worker has a frame at hand and one that waits; one is filled.
	n := 2*o.Workers + 1
	w := &Writer{
		dst:  dst,
		free: make(chan *frame, n), todo: make(chan *frame, n), order: make(chan piece, n),
	}
	for range n {
		w.free <- &frame{done: make(chan struct{}, 1)}
	}
	for range o.Workers {
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(o.Level), zstd.WithWindowSize(frameSize),
			zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithSingleSegment(true), zstd.WithEncoderCRC(true))
		if err != nil {
			w.fail(fmt.Errorf("compress core: %w", err))
			break
		}
		w.wait.Go(func() { w.compress(enc, o.Thread) })
	}
	w.wait.Go(w.write)
	return w
}

// Write implements io.Writer. It returns before the data is in dst; the first
// error of dst is returned by all later calls.
func (w *Writer) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if err := w.begin(); err != nil {
			return n, err
		}
		m := copy(w.cur.plain[len(w.cur.plain):frameSize], p[n:])
		w.fill(m)
		n += m
	}
	return n, w.failure()
}

// Zeros writes n zeros, without any work for those that make up frames.
func (w *Writer) Zeros(n int64) error {
	if n > (maxFrames-w.frames)*frameSize+w.left() {
		w.fail(errTooLong) // before terabytes are written in vain
	}
	for n > 0 {
		if run := n / frameSize; run > 0 && w.cur == nil {
			if err := w.count(run); err != nil {
				return err
			}
			w.order <- piece{zeros: run}
			n -= run * frameSize
			continue
		}
		if err := w.begin(); err != nil {
			return err
		}
		m := min(n, w.left())
		clear(w.cur.plain[len(w.cur.plain):][:m])
		w.fill(int(m))
		n -= m
	}
	return w.failure()
}

// left returns how much goes into the frame that is being filled.
func (w *Writer) left() int64 {
	if w.cur == nil {
		return 0
	}
	return int64(frameSize - len(w.cur.plain))
}

// begin makes sure that there is a frame to fill.
func (w *Writer) begin() error {
	if w.cur != nil {
		return w.failure()
	}
	if err := w.count(1); err != nil {
		return err
	}
	w.cur = <-w.free
	if w.cur.plain == nil {
		w.cur.plain = make([]byte, frameSize)
	}
	w.cur.plain = w.cur.plain[:0]
	return nil
}

// count makes sure that n more frames can be written.
func (w *Writer) count(n int64) error {
	if n > maxFrames-w.frames {
		w.fail(errTooLong)
	}
	w.frames += n
	return w.failure()
}

// fill takes n bytes that are in the frame already, and hands on a full one.
func (w *Writer) fill(n int) {
	w.cur.plain = w.cur.plain[:len(w.cur.plain)+n]
	if len(w.cur.plain) == frameSize {
		w.hand()
	}
}

// hand has the frame compressed and written.
func (w *Writer) hand() {
	w.todo <- w.cur
	w.order <- piece{frame: w.cur}
	w.cur = nil
}

// compress compresses frames until there are no more.
func (w *Writer) compress(enc *zstd.Encoder, thread func(func())) {
	var f *frame
	run := func() {
		if len(f.plain) == frameSize && pageset.Run(true, f.plain) == frameSize {
			f.packed = append(f.packed[:0], zeroFrame...)
			return
		}
		if cap(f.packed) < frameSize {
			f.packed = make([]byte, 0, enc.MaxEncodedSize(frameSize))
		}
		f.packed = enc.EncodeAll(f.plain, f.packed[:0])
	}
	for f = range w.todo {
		if w.failure() == nil {
			thread(run)
		}
		f.done <- struct{}{}
	}
}

// zeroFrames is a piece of a long run of zeros.
var zeroFrames = sync.OnceValue(func() []byte { return []byte(strings.Repeat(zeroFrame, 1024)) })

// write writes what is compressed, in order.
func (w *Writer) write() {
	for p := range w.order {
		if p.frame != nil {
			<-p.frame.done
			w.put(p.frame.packed, len(p.frame.packed))
			w.free <- p.frame
			continue
		}
		for p.zeros > 0 && w.failure() == nil {
			run := zeroFrames()[:min(p.zeros*int64(len(zeroFrame)), int64(len(zeroFrames())))]
			w.put(run, len(zeroFrame))
			p.zeros -= int64(len(run) / len(zeroFrame))
		}
	}
}

// put writes frames of the same size, unless there was an error.
func (w *Writer) put(p []byte, size int) {
	if w.failure() != nil {
		return
	}
	if err := w.output(p); err != nil {
		w.fail(err)
		return
	}
	for range len(p) / size {
		w.sizes = append(w.sizes, uint32(size))
	}
}

func (w *Writer) output(p []byte) error {
	n, err := w.dst.Write(p)
	w.written.Add(int64(n))
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return err
}

// Close writes what is left, and the table. It does not close dst.
func (w *Writer) Close() error {
	if w.ended {
		return w.failure()
	}
	last := int64(frameSize)
	if w.cur != nil {
		last = int64(len(w.cur.plain))
		w.hand()
	}
	w.end()
	if w.failure() == nil {
		if err := w.writeTable(last); err != nil {
			w.fail(err)
		}
	}
	err := w.failure()
	w.fail(errEnded)
	return err
}

// Abort ends the Writer where Close has not, and waits for a write to dst that
// is under way.
func (w *Writer) Abort() {
	if !w.ended {
		w.fail(errEnded)
		w.end()
	}
}

func (w *Writer) end() {
	w.ended = true
	close(w.todo)
	close(w.order)
	w.wait.Wait()
}

// Written returns how many bytes are in dst so far.
func (w *Writer) Written() int64 { return w.written.Load() }

// fail keeps the first error.
func (w *Writer) fail(err error) { w.err.CompareAndSwap(nil, &err) }

func (w *Writer) failure() error {
	if err := w.err.Load(); err != nil {
		return *err
	}
	return nil
}
