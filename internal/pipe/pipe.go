// Package pipe carries memory from a procmem.Memory to where it goes. A plan lists extents,
// readers read them in blocks, and work is done on each block, in parallel or in the order of
// the plan. Buffers are few and reused, so a slow consumer holds up the readers. The first
// error ends everything.
package pipe

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"sync"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/background"
	"github.com/procmem/procmem/internal/pageset"
)

// BlockSize is how much is read at once, in bytes, unless Pipe.Size says otherwise.
// process_vm_readv(2) is fastest between one and four MiB.
const BlockSize = 2 << 20

// Extent is memory to be carried, and its destination: the address plus Delta.
type Extent struct {
	procmem.Range
	Delta int64
	Err   error // why it cannot be read, if that is known already
}

// Block is memory that was read at once, from extents of one Delta.
type Block struct {
	Delta  int64
	Pieces []Piece // what could be read, ascending
	// First and Last are the first and the last address of this block itself. What Pieces hold
	// behind Last is overlap.
	First, Last procmem.Addr
	// Follows is set if the plan has no gap between the last block and this one. The first
	// bytes of this block are overlap of that one then.
	Follows bool
	// Note is for the work to keep something with the block. It stays with the buffers, and is
	// reused with them.
	Note any

	parts  []procmem.Range // of the plan
	base   procmem.Addr    // what the first byte of buf is for
	faults []procmem.Fault
	buf    []byte
	add    func(procmem.Addr, []byte) error // keep, made once
	err    error
	ready  chan struct{} // receives when the block is read and worked on
}

// Piece is memory without a gap. Its offset in a page is that of the buffer in which it lies,
// so whole pages suit direct I/O.
type Piece struct {
	Addr  procmem.Addr
	Bytes []byte // valid as long as the block
}

// Pipe has the goroutines and the buffers. It may be run again, but is not safe for concurrent
// use.
type Pipe struct {
	// Background makes readers give way to everything else that wants the processor. It must
	// not be set for the memory of a running process, whose address space is locked while it is
	// read.
	Background bool
	// Size is how much a block holds, in bytes. It must be whole pages; 0 is BlockSize. Size
	// and Overlap must not change after the first Run.
	Size int
	// Overlap is how many bytes of what follows a block holds too, as far as the plan has no
	// gap. They are read again with the next block.
	Overlap int

	readers int
	blocks  chan *Block // that are free
}

// New returns a pipe with a reader for each processor: at least two, since reading and writing
// wait for different things, and at most four.
func New() *Pipe {
	p := &Pipe{readers: max(2, min(4, runtime.GOMAXPROCS(0)))}
	p.blocks = make(chan *Block, p.readers+2)
	for range cap(p.blocks) {
		p.blocks <- &Block{ready: make(chan struct{}, 1)}
	}
	return p
}

// Work is what is done on each block. Each is called by the reader of the block, in parallel
// with others. Emit, if not nil, is called afterwards for one block at a time, in the order of
// the plan.
type Work struct {
	Each func(*Block) error
	Emit func(*Block) error
}

// Run carries the extents of a plan, which must ascend. It returns the faults, sorted by
// address and merged: memory that cannot be read is no error. An error is that of the work or
// of ctx, and nothing runs any more when Run returns.
func (p *Pipe) Run(ctx context.Context, mem procmem.Memory, plan iter.Seq[Extent], w Work) ([]procmem.Fault, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan *Block)
	order := make(chan *Block, cap(p.blocks))
	var faults []procmem.Fault // of the plan, and of blocks that are done
	var mu sync.Mutex
	done := func(b *Block) {
		mu.Lock()
		faults = append(faults, b.faults...)
		mu.Unlock()
		p.blocks <- b
	}
	var wg sync.WaitGroup
	for range p.readers {
		wg.Go(func() {
			p.reader(work, func(b *Block) {
				if b.read(mem, cmp.Or(p.Size, BlockSize)+p.Overlap); ctx.Err() == nil {
					b.err = w.each(b)
				}
				if b.err != nil {
					cancel(b.err) // which ends the planning too
				}
			}, func(b *Block) {
				if w.Emit != nil {
					b.ready <- struct{}{}
				} else {
					done(b)
				}
			})
		})
	}
	wg.Go(func() {
		for b := range order {
			<-b.ready
			if b.err == nil && ctx.Err() == nil {
				if err := w.Emit(b); err != nil {
					cancel(err)
				}
			}
			done(b)
		}
	})
	known := p.plan(ctx, plan, func(b *Block) {
		if w.Emit != nil {
			order <- b
		}
		work <- b
	})
	close(work)
	close(order)
	wg.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return merge(append(faults, known...)), nil
}

func (w Work) each(b *Block) error {
	if w.Each == nil {
		return nil
	}
	return w.Each(b)
}

// reader does something for one block after the other.
func (p *Pipe) reader(work <-chan *Block, do, done func(*Block)) {
	run := func(f func()) { f() }
	if p.Background {
		thread := background.New()
		defer thread.Close()
		run = thread.Do
	}
	var b *Block
	one := func() { do(b) }
	for b = range work {
		// The goroutines that this one has woken come first. In a system call it would keep the
		// processor from them, until the scheduler gives the processor to another thread. The
		// threads would then take turns for each block.
		runtime.Gosched()
		run(one)
		done(b)
	}
}

// plan gathers extents into blocks, so that memory of scattered pages does not cost a handover
// for each, and hands these over in order.
func (p *Pipe) plan(ctx context.Context, plan iter.Seq[Extent], hand func(*Block)) (known []procmem.Fault) {
	var cur *Block
	defer func() {
		if cur != nil {
			hand(cur)
		}
	}()
	if p.Overlap > 0 {
		plan = joined(plan)
	}
	for x := range plan {
		if ctx.Err() != nil {
			return known
		}
		if x.Err != nil {
			known = append(known, procmem.Fault{Range: x.Range, Err: procmem.Cause(x.Err)})
			continue
		}
		for r := x.Range; !r.Empty(); {
			if cur != nil && (cur.Delta != x.Delta || r.Start > cur.Last) {
				hand(cur)
				cur = nil
			}
			if cur == nil {
				select {
				case cur = <-p.blocks:
				case <-ctx.Done():
					return known
				}
				cur.begin(x.Delta, r.Start, cmp.Or(p.Size, BlockSize))
				cur.Follows = r.Start > x.Start
			}
			part := r
			r.Start = r.End
			if part.End-1 > cur.Last {
				r.Start = cur.Last + 1
				part.End = r.Start + min(procmem.Addr(p.Overlap), r.End-r.Start)
			}
			cur.parts = append(cur.parts, part)
		}
	}
	return known
}

// joined makes one of extents that touch, so that what overlaps is in the same.
func joined(plan iter.Seq[Extent]) iter.Seq[Extent] {
	return func(yield func(Extent) bool) {
		var last Extent
		for x := range plan {
			if last.Err == nil && x.Err == nil && last.End == x.Start && last.Delta == x.Delta && !last.Empty() {
				last.End = max(x.Start, x.End)
				continue
			}
			if !last.Empty() && !yield(last) {
				return
			}
			last = x
		}
		if !last.Empty() {
			yield(last)
		}
	}
}

// begin makes a block that was used empty, and fit for what starts at a.
func (b *Block) begin(delta int64, a procmem.Addr, size int) {
	b.Delta, b.First, b.err = delta, a, nil
	b.base = a.PageDown()
	b.Last = b.base + min(procmem.Addr(size)-1, ^b.base)
	b.parts, b.Pieces, b.faults = b.parts[:0], b.Pieces[:0], b.faults[:0]
}

// read reads all parts, each to where its distance from the first puts it, into a buffer of
// that size.
func (b *Block) read(mem procmem.Memory, size int) {
	if b.buf == nil {
		b.buf, b.add = pageset.Buffer(size), b.keep
	}
	for _, r := range b.parts {
		// No error: that would be one of keep, which has none.
		faults, _ := procmem.ReadFull(mem, r, b.buf[r.Start-b.base:r.End-b.base], b.add)
		b.faults = append(b.faults, b.own(faults)...)
	}
}

// own leaves out what is a fault of the next block too.
func (b *Block) own(faults []procmem.Fault) []procmem.Fault {
	for k := len(faults) - 1; k >= 0 && faults[k].End-1 > b.Last; k-- {
		if faults[k].Start <= b.Last {
			faults[k].End = b.Last + 1
			break
		}
		faults = faults[:k]
	}
	return faults
}

// keep notes a piece that was read to where it belongs. Neighbours are one, so that they are
// written at once.
func (b *Block) keep(a procmem.Addr, p []byte) error {
	if k := len(b.Pieces) - 1; k >= 0 && b.Pieces[k].end() == a {
		b.Pieces[k].Bytes = b.buf[b.Pieces[k].Addr-b.base:][:len(b.Pieces[k].Bytes)+len(p)]
	} else {
		b.Pieces = append(b.Pieces, Piece{a, p})
	}
	return nil
}

// Data yields the runs of pages in the piece that are not all zero.
func (p Piece) Data() iter.Seq[Piece] {
	return func(yield func(Piece) bool) {
		for at := 0; at < len(p.Bytes); {
			at += pageset.Run(true, p.Bytes[at:])
			n := pageset.Run(false, p.Bytes[at:])
			if n > 0 && !yield(Piece{p.Addr + procmem.Addr(at), p.Bytes[at : at+n]}) {
				return
			}
			at += n
		}
	}
}

func (p Piece) end() procmem.Addr { return p.Addr + procmem.Addr(len(p.Bytes)) }

// merge sorts faults by address and makes one of neighbours.
func merge(faults []procmem.Fault) []procmem.Fault {
	slices.SortFunc(faults, func(a, b procmem.Fault) int { return cmp.Compare(a.Start, b.Start) })
	merged := faults[:0]
	for _, f := range faults {
		merged = procmem.AppendFault(merged, f)
	}
	return merged
}

// Join joins neighbours among ascending faults, whatever their reasons, and keeps the first
// reason. It is for compressed files, where each lost frame has a reason of its own.
func Join(faults []procmem.Fault) []procmem.Fault {
	var joined []procmem.Fault
	for i := 0; i < len(faults); {
		f, first := faults[i], i
		for i++; i < len(faults) && faults[i].Start == f.End; i++ {
			f.End = faults[i].End
		}
		if more := i - first - 1; more > 0 {
			f.Err = fmt.Errorf("%w (and %d more behind it)", f.Err, more)
		}
		joined = append(joined, f)
	}
	return joined
}
