package packed

import (
	"cmp"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"sort"
	"sync"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
)

// Log compresses memory while it is being copied, into a file that becomes a core. Such a file
// can only be appended to, and the process goes on: appended pages may be stale by the moment
// that the core shows. But the memory of a core may lie in any order. So pages that are put
// again are kept in a store and appended in the end. No program header leads to their stale
// copies. Log is a destination of core.NewLogWriter.
type Log struct {
	file LogFile
	open func(head int64) *Writer
	head int64
	raw  *pageset.Store // pages that are not in the log

	appending sync.Mutex // held while something is appended; guards w and length
	w         *Writer
	length    int64 // plain bytes that have been appended

	mu     sync.Mutex
	ahead  bool
	places []pageset.Place // what the log has appended, ascending, disjoint; zeros between the pages
	end    int64           // end of the last place in the plain core
	logged pageset.Set     // pages of which the log has what was put last
	stale  pageset.Set     // pages of which the log has something else

	settled bool
	placed  pageset.Set // pages that stay where they are in the log

	reading sync.Mutex
	back    *Reader // reads what was appended before the log was settled
	rest    []byte  // plain bytes that are in no frame yet
	until   int64   // plain bytes that these two hold
}

// LogFile is the file of a Log.
type LogFile interface {
	io.Writer
	// ReadAt reads what has been written.
	io.ReaderAt
	// Overwrite replaces what has been written at off.
	Overwrite(p []byte, off int64) error
	// Rewind makes the file empty again.
	Rewind() error
}

const (
	// maxGap is how much missing memory, in bytes, is bridged by zeros. It keeps a sparse
	// mapping from being in a thousand pieces.
	maxGap = 1 << 20
	// maxPieces is how many pieces the log may be divided into. Beyond it, small pieces are
	// appended again, together with what is between them.
	maxPieces = 1024
)

// NewLog returns a log into an empty file. open returns the Writer to the file, which leaves
// room for head bytes at its front. store takes pages that are put again, and may be nil if
// none are put.
func NewLog(file LogFile, store *pageset.Store, open func(head int64) *Writer) *Log {
	if store == nil {
		store = pageset.NewStore(nil, nil, 0, 0)
	}
	return &Log{file: file, open: open, raw: store}
}

// Begin begins the log, with room for a head of so many bytes. head must be a multiple of the
// page size.
func (l *Log) Begin(head int64) {
	l.head = head
	l.begin()
}

func (l *Log) begin() {
	l.w = l.open(l.head)
	l.length, l.end = l.head, l.head
	l.places, l.back = nil, nil
	l.logged.Clear()
	l.stale.Clear()
}

// Ahead says whether pages that are put from now on are likely to stay as they are. At first
// they are not. Only likely pages are appended at once. The result is always true: a Log makes
// use of that.
func (l *Log) Ahead(likely bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ahead = likely
	return true
}

// Put takes whole pages. It is safe for concurrent use on different pages. It works best with
// ascending addresses. It fails with the error of the file or the store.
func (l *Log) Put(addr procmem.Addr, p []byte) error {
	r := procmem.Range{Start: addr, End: addr + procmem.Addr(len(p))}
	if done, err := l.append(r, p); done {
		return err
	}
	l.mu.Lock()
	l.logged.Remove(r)
	l.stale.Add(r)
	l.mu.Unlock()
	return l.raw.Put(addr, p)
}

// append appends r. done is false, and nothing is appended, where r is likely to change or the
// log has some of it already.
func (l *Log) append(r procmem.Range, p []byte) (done bool, err error) {
	l.appending.Lock()
	defer l.appending.Unlock()
	gap, ok := l.place(r)
	if !ok {
		return false, nil
	}
	l.length += gap + int64(len(p))
	if err := l.w.Zeros(gap); err != nil {
		return true, err
	}
	for len(p) > 0 {
		zeros := pageset.Run(true, p)
		if err := l.w.Zeros(int64(zeros)); err != nil {
			return true, err
		}
		n := pageset.Run(false, p[zeros:])
		if _, err := l.w.Write(p[zeros : zeros+n]); err != nil {
			return true, err
		}
		p = p[zeros+n:]
	}
	return true, nil
}

// place gives r a place at the end of the log, after a gap of zeros.
func (l *Log) place(r procmem.Range) (gap int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := l.find(r.Start)
	if !l.ahead || i < len(l.places) && l.places[i].Start < r.End {
		return 0, false
	}
	l.stale.Remove(r)
	l.logged.Add(r)
	if i > 0 {
		last := &l.places[i-1]
		if gap := r.Start - last.End; gap <= maxGap && int64(last.End)+last.Delta == l.end {
			last.End = r.End
			l.end += int64(gap) + int64(r.Size())
			return int64(gap), true
		}
	}
	l.places = slices.Insert(l.places, i, pageset.Place{Range: r, Delta: l.end - int64(r.Start)})
	l.end += int64(r.Size())
	return 0, true
}

// find returns the index of the first place that ends above addr.
func (l *Log) find(addr procmem.Addr) int {
	return sort.Search(len(l.places), func(i int) bool { return l.places[i].End > addr })
}

// Forget drops what was put in r. If the log then has nothing else, it begins again with an
// empty file.
func (l *Log) Forget(r procmem.Range) error {
	if err := l.raw.Forget(r); err != nil {
		return err
	}
	l.mu.Lock()
	for dropped := range l.logged.Ranges(r) {
		l.stale.Add(dropped.Intersect(r))
	}
	l.logged.Remove(r)
	l.mu.Unlock()
	if !l.useless() {
		return nil
	}
	l.appending.Lock()
	defer l.appending.Unlock()
	if !l.useless() { // another call may have begun it again
		return nil
	}
	l.w.Abort()
	if err := l.file.Rewind(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begin()
	return nil
}

// useless reports whether the log has only stale pages.
func (l *Log) useless() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.places) > 0 && l.logged.Len() == 0
}

// ReadAt reads what was put and not forgotten. Put must not be called meanwhile.
func (l *Log) ReadAt(p []byte, addr procmem.Addr) (int, error) {
	done := 0
	for done < len(p) {
		a := addr + procmem.Addr(done)
		r := procmem.Range{Start: a, End: a + procmem.Addr(len(p)-done)}
		if n, off := l.lookUp(r); n > 0 {
			m, err := l.readLog(p[done:done+n], off)
			if done += m; err != nil {
				return done, &procmem.FaultError{Addr: addr + procmem.Addr(done), Err: err}
			}
			continue
		}
		n := int(l.notLogged(r).Size())
		m, err := l.raw.ReadAt(p[done:done+n], a)
		if done += m; err != nil {
			return done, err
		}
	}
	return done, nil
}

// lookUp returns how many bytes of r, from its start on, are in one place of the log, and their
// offset in the plain core.
func (l *Log) lookUp(r procmem.Range) (n int, off int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.logged.Has(r.Start) {
		return 0, 0
	}
	at := l.places[l.find(r.Start)]
	r = r.Intersect(at.Range)
	for gap := range l.logged.Gaps(r) {
		r.End = min(r.End, gap.Start)
		break
	}
	return int(r.Size()), int64(r.Start) + at.Delta
}

// notLogged returns the part of r, from its start on, that is not in the log.
func (l *Log) notLogged(r procmem.Range) procmem.Range {
	l.mu.Lock()
	defer l.mu.Unlock()
	for have := range l.logged.Ranges(r) {
		r.End = min(r.End, have.Start)
		break
	}
	return r
}

// readLog reads plain bytes that were put. It may read fewer than len(p).
func (l *Log) readLog(p []byte, off int64) (int, error) {
	if err := l.readBack(); err != nil {
		return 0, err
	}
	framed := l.back.Size()
	if off >= framed {
		return copy(p, l.rest[off-framed:]), nil
	}
	return l.back.ReadAt(p[:min(int64(len(p)), framed-off)], off)
}

// readBack makes readable what was appended so far.
func (l *Log) readBack() (err error) {
	l.reading.Lock()
	defer l.reading.Unlock()
	if l.back != nil && (l.settled || l.until == l.length) {
		return nil
	}
	l.back, l.rest, err = l.w.reader(l.file)
	l.until = l.length
	return err
}

// Confirm compares the log with mem, the memory of the moment. It finds pages that were never
// put but hold data, for which the log has wrong zeros.
func (l *Log) Confirm(mem procmem.Sparse) {
	for _, at := range l.places {
		for gap := range l.logged.Gaps(at.Range) {
			for d, err := range mem.Data(gap) {
				if err != nil {
					d = gap
				}
				l.stale.Add(d)
			}
		}
	}
}

// Settle returns where the memory of ranges lies in the plain core. That is where the log has
// it, or after the log, in the order of addresses. Ranges must be ascending and disjoint. Each
// place lies in one of them. Put must not be called after Settle.
func (l *Log) Settle(ranges []procmem.Range) ([]pageset.Place, error) {
	if len(l.places) > 0 {
		if err := l.readBack(); err != nil {
			return nil, err
		}
	}
	var out []pageset.Place
	for unit := procmem.Addr(procmem.PageSize); ; unit *= 4 {
		var err error
		if out, err = l.settle(ranges, unit); err != nil {
			return nil, err
		}
		if len(out) <= maxPieces+2*len(ranges) {
			break
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.placed.Clear()
	for _, at := range out {
		if int64(at.End)+at.Delta <= l.length {
			for have := range l.logged.Ranges(at.Range) {
				l.placed.Add(have)
			}
		}
	}
	l.settled = true
	return out, nil
}

// settle is Settle for one granularity. It leaves in the log aligned blocks of unit bytes, and
// shorter ones at the ends of ranges.
func (l *Log) settle(ranges []procmem.Range, unit procmem.Addr) (out []pageset.Place, err error) {
	l.end = l.length
	grow := func(start, end procmem.Addr) {
		size := uint64(end - start)
		switch {
		case start >= end:
			return
		case size > uint64(math.MaxInt64-l.end):
			err = cmp.Or(err, fmt.Errorf("%v-%v would end beyond the largest file", start, end))
			return
		}
		out = append(out, pageset.Place{Range: procmem.Range{Start: start, End: end}, Delta: l.end - int64(start)})
		l.end += int64(size)
	}
	for _, r := range ranges {
		at := r.Start
		for i := l.find(r.Start); i < len(l.places) && l.places[i].Start < r.End; i++ {
			for good := range l.stale.Gaps(l.places[i].Intersect(r)) {
				if good.Start != r.Start {
					good.Start = (good.Start-1)&^(unit-1) + unit
				}
				if good.End != r.End {
					good.End &^= unit - 1
				}
				if good.Start >= good.End {
					continue
				}
				grow(at, good.Start)
				out = append(out, pageset.Place{Range: good, Delta: l.places[i].Delta})
				at = good.End
			}
		}
		grow(at, r.End)
	}
	return out, err
}

// Lacks yields the runs of pages inside r that have a place by Settle, but that the log does
// not have.
func (l *Log) Lacks(r procmem.Range) iter.Seq[procmem.Range] { return l.placed.Gaps(r) }

// Held yields the runs of pages inside r that were put and not forgotten.
func (l *Log) Held(r procmem.Range) iter.Seq[procmem.Range] {
	return func(yield func(procmem.Range) bool) {
		var all pageset.Set
		l.mu.Lock()
		for have := range l.logged.Ranges(r) {
			all.Add(have)
		}
		l.mu.Unlock()
		for have := range l.raw.Held(r) {
			all.Add(have)
		}
		all.Ranges(r)(yield)
	}
}

// End returns the offset in the plain core at which the memory ends.
func (l *Log) End() int64 { return l.end }

// Len returns how many plain bytes Put has appended, including the head.
func (l *Log) Len() int64 { return l.length }

// Bytes returns how many bytes of memory were put. After Settle, it returns how many of them
// stay.
func (l *Log) Bytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.settled {
		return int64(l.placed.Len() * procmem.PageSize)
	}
	return int64(l.logged.Len()*procmem.PageSize) + l.raw.Bytes()
}

// Write appends what is not memory, or was not put.
func (l *Log) Write(p []byte) (int, error) { return l.w.Write(p) }

// Zeros appends zeros.
func (l *Log) Zeros(n int64) error { return l.w.Zeros(n) }

// WriteHead writes the head.
func (l *Log) WriteHead(p []byte) error { return l.file.Overwrite(EncodeHead(p), 0) }

// Written returns the length of the file so far, in bytes.
func (l *Log) Written() int64 { return l.w.Written() }

// Close completes the file, but does not close it.
func (l *Log) Close() error { return l.w.Close() }

// Abort ends a log that Close has not ended.
func (l *Log) Abort() {
	if l.w != nil {
		l.w.Abort()
	}
}
