package packed

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/zenc"
)

// Options of a Writer. The zero value is the fastest.
type Options struct {
	// Workers is how many frames are compressed at once. 0 means GOMAXPROCS. Each takes about 5
	// MiB of memory.
	Workers int
	// Head is how many bytes at the front are zeros until the caller overwrites their frames.
	// The caller overwrites them with the result of EncodeHead for as many bytes, which always
	// has the same length.
	Head int64
	// Thread, if not nil, is called for some frames at a time, by all workers at once. It must
	// call run on a thread of its choice, and return after run has.
	Thread func(run func())
}

// Writer compresses what is written to it. Close or Abort must be called. It is not safe for
// concurrent use, except for Written.
type Writer struct {
	dst    io.Writer
	cur    *batch // being filled; nil if the next byte begins one
	head   int64  // bytes at the front, in frames of their own
	frames int64  // number of frames begun so far
	ended  bool

	free  chan *batch // to be filled
	todo  chan *batch // to be compressed
	order chan queued // in the order of the file
	wait  sync.WaitGroup

	sizes   []uint32 // of the frames in dst; used by the goroutine that writes, until it ends
	err     atomic.Pointer[error]
	written atomic.Int64
}

// batchSize is how many bytes are handed to a worker at once. A handover costs as much as the
// compression of some pages, and a write should be a large one.
const batchSize = 4 * frameSize

// batch is the buffers of some frames, used again and again. Only the last frame may be short.
type batch struct {
	plain  []byte // room for batchSize, and what the encoder wants after it
	packed []byte
	sizes  []uint32      // of the frames in packed
	done   chan struct{} // receives when packed is ready
}

// queued is what is written next: some frames, or a run of frames of zeros. Or it is a question
// how far writing has come.
type queued struct {
	batch   *batch
	zeros   int64
	reached chan struct{} // closed when all before it is written
}

var (
	errEnded   = errors.New("write to packed core: it is closed")
	errTooLong = fmt.Errorf("write to packed core: it is full, at %d TiB: the format has no more than %d frames", maxFrames*frameSize>>40, maxFrames)
)

// NewWriter returns a Writer to dst. Each write to dst is of whole frames.
func NewWriter(dst io.Writer, o Options) *Writer {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Thread == nil {
		o.Thread = func(run func()) { run() }
	}
	// Each worker has one batch at hand and one that waits, and one more is filled.
	n := 2*o.Workers + 1
	w := &Writer{
		dst:  dst,
		head: o.Head,
		free: make(chan *batch, n), todo: make(chan *batch, n), order: make(chan queued, n),
	}
	for range n {
		w.free <- &batch{done: make(chan struct{}, 1)}
	}
	if o.Head > 0 {
		head, sizes := encodeHead(make([]byte, o.Head))
		w.frames = int64(len(sizes))
		w.put(head, sizes)
	}
	for range o.Workers {
		w.wait.Go(func() { w.compress(o.Thread) })
	}
	w.wait.Go(w.write)
	return w
}

// Write implements io.Writer. It returns before the data is in dst. All later calls return the
// first error of dst.
func (w *Writer) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if err := w.begin(); err != nil {
			return n, err
		}
		m := copy(w.cur.plain[len(w.cur.plain):][:w.room()], p[n:])
		w.fill(m)
		n += m
	}
	return n, w.failure()
}

// Zeros writes n zeros. Whole frames of zeros take no work.
func (w *Writer) Zeros(n int64) error {
	if n > (maxFrames-w.frames)*frameSize+w.begun() {
		w.fail(errTooLong) // before terabytes are written in vain
	}
	for n > 0 {
		if run := n / frameSize; run > 0 && w.begun() == 0 {
			if err := w.count(run); err != nil {
				return err
			}
			if w.cur != nil {
				w.hand()
			}
			w.order <- queued{zeros: run}
			n -= run * frameSize
			continue
		}
		if err := w.begin(); err != nil {
			return err
		}
		m := min(n, w.room())
		clear(w.cur.plain[len(w.cur.plain):][:m])
		w.fill(int(m))
		n -= m
	}
	return w.failure()
}

// room returns how many bytes fit into the frame that is being filled or is next.
func (w *Writer) room() int64 { return frameSize - int64(len(w.cur.plain)%frameSize) }

// begun returns how many bytes fit into the frame that is being filled, or 0 if the next byte
// begins a frame.
func (w *Writer) begun() int64 {
	if w.cur == nil {
		return 0
	}
	return w.room() % frameSize
}

// begin makes sure that there is a frame to fill.
func (w *Writer) begin() error {
	if w.begun() > 0 {
		return w.failure()
	}
	if err := w.count(1); err != nil {
		return err
	}
	if w.cur == nil {
		w.cur = <-w.free
		if w.cur.plain == nil {
			w.cur.plain = make([]byte, batchSize+zenc.Behind)
		}
		w.cur.plain = w.cur.plain[:0]
	}
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

// fill takes n bytes that are in the batch already, and hands on a full batch.
func (w *Writer) fill(n int) {
	w.cur.plain = w.cur.plain[:len(w.cur.plain)+n]
	if len(w.cur.plain) == batchSize {
		w.hand()
	}
}

// hand has the batch compressed and written.
func (w *Writer) hand() {
	w.todo <- w.cur
	w.order <- queued{batch: w.cur}
	w.cur = nil
}

// compress compresses batches until there are no more.
func (w *Writer) compress(thread func(func())) {
	var b *batch
	enc := new(zenc.Encoder)
	run := func() { b.compress(enc) }
	for b = range w.todo {
		if w.failure() == nil {
			thread(run)
		}
		b.done <- struct{}{}
	}
}

func (b *batch) compress(enc *zenc.Encoder) {
	if b.packed == nil {
		b.packed = make([]byte, 0, batchSize/frameSize*zenc.MaxLen(frameSize))
	}
	b.packed, b.sizes = b.packed[:0], b.sizes[:0]
	for at := 0; at < len(b.plain); at += frameSize {
		had, n := len(b.packed), min(frameSize, len(b.plain)-at)
		w := (*zenc.Window)(b.plain[at:cap(b.plain)])
		if n == frameSize && pageset.Run(true, w[:n]) == n {
			b.packed = append(b.packed, zeroFrame...)
		} else {
			b.packed = enc.Append(b.packed, w, n)
		}
		b.sizes = append(b.sizes, uint32(len(b.packed)-had))
	}
}

// zeroSizes and zeroFrames are a part of a long run of zeros.
var (
	zeroSizes  = slices.Repeat([]uint32{uint32(len(zeroFrame))}, 1024)
	zeroFrames = sync.OnceValue(func() []byte { return []byte(strings.Repeat(zeroFrame, len(zeroSizes))) })
)

// write writes what is compressed, in order.
func (w *Writer) write() {
	for p := range w.order {
		if p.batch != nil {
			<-p.batch.done
			w.put(p.batch.packed, p.batch.sizes)
			w.free <- p.batch
			continue
		}
		if p.reached != nil {
			close(p.reached)
			continue
		}
		for p.zeros > 0 && w.failure() == nil {
			n := min(p.zeros, int64(len(zeroSizes)))
			w.put(zeroFrames()[:n*int64(len(zeroFrame))], zeroSizes[:n])
			p.zeros -= n
		}
	}
}

// put writes frames of these sizes, unless there was an error.
func (w *Writer) put(p []byte, sizes []uint32) {
	if w.failure() != nil {
		return
	}
	if err := w.output(p); err != nil {
		w.fail(err)
		return
	}
	w.sizes = append(w.sizes, sizes...)
}

func (w *Writer) output(p []byte) error {
	n, err := w.dst.Write(p)
	w.written.Add(int64(n))
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return err
}

// reader returns a Reader of the frames that have been handed on, and a copy of the bytes that
// are in no frame yet. src must have the frames once they are written. Nothing may be written
// meanwhile.
func (w *Writer) reader(src io.ReaderAt) (*Reader, []byte, error) {
	reached := make(chan struct{})
	w.order <- queued{reached: reached}
	<-reached
	if err := w.failure(); err != nil {
		return nil, nil, err
	}
	frames := make([]frameAt, 0, len(w.sizes)+1)
	var at frameAt
	for i, size := range w.sizes {
		at.size = size
		frames = append(frames, at)
		at.off, at.start = at.off+int64(size), at.start+w.plain(i)
	}
	frames = append(frames, frameAt{off: at.off, start: at.start})
	var rest []byte
	if w.cur != nil {
		rest = slices.Clone(w.cur.plain)
	}
	return &Reader{r: src, frames: frames}, rest, nil
}

// plain returns how many bytes frame i holds, if it is not the last one.
func (w *Writer) plain(i int) int64 {
	if left := w.head - int64(i)*frameSize; left > 0 {
		return min(left, frameSize)
	}
	return frameSize
}

// Close writes what is left, and the table. It does not close dst. It returns the first error
// of dst.
func (w *Writer) Close() error {
	if w.ended {
		return w.failure()
	}
	last := int64(frameSize)
	if w.cur != nil {
		last = int64((len(w.cur.plain)-1)%frameSize + 1)
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

// Abort ends a Writer that Close has not ended. It waits for a write to dst that is under way.
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

// Written returns how many bytes have been written to dst. It is safe for concurrent use.
func (w *Writer) Written() int64 { return w.written.Load() }

// fail keeps the first error.
func (w *Writer) fail(err error) { w.err.CompareAndSwap(nil, &err) }

func (w *Writer) failure() error {
	if err := w.err.Load(); err != nil {
		return *err
	}
	return nil
}
