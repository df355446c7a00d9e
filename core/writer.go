package core

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"sync/atomic"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/checksums"
	"github.com/procmem/procmem/internal/elfcore"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/pipe"
)

// Writer writes one core: Copy once, then Finish. Into a file, memory may be put ahead of Copy,
// with Put, Forget and Settle. A Writer of a file is a snapshot.Store, which takes what is
// copied early.
type Writer struct {
	// Background has Copy give way to all other work of the processors. It must not be set for
	// memory of a running process, whose address space is locked while it is read.
	Background bool

	l      *layout
	out    output
	sums   *checksums.Pages
	stream *streamNotes // nil for a file
	log    Log          // nil for a file that can be written anywhere
	store  store        // what was put ahead of Copy
	loose  atomic.Bool  // something was put since the last Settle
	faults []procmem.Fault
}

// streamNotes is what a stream has to know in advance.
type streamNotes struct {
	standard []byte
	own      []byte
	room     int64  // bytes for the JSON of the report
	sums     int64  // bytes for the checksums; 0 for none
	extents  uint64 // number of extents of the checksums
	size     int64  // of the core, in bytes
}

// NewFileWriter returns a Writer of ascending, page-aligned segments to a destination that can
// be written anywhere. The destination must hold zeros so far, such as a new file, because
// pages of zeros are never written. The headers are written last, so what an interrupted Copy
// leaves is no ELF file. If dst has a method Truncate(int64) error, it is called with the final
// size.
//
// WriteAt is called from several goroutines, with ascending offsets by and large. If memory
// could be read to the end of a page, offset, length and buffer address are multiples of the
// page size.
//
// NewFileWriter fails if the segments do not fit a core.
func NewFileWriter(dst io.WriterAt, arch procmem.Arch, segs []Segment) (*Writer, error) {
	l, err := newLayout(arch, segs, 0)
	if err != nil {
		return nil, err
	}
	return &Writer{l: l, out: &fileOutput{dst: dst}, sums: checksums.NewPages(),
		store: pageset.NewStore(dst, slices.Collect(l.stretches), l.memEnd, l.limit())}, nil
}

// NewLogWriter is NewFileWriter for a Log, which package capture has. One goroutine at a time
// writes to the Log.
func NewLogWriter(dst Log, arch procmem.Arch, segs []Segment) (*Writer, error) {
	l, err := newLayout(arch, segs, 0)
	if err != nil {
		return nil, err
	}
	dst.Begin(l.headRoom)
	out := &logOutput{streamOutput: streamOutput{dst: dst}, log: dst, head: make([]byte, l.headRoom)}
	return &Writer{l: l, out: out, sums: checksums.NewPages(), log: dst, store: dst}, nil
}

// NewStreamWriter returns a Writer to a destination that takes one byte after the other. The
// image must be complete, threads included, because it comes first. NewStreamWriter fails if
// image or segments do not fit a core.
func NewStreamWriter(dst io.Writer, img *procmem.Image, segs []Segment) (*Writer, error) {
	n := &streamNotes{}
	var err error
	if n.standard, err = elfcore.EncodeNotes(elfcore.StandardNotes(img)); err != nil {
		return nil, fmt.Errorf("lay out core: %w", err)
	}
	if n.own, err = elfcore.EncodeNotes(elfcore.OwnNotes(img)); err != nil {
		return nil, fmt.Errorf("lay out core: %w", err)
	}
	l, err := newLayout(img.Arch, segs, int64(len(n.standard)))
	if err != nil {
		return nil, err
	}
	n.room = reportRoom(len(segs), len(threadsMissing(img)))
	w := &Writer{l: l, out: &streamOutput{dst: dst}, sums: checksums.NewPages(), stream: n, store: pageset.NewStore(nil, nil, 0, 0)}
	n.sums, n.extents = checksums.Size(streamSpans, w.sums.Extents(l.stretches, true))
	n.size, err = l.placeNotes(l.headRoom, int64(len(n.standard)), ownSize(int64(len(n.own)), n.room, n.sums))
	if err != nil {
		return nil, err
	}
	return w, nil
}

// ownSize returns the size of the notes of procmem, in bytes: encoded ones, that of a report,
// and that of checksums, if there are any.
func ownSize(encoded, report, sums int64) int64 {
	n := encoded + elfcore.NoteSize(elfcore.OwnerProcmem, report)
	if sums > 0 {
		n += elfcore.NoteSize(elfcore.OwnerProcmem, sums)
	}
	return n
}

// Written returns how many bytes have been written so far. Bytes that were put and forgotten do
// not count. It may be called while Copy runs.
func (w *Writer) Written() int64 { return w.out.bytes() + w.store.Bytes() }

// Size returns how long the core of a stream will be, in bytes. It is 0 for a file, whose size
// is known only in the end.
func (w *Writer) Size() int64 {
	if w.stream == nil {
		return 0
	}
	return w.stream.size
}

// Faults returns the ranges that Copy could not read, ascending and merged. In the core they
// are zeros.
func (w *Writer) Faults() []procmem.Fault { return w.faults }

// errStream says why memory cannot be put ahead of Copy, or taken back.
var errStream = errors.New("a stream takes its memory in order")

// Settle replaces the segments, and forgets what was put outside the dumped ones. It may be
// called more than once, but not concurrently with other methods. It fails if the segments are
// not ascending and page-aligned or do not fit a core, and for a stream.
func (w *Writer) Settle(segs []Segment) error {
	if w.stream != nil {
		return errStream
	}
	l, err := w.l.settle(segs, w.store)
	if err != nil {
		return fmt.Errorf("lay out core: %w", err)
	}
	w.l = l
	var dumped []procmem.Range
	for x := range l.stretches {
		dumped = append(dumped, x.Range)
	}
	w.sums.Keep(dumped)
	if w.log != nil { // the checksum of what is written again is taken again
		for _, r := range dumped {
			for lacks := range w.store.Lacks(r) {
				w.sums.Forget(lacks)
			}
		}
	}
	w.loose.Store(false)
	return nil
}

// Copy reads the memory of all dumped segments, without what has been put, and writes it.
// Memory that cannot be read is no error: Faults lists it. Copy fails with the error of the
// destination or of ctx. The core is then of no use.
func (w *Writer) Copy(ctx context.Context, mem procmem.Memory) (err error) {
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
	work := pipe.Work{Each: w.write}
	if w.stream != nil || w.log != nil {
		work = pipe.Work{Each: w.sum, Emit: w.emit}
	}
	p := pipe.New()
	p.Background = w.Background
	w.faults, err = p.Run(ctx, mem, w.plan(mem), work)
	return err
}

// plan yields what there is to read, in ascending order.
func (w *Writer) plan(mem procmem.Memory) iter.Seq[pipe.Extent] {
	return func(yield func(pipe.Extent) bool) {
		for x := range w.l.stretches {
			for data, err := range dataOf(mem, x.Range) {
				for r := range w.store.Lacks(data) {
					if !yield(pipe.Extent{Range: r, Delta: x.Delta, Err: err}) {
						return
					}
				}
			}
		}
	}
}

// write writes the parts of a block that are not zeros.
func (w *Writer) write(b *pipe.Block) error {
	for _, p := range b.Pieces {
		for d := range p.Data() {
			w.sums.Add(d.Addr, d.Bytes)
			if err := w.out.put(int64(d.Addr)+b.Delta, d.Bytes); err != nil {
				return err
			}
		}
	}
	return nil
}

// sum takes the checksums of a block.
func (w *Writer) sum(b *pipe.Block) error {
	for _, p := range b.Pieces {
		w.sums.Add(p.Addr, p.Bytes)
	}
	return nil
}

// emit writes a block in its turn.
func (w *Writer) emit(b *pipe.Block) error {
	for _, p := range b.Pieces {
		if err := w.out.put(int64(p.Addr)+b.Delta, p.Bytes); err != nil {
			return err
		}
	}
	return nil
}

// Finish completes r with what the Writer knows, and ends the core with it and with the notes
// of the image. In a stream the standard notes have been written already. In a file, the
// headers follow. Finish fails with the error of the destination, and if the core would be too
// large.
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

// streamSpans is the number of spans of a stream that have checksums: the headers with the
// standard notes, and the notes of procmem.
const streamSpans = 2

func (w *Writer) finishStream(r *Report) error {
	n := w.stream
	r.FileBytes, r.DiskBytes = n.size, n.size
	b, err := r.encodePadded(n.room)
	if err != nil {
		return err
	}
	own := elfcore.AppendNote(n.own, elfcore.Note{Name: elfcore.OwnerProcmem, Type: elfcore.NTReport, Desc: b})
	if err := w.out.put(w.l.ownOff, own); err != nil {
		return err
	}
	if n.sums == 0 {
		return nil
	}
	head, table := w.l.headers()
	spans := []checksums.Span{checksums.SpanOf(0, slices.Concat(head, table, n.standard)), checksums.SpanOf(w.l.ownOff, own)}
	return w.putSums(w.l.ownOff+int64(len(own)), n.sums, n.extents, spans, w.sums.Extents(w.l.stretches, true))
}

// putSums writes the note of checksums at off.
func (w *Writer) putSums(off, size int64, n uint64, spans []checksums.Span, extents iter.Seq[checksums.Extent]) error {
	put := func(p []byte) error {
		err := w.out.put(off, p)
		off += int64(len(p))
		return err
	}
	if err := put(elfcore.AppendNoteHead(nil, elfcore.OwnerProcmem, elfcore.NTSums, size)); err != nil {
		return err
	}
	return checksums.Write(n, spans, extents, put)
}

// fileSpans is the number of spans of a file that have checksums: header, program headers, and
// all notes.
const fileSpans = 3

func (w *Writer) finishFile(img *procmem.Image, r *Report) error {
	notes, err := elfcore.EncodeNotes(elfcore.StandardNotes(img))
	if err != nil {
		return err
	}
	own, err := elfcore.EncodeNotes(elfcore.OwnNotes(img))
	if err != nil {
		return err
	}
	sums, extents := checksums.Size(fileSpans, w.sums.Extents(w.l.stretches, false))
	// The report has sizes that its own length is part of. So it gets room for the longest
	// numbers, filled up with spaces.
	data := w.Written()
	r.FileBytes, r.DiskBytes = math.MaxInt64, math.MaxInt64
	b, err := r.encode(maxReport)
	if err != nil {
		return err
	}
	room := int64(len(b))
	r.FileBytes, err = w.l.placeNotes(w.l.memEnd, int64(len(notes)), ownSize(int64(len(own)), room, sums))
	if err != nil {
		return err
	}
	head, table := w.l.headers()
	r.DiskBytes = data + int64(len(head)+len(table)) + w.l.ownOff + w.l.ownSize - w.l.memEnd
	if b, err = r.encodePadded(room); err != nil {
		return err
	}
	tail := append(notes, elfcore.AppendNote(own, elfcore.Note{Name: elfcore.OwnerProcmem, Type: elfcore.NTReport, Desc: b})...)
	if err := w.out.put(w.l.noteOff, tail); err != nil {
		return err
	}
	if sums > 0 {
		spans := []checksums.Span{checksums.SpanOf(0, head), checksums.SpanOf(w.l.tableOff, table), checksums.SpanOf(w.l.noteOff, tail)}
		if err := w.putSums(w.l.noteOff+int64(len(tail)), sums, extents, spans, w.sums.Extents(w.l.stretches, false)); err != nil {
			return err
		}
	}
	if err := w.out.finish(r.FileBytes); err != nil {
		return err
	}
	if err := w.out.put(w.l.tableOff, table); err != nil {
		return err
	}
	return w.out.put(0, head)
}
