package dirty

import (
	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/background"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

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
func (t *Tracker) copyBatches() {
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

// gather copies a run of pages together with others.
func (t *Tracker) gather(r procmem.Range) (err error) {
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
func (t *Tracker) flush() {
	if t.small != nil {
		t.batches <- t.small
		t.small = nil
	}
}

// freeBatch returns a batch that is not being copied, and waits for one if need be. It fails if
// the store did.
func (t *Tracker) freeBatch() (*batch, error) {
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
func (t *Tracker) finish(b *batch) error {
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
func (t *Tracker) drain() (err error) {
	t.flush()
	for len(t.free) < copyBatches {
		if ferr := t.finish(<-t.done); err == nil {
			err = ferr
		}
	}
	return err
}
