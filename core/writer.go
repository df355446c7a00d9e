package core

import (
	"context"
	"fmt"
	"io"
	"math"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/background"
	"github.com/procmem/procmem/internal/pageset"
)

// blockSize is how much is read at once. process_vm_readv is at its best
// between one and four MiB.
const blockSize = 2 << 20

// Writer writes one core: Copy once, then Finish. Of a file, memory may be put
// ahead of Copy, with Put, Forget and Settle.
type Writer struct {
	// Background has Copy give way to all else that wants the processor. It
	// is not for memory of a process that runs, whose address space is
	// locked while it is read.
	Background bool

	l       *layout
	out     output
	stream  *streamNotes   // nil for a file
	store   *pageset.Store // what was put ahead of Copy
	loose   atomic.Bool    // something was put since the segments were settled
	workers int

	mu     sync.Mutex
	faults []procmem.Fault // sorted when Copy is done
}

// streamNotes is what a stream has to know in advance.
type streamNotes struct {
	standard []byte
	own      []byte
	room     int64 // bytes for the JSON of the report
	size     int64 // of the core
}

// NewFileWriter returns a Writer of the segments, which must be ascending and
// page-aligned, to something that can be written anywhere and holds zeros so
// far, such as a new file. Pages of zeros are never written. The headers are
// written last, so what an interrupted Copy leaves is no ELF file. Where dst
// has a method Truncate(int64) error, it is called with the final size.
// WriteAt is called from several goroutines, with ascending offsets by and
// large; offset, length and address of the buffer are multiples of the page
// size wherever memory is written that could be read to the end of a page.
func NewFileWriter(dst io.WriterAt, arch procmem.Arch, segs []Segment) (*Writer, error) {
	l, err := newLayout(arch, segs, 0)
	if err != nil {
		return nil, err
	}
	return &Writer{l: l, out: &fileOutput{dst: dst}, workers: max(2, min(4, runtime.GOMAXPROCS(0))),
		store: pageset.NewStore(dst, slices.Collect(l.stretches), l.memEnd, l.limit())}, nil
}

// NewStreamWriter returns a Writer to something that takes one byte after the
// other. The image must be complete, threads included: it comes first.
func NewStreamWriter(dst io.Writer, img *procmem.Image, segs []Segment) (*Writer, error) {
	n := &streamNotes{}
	var err error
	if n.standard, err = encodeNotes(standardNotes(img)); err != nil {
		return nil, fmt.Errorf("lay out core: %w", err)
	}
	if n.own, err = encodeNotes(ownNotes(img)); err != nil {
		return nil, fmt.Errorf("lay out core: %w", err)
	}
	l, err := newLayout(img.Arch, segs, int64(len(n.standard)))
	if err != nil {
		return nil, err
	}
	n.room = reportRoom(len(segs), len(threadsMissing(img)))
	n.size, err = l.placeNotes(l.headRoom, int64(len(n.standard)), int64(len(n.own))+noteSize(ownerProcmem, n.room))
	if err != nil {
		return nil, err
	}
	return &Writer{l: l, out: &streamOutput{dst: dst}, stream: n, workers: 1,
		store: pageset.NewStore(nil, nil, 0, 0)}, nil
}

// Written returns how many bytes have been written so far: what was put and
// forgotten again does not count. It may be called while Copy runs.
func (w *Writer) Written() int64 { return w.out.bytes() + w.store.Bytes() }

// Faults returns the ranges that Copy could not read, sorted by address and
// merged. In the core they are zeros.
func (w *Writer) Faults() []procmem.Fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.faults)
}

// batch is work for one worker: parts of one stretch that lie within blockSize
// of each other, so that memory of scattered pages does not cost a handover
// for each.
type batch struct {
	parts []procmem.Range
	delta int64 // from address to file offset
}

// Copy reads the memory of all dumped segments, less what has been put, and
// writes it. Memory that cannot be read is no error: Faults lists it. An error
// comes from the destination or from ctx, and the core is then of no use.
func (w *Writer) Copy(ctx context.Context, mem procmem.Memory) error {
	if w.stream != nil {
		head, table := w.l.headers()
		if err := w.out.put(0, slices.Concat(head, table, w.stream.standard)); err != nil {
			return err
		}
	}
	if w.loose.Load() {
		if err := w.Settle(w.l.segs); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan *batch)
	free := make(chan *batch, w.workers+1)
	for range cap(free) {
		free <- &batch{parts: make([]procmem.Range, 0, blockSize/procmem.PageSize)}
	}
	var wg sync.WaitGroup
	for range w.workers {
		wg.Go(func() {
			if err := w.work(mem, work, free); err != nil {
				cancel(err) // which ends the planning too
			}
		})
	}
	w.plan(ctx, mem, work, free)
	close(work)
	wg.Wait()
	w.sortFaults()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// plan hands out what there is to read, in ascending order.
func (w *Writer) plan(ctx context.Context, mem procmem.Memory, work chan<- *batch, free <-chan *batch) {
	var cur *batch
	// flush hands over what has been gathered.
	flush := func() bool {
		if cur == nil {
			return true
		}
		select {
		case work <- cur:
			cur = nil
			return true
		case <-ctx.Done():
			return false
		}
	}
	// add hands out a part of a place.
	add := func(r procmem.Range, delta int64) bool {
		for !r.Empty() {
			if cur != nil && (cur.delta != delta || r.Start-cur.parts[0].Start >= blockSize) && !flush() {
				return false
			}
			if cur == nil {
				select {
				case cur = <-free:
					cur.parts, cur.delta = cur.parts[:0], delta
				case <-ctx.Done():
					return false
				}
			}
			limit := blockSize
			if len(cur.parts) > 0 {
				limit -= int(r.Start - cur.parts[0].Start)
			}
			part := procmem.Range{Start: r.Start, End: r.Start + procmem.Addr(min(uint64(limit), r.Size()))}
			cur.parts = append(cur.parts, part)
			r.Start = part.End
		}
		return true
	}
	for x := range w.l.stretches {
		for data, err := range dataOf(mem, x.Range) {
			for r := range w.store.Lacks(data) {
				if err != nil {
					w.addFaults([]procmem.Fault{{Range: r, Err: procmem.Cause(err)}})
				} else if !add(r, x.Delta) {
					return
				}
			}
		}
	}
	flush()
}

// work copies one batch after the other.
func (w *Writer) work(mem procmem.Memory, work <-chan *batch, free chan<- *batch) (err error) {
	do := func(f func()) { f() }
	if w.Background {
		thread := background.New()
		defer thread.Close()
		do = thread.Do
	}
	buf := alignedBuffer(blockSize)
	for b := range work {
		if do(func() { err = w.copy(mem, b, buf) }); err != nil {
			return err
		}
		free <- b
	}
	return nil
}

// copy copies one batch through a buffer.
func (w *Writer) copy(mem procmem.Memory, b *batch, buf []byte) error {
	put := func(a procmem.Addr, p []byte) error { return w.out.put(int64(a)+b.delta, p) }
	for _, r := range b.parts {
		faults, err := procmem.ReadFull(mem, r, buf, put)
		if len(faults) > 0 {
			w.addFaults(faults)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// alignedBuffer returns n bytes that begin at a page boundary, as direct I/O
// wants them.
func alignedBuffer(n int) []byte {
	b := make([]byte, n+procmem.PageSize)
	skip := -int(reflect.ValueOf(b).Pointer()) & (procmem.PageSize - 1)
	return b[skip : skip+n : skip+n]
}

func (w *Writer) addFaults(faults []procmem.Fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, faults...)
}

func (w *Writer) sortFaults() {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.SortFunc(w.faults, func(a, b procmem.Fault) int { return compareRanges(a.Range, b.Range) })
	merged := w.faults[:0]
	for _, f := range w.faults {
		merged = procmem.AppendFault(merged, f)
	}
	w.faults = merged
}

// Finish completes r with what the writer knows and ends the core with it and
// with the notes of the image, which in a stream have been written already.
// In a file, the headers follow.
func (w *Writer) Finish(img *procmem.Image, r *Report) error {
	r.MemoryBytes, r.Threads, r.Mappings = w.l.memory, len(img.Threads), len(img.Mappings)
	r.ThreadsMissing = append(r.ThreadsMissing, threadsMissing(img)...)
	r.addFaults(w.Faults())
	var err error
	if w.stream != nil {
		err = w.finishStream(r)
	} else {
		err = w.finishFile(img, r)
	}
	if err != nil {
		return fmt.Errorf("finish core: %w", err)
	}
	return nil
}

func threadsMissing(img *procmem.Image) (out []ThreadMissing) {
	for i := range img.Threads {
		if t := &img.Threads[i]; t.Err != nil {
			out = append(out, ThreadMissing{t.TID, t.Err.Error()})
		}
	}
	return out
}

func (w *Writer) finishStream(r *Report) error {
	r.FileBytes, r.DiskBytes = w.stream.size, w.stream.size
	b, err := r.encodePadded(w.stream.room)
	if err != nil {
		return err
	}
	return w.out.put(w.l.ownOff, appendNote(w.stream.own, Note{ownerProcmem, ntReport, b}))
}

func (w *Writer) finishFile(img *procmem.Image, r *Report) error {
	notes, err := encodeNotes(standardNotes(img))
	if err != nil {
		return err
	}
	own, err := encodeNotes(ownNotes(img))
	if err != nil {
		return err
	}
	// The report tells sizes that its own length is part of: make room for
	// the longest numbers, and fill up with spaces.
	data := w.Written()
	r.FileBytes, r.DiskBytes = math.MaxInt64, math.MaxInt64
	b, err := r.encode(maxReport)
	if err != nil {
		return err
	}
	room := int64(len(b))
	r.FileBytes, err = w.l.placeNotes(w.l.memEnd, int64(len(notes)), int64(len(own))+noteSize(ownerProcmem, room))
	if err != nil {
		return err
	}
	head, table := w.l.headers()
	r.DiskBytes = data + int64(len(head)+len(table)) + w.l.ownOff + w.l.ownSize - w.l.memEnd
	if b, err = r.encodePadded(room); err != nil {
		return err
	}
	tail := append(notes, appendNote(own, Note{ownerProcmem, ntReport, b})...)
	if err := w.out.put(w.l.noteOff, tail); err != nil {
		return err
	}
	if err := w.out.finish(r.FileBytes); err != nil {
		return err
	}
	if err := w.out.put(w.l.tableOff, table); err != nil {
		return err
	}
	return w.out.put(0, head)
}
