package dirty

import (
	"sync"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/background"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// copier copies memory of a running process into a store, and knows what it has copied.
type copier struct {
	view    *process.View
	store   Store
	anew    []procmem.Range // memory of which the next round copies all, protected or not
	Copied  pageset.Set     // pages that were copied as they were when they were protected
	Zero    pageset.Set     // pages of Copied that are zeros, and not in the store
	Stored  pageset.Set     // pages that were put into the store, trusted or not
	batches chan *batch     // to the copying threads
	done    chan *batch     // from them
	free    []*batch
	small   *batch // being filled with runs; nil for none
	rounds  int    // number of complete rounds

	reading sync.Mutex
	putting sync.Mutex // held while the store works ahead; locked before reading is unlocked, so that batches stay in order
	ahead   bool       // the store works at once on what is put, in the order of addresses
}

const (
	copyBatch = 2 << 20
	// copyThreads is the number of batches that are copied at once: one is read while another
	// is written. One batch more is being filled.
	copyThreads = 2
	copyBatches = copyThreads + 1
	// smallRun is the size from which reading a run of pages together with others is of no use.
	smallRun = 128 << 10
)

// start starts the copying threads. They end with stop.
func (t *copier) start(view *process.View, store Store) {
	t.view, t.store = view, store
	t.batches, t.done = make(chan *batch), make(chan *batch, copyBatches)
	for range copyBatches {
		t.free = append(t.free, new(batch))
	}
	for range copyThreads {
		go t.copyBatches()
	}
}

func (t *copier) stop() { close(t.batches) }

// WorkAhead tells the store whether pages that are put from now on are likely to stay as they
// are.
func (t *copier) WorkAhead(likely bool) {
	s, ok := t.store.(interface{ Ahead(likely bool) bool })
	t.ahead = ok && s.Ahead(likely) && likely
}

// Ahead reports whether the store works on pages as soon as they are put.
func (t *copier) Ahead() bool { return t.ahead }

// forget notes that nothing is known of r.
func (t *copier) forget(r procmem.Range) {
	t.Copied.Remove(r)
	t.Zero.Remove(r)
}

// batch is memory that is copied at once: one run of pages, or many small ones that the process
// has written.
type batch struct {
	runs   []procmem.Range
	size   uint64         // of all runs, in bytes
	copied []uint64       // bytes copied of each run
	soon   bool           // the process is writing again until this is copied, so it is done at normal priority
	ahead  bool           // the store wants it in the order of addresses
	mem    procmem.Memory // what to read from; nil: the process itself
	err    error          // of the store
}

func (b *batch) add(r procmem.Range) {
	b.runs = append(b.runs, r)
	b.size += r.Size()
}

// read reads the runs into buf. Each follows the room for the one before it.
func (b *batch) read(v *process.View, buf []byte) {
	b.copied = b.copied[:0]
	if b.mem != nil {
		n, _ := b.mem.ReadAt(buf[:b.size], b.runs[0].Start)
		b.copied = append(b.copied, uint64(n)&^(procmem.PageSize-1))
		return
	}
	together := 0
	if len(b.runs) > 1 {
		together = v.ReadWritten(buf[:b.size], b.runs)
	}
	for _, r := range b.runs {
		n := int(r.Size())
		if together -= n; together < 0 {
			n, _ = v.ReadPresent(buf[:n], r.Start)
		}
		b.copied = append(b.copied, uint64(n)&^(procmem.PageSize-1))
		buf = buf[r.Size():]
	}
}

// put puts what was read into the store.
func (b *batch) put(store Store, buf []byte) {
	b.err = nil
	for i, r := range b.runs {
		if n := b.copied[i]; n > 0 && b.err == nil {
			b.err = store.Put(r.Start, buf[:n])
		}
		buf = buf[r.Size():]
	}
}

// copyBatches copies one batch after the other. The first round writes its batches in the
// background. Reading is not in the background, because a reader holds the lock of the address
// space. If it waited for a processor, the process would wait, too.
func (t *copier) copyBatches() {
	thread := background.New()
	defer thread.Close()
	buf := sys.Aligned(copyBatch)
	for {
		t.reading.Lock() // one at a time leaves the other processors to the process
		b, more := <-t.batches
		if !more {
			t.reading.Unlock()
			return
		}
		b.read(t.view, buf)
		if b.ahead {
			t.putting.Lock()
		}
		t.reading.Unlock()
		if b.soon {
			b.put(t.store, buf)
		} else {
			thread.Do(func() { b.put(t.store, buf) })
		}
		if b.ahead {
			t.putting.Unlock()
		}
		t.done <- b
	}
}

// copyRun copies a run of pages. mem is what to read them from, or nil for the process itself.
func (t *copier) copyRun(r procmem.Range, mem procmem.Memory) error {
	for !r.Empty() {
		b, err := t.freeBatch()
		if err != nil {
			return err
		}
		b.mem = mem
		b.add(procmem.Range{Start: r.Start, End: r.Start + procmem.Addr(min(r.Size(), copyBatch))})
		r.Start += procmem.Addr(b.size)
		t.batches <- b
	}
	return nil
}

// gather copies a run of pages together with others.
func (t *copier) gather(r procmem.Range) (err error) {
	if t.small != nil && (t.small.size+r.Size() > copyBatch || len(t.small.runs) == maxTogether) {
		t.flush()
	}
	if t.small == nil {
		if t.small, err = t.freeBatch(); err != nil {
			return err
		}
	}
	t.small.add(r)
	return nil
}

// maxTogether bounds the number of runs that are read together. The first of them may be
// written again while it waits for the last.
const maxTogether = 512

// flush begins to copy what was gathered.
func (t *copier) flush() {
	if t.small != nil {
		t.batches <- t.small
		t.small = nil
	}
}

// freeBatch returns a batch that is not being copied, and waits for one if need be. It fails if
// the store did.
func (t *copier) freeBatch() (*batch, error) {
	for len(t.free) == 0 {
		if err := t.finish(<-t.done); err != nil {
			return nil, err
		}
	}
	k := len(t.free) - 1
	b := t.free[k]
	t.free = t.free[:k]
	b.runs, b.size, b.mem = b.runs[:0], 0, nil
	b.soon, b.ahead = t.rounds > 0, t.ahead
	return b, nil
}

// finish takes note of what has been copied. It returns the error of the store.
func (t *copier) finish(b *batch) error {
	t.free = append(t.free, b)
	for i, r := range b.runs {
		end := r.Start + procmem.Addr(b.copied[i])
		t.Copied.Add(procmem.Range{Start: r.Start, End: end})
		t.Stored.Add(procmem.Range{Start: r.Start, End: end})
		if end < r.End && b.mem == nil { // most likely the page has vanished again
			t.anew = append(t.anew, procmem.Range{Start: end, End: r.End})
		}
	}
	return b.err
}

// drain waits for all that is being copied. It returns the first error of the store.
func (t *copier) drain() (err error) {
	t.flush()
	for len(t.free) < copyBatches {
		if ferr := t.finish(<-t.done); err == nil {
			err = ferr
		}
	}
	return err
}
