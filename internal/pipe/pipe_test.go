package pipe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/procmem/procmem"
)

const page = procmem.PageSize

var errBad = errors.New("a page that cannot be read")

// memory holds at each address a byte that follows from the address.
type memory struct {
	bad    func(procmem.Addr) error // of a page, where it is not nil
	before func(procmem.Addr)       // each read
	reads  atomic.Int64
	shared []byte // in place of what follows from addresses, to be quick
}

func (m *memory) Mappings() ([]procmem.Mapping, error) { return nil, nil }

func (m *memory) ReadAt(p []byte, addr procmem.Addr) (int, error) {
	m.reads.Add(1)
	if m.before != nil {
		m.before(addr)
	}
	if m.shared != nil {
		return copy(p, m.shared), nil
	}
	for i := 0; i < len(p); {
		a := addr + procmem.Addr(i)
		if m.bad != nil {
			if err := m.bad(a.PageDown()); err != nil {
				return i, &procmem.FaultError{Addr: a, Err: err}
			}
		}
		for end := min(len(p), i+int(page-a%page)); i < end; i++ {
			p[i] = byteAt(addr + procmem.Addr(i))
		}
	}
	return len(p), nil
}

// byteAt is zero in two pages of seven.
func byteAt(a procmem.Addr) byte {
	if a/page%7 < 2 {
		return 0
	}
	return byte(a*0x9e3779b97f4a7c15>>56) | 1
}

func rng(start, end procmem.Addr) procmem.Range { return procmem.Range{Start: start, End: end} }

// planned yields extents without a Delta.
func planned(ranges ...procmem.Range) iter.Seq[Extent] {
	return func(yield func(Extent) bool) {
		for _, r := range ranges {
			if !yield(Extent{Range: r}) {
				return
			}
		}
	}
}

// scattered yields n extents of a page, each step pages behind the last.
func scattered(n, step int) iter.Seq[Extent] {
	return func(yield func(Extent) bool) {
		for i := range n {
			a := 0x10000 + procmem.Addr(i*step)*page
			if !yield(Extent{Range: rng(a, a+page)}) {
				return
			}
		}
	}
}

func offset(p []byte) uint64 { return uint64(reflect.ValueOf(p).Pointer()) }

// sameMemory checks the bytes of a piece.
func (p Piece) sameMemory() error {
	for i, b := range p.Bytes {
		if a := p.Addr + procmem.Addr(i); b != byteAt(a) {
			return fmt.Errorf("%#x at %v; want %#x", b, a, byteAt(a))
		}
	}
	return nil
}

func TestEmitIsInOrder(t *testing.T) {
	const blocks = 24
	whole := rng(0x10000, 0x10000+blocks*BlockSize+3*page)
	var each atomic.Int64
	at, emitted := whole.Start, 0
	_, err := New().Run(t.Context(), &memory{}, planned(whole), Work{
		Each: func(b *Block) error {
			// Later blocks are often done before earlier ones.
			for range each.Add(1) * 7 % 3 {
				runtime.Gosched()
			}
			return nil
		},
		Emit: func(b *Block) error {
			emitted++
			for _, p := range b.Pieces {
				if p.Addr != at {
					return fmt.Errorf("a piece at %v follows the end of another at %v", p.Addr, at)
				}
				if err := p.sameMemory(); err != nil {
					return err
				}
				at = p.end()
			}
			return nil
		},
	})
	if err != nil || at != whole.End || each.Load() != int64(emitted) || emitted != blocks+1 {
		t.Fatalf("%v; %v of %v in %d blocks, of which %d were worked on; want %d", err, at, whole, emitted, each.Load(), blocks+1)
	}
}

// A block whose turn has not come may be read and worked on, and waits.
func TestLaterBlocksAreReadMeanwhile(t *testing.T) {
	const first = procmem.Addr(0x10000)
	later := make(chan struct{})
	var once sync.Once
	mem := &memory{before: func(a procmem.Addr) {
		if a == first {
			<-later // deadlocks unless another reader goes on
		}
	}}
	var order []procmem.Addr
	_, err := New().Run(t.Context(), mem, planned(rng(first, first+6*BlockSize)), Work{
		Each: func(b *Block) error {
			if b.Pieces[0].Addr != first {
				once.Do(func() { close(later) })
			}
			return nil
		},
		Emit: func(b *Block) error {
			order = append(order, b.Pieces[0].Addr)
			return nil
		},
	})
	if err != nil || len(order) != 6 || !slices.IsSorted(order) {
		t.Fatalf("%v, %v", order, err)
	}
}

// Two blocks at least are worked on at once.
func TestEachInParallel(t *testing.T) {
	meet := make(chan struct{})
	_, err := New().Run(t.Context(), &memory{}, planned(rng(0, 2*BlockSize)), Work{Each: func(*Block) error {
		select {
		case meet <- struct{}{}: // whichever comes first waits for the other
		case <-meet:
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
}

// Who is slow holds up the others: not all that is planned is read at once.
func TestSlowEmitHoldsUpReaders(t *testing.T) {
	p, mem := New(), &memory{shared: make([]byte, BlockSize)}
	const blocks = 100
	emitted := int64(0)
	_, err := p.Run(t.Context(), mem, planned(rng(0, blocks*BlockSize)), Work{Emit: func(*Block) error {
		if ahead := mem.reads.Load() - emitted; ahead > int64(cap(p.blocks)) {
			return fmt.Errorf("%d blocks are read ahead, and there are %d", ahead, cap(p.blocks))
		}
		emitted++
		return nil
	}})
	if err != nil || emitted != blocks {
		t.Fatalf("%d blocks, %v", emitted, err)
	}
}

func TestFirstErrorEndsAll(t *testing.T) {
	errWork := errors.New("no room")
	for _, where := range []string{"Each", "Emit"} {
		t.Run(where, func(t *testing.T) {
			p, mem := New(), &memory{shared: make([]byte, BlockSize)}
			var calls atomic.Int64
			fail := func(*Block) error {
				if calls.Add(1) >= 3 {
					return errWork
				}
				return nil
			}
			w := Work{Emit: fail}
			if where == "Each" {
				w = Work{Each: fail, Emit: func(b *Block) error {
					if b.err != nil {
						t.Error("a block that failed is emitted")
					}
					return nil
				}}
			}
			endless := func(yield func(Extent) bool) {
				for a := procmem.Addr(0); yield(Extent{Range: rng(a, a+page)}); a += BlockSize {
				}
			}
			faults, err := p.Run(t.Context(), mem, endless, w)
			if err != errWork || faults != nil {
				t.Fatalf("%v, %v; want %v", faults, err, errWork)
			}
			after := mem.reads.Load()
			if len(p.blocks) != cap(p.blocks) || mem.reads.Load() != after {
				t.Errorf("%d of %d blocks are free", len(p.blocks), cap(p.blocks))
			}
			again(t, p)
		})
	}
}

// again runs a pipe that was run before.
func again(t *testing.T, p *Pipe) {
	t.Helper()
	at := procmem.Addr(page)
	end := at + 5*BlockSize
	faults, err := p.Run(t.Context(), &memory{}, planned(rng(at, end)), Work{Emit: func(b *Block) error {
		for _, x := range b.Pieces {
			if x.Addr != at {
				return fmt.Errorf("a piece at %v; want %v", x.Addr, at)
			}
			at = x.end()
			if err := x.sameMemory(); err != nil {
				return err
			}
		}
		return nil
	}})
	if err != nil || len(faults) > 0 || at != end {
		t.Fatalf("again: %v, %v, up to %v of %v", faults, err, at, end)
	}
}

func TestContextEnds(t *testing.T) {
	why := errors.New("enough")
	for name, emit := range map[string]bool{"Each": false, "Emit": true} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			p := New()
			var calls atomic.Int64
			work := func(*Block) error {
				if calls.Add(1) == 4 {
					cancel(why)
				}
				return nil
			}
			w := Work{Each: work}
			if emit {
				w = Work{Emit: work}
			}
			endless := func(yield func(Extent) bool) {
				for a := procmem.Addr(0); yield(Extent{Range: rng(a, a+page)}); a += BlockSize {
				}
			}
			if _, err := p.Run(ctx, &memory{}, endless, w); err != why {
				t.Fatalf("%v; want %v", err, why)
			}
			if n := calls.Load(); n > 4+int64(cap(p.blocks)) {
				t.Errorf("%d blocks were worked on", n)
			}
			again(t, p)
		})
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	mem := &memory{}
	if _, err := New().Run(ctx, mem, scattered(10, 1), Work{}); err != why || mem.reads.Load() > 0 {
		t.Errorf("with a context that has ended: %v and %d reads; want %v", err, mem.reads.Load(), why)
	}
}

// There are a few blocks, whatever is carried.
func TestBlocksAreUsedAgain(t *testing.T) {
	p, mem := New(), &memory{shared: make([]byte, BlockSize)}
	for _, emit := range []bool{false, true} {
		carry := func(blocks procmem.Addr) {
			nothing := func(*Block) error { return nil }
			w := Work{Each: nothing}
			if emit {
				w.Emit = nothing
			}
			// Of several parts and pieces each.
			plan := func(yield func(Extent) bool) {
				for a := procmem.Addr(0); a < blocks*BlockSize; a += BlockSize / 16 {
					if !yield(Extent{Range: rng(a, a+page)}) {
						return
					}
				}
			}
			if _, err := p.Run(t.Context(), mem, plan, w); err != nil {
				t.Fatal(err)
			}
		}
		for range 5 { // every block has its slices then, unless one never had a turn
			carry(64)
		}
		few := testing.AllocsPerRun(5, func() { carry(16) })
		many := testing.AllocsPerRun(5, func() { carry(1016) })
		// What is left is that of a run itself.
		if more := (many - few) / 1000; more > 0.1 {
			t.Errorf("emit %v: %.2f allocations for each block, %.0f for 16 of them", emit, more, few)
		}
	}
}

// Scattered pages do not cost a block each.
func TestSmallExtentsAreGathered(t *testing.T) {
	for _, c := range []struct{ n, step, blocks int }{
		{1024, 2, 4}, // 2048 pages of memory
		{1024, 1, 2}, // neighbours
		{8, 512, 8},  // too far from each other
		{10, 511, 5}, // two are just 512 pages
	} {
		blocks, total, mem := 0, 0, &memory{}
		_, err := New().Run(t.Context(), mem, scattered(c.n, c.step), Work{Emit: func(b *Block) error {
			blocks++
			for _, p := range b.Pieces {
				total += len(p.Bytes)
				if err := p.sameMemory(); err != nil {
					return err
				}
			}
			if c.step == 1 && len(b.Pieces) != 1 {
				return fmt.Errorf("%d pieces of neighbours", len(b.Pieces))
			}
			return nil
		}})
		if err != nil || blocks != c.blocks || total != c.n*page {
			t.Errorf("%d pages, each %d behind the last: %d bytes in %d blocks, want %d, %v", c.n, c.step, total, blocks, c.blocks, err)
		}
	}
	// Extents for different places do not share a block.
	a := procmem.Addr(0x10000)
	var deltas []int64
	_, err := New().Run(t.Context(), &memory{}, func(yield func(Extent) bool) {
		_ = yield(Extent{rng(a, a+page), 5, nil}) && yield(Extent{rng(a+page, a+2*page), 5, nil}) && yield(Extent{rng(a+2*page, a+3*page), 6, nil})
	}, Work{Emit: func(b *Block) error {
		deltas = append(deltas, b.Delta)
		return nil
	}})
	if err != nil || !slices.Equal(deltas, []int64{5, 6}) {
		t.Errorf("blocks for %v, %v", deltas, err)
	}
}

func TestFaults(t *testing.T) {
	other := errors.New("another reason")
	base := procmem.Addr(BlockSize)
	last := base + 4*BlockSize
	bad := func(a procmem.Addr) error {
		switch {
		case a == base: // the first page
			return errBad
		case a >= base+BlockSize-2*page && a < base+BlockSize+2*page: // across two blocks
			return errBad
		case a == base+BlockSize+2*page:
			return other
		case a == last-page:
			return errBad
		}
		return nil
	}
	p := New()
	for _, emit := range []bool{false, true} {
		var mu sync.Mutex
		total := 0
		work := func(b *Block) error {
			mu.Lock()
			defer mu.Unlock()
			for _, x := range b.Pieces {
				total += len(x.Bytes)
				if err := x.sameMemory(); err != nil {
					return err
				}
			}
			return nil
		}
		w := Work{Each: work}
		if emit {
			w = Work{Emit: work}
		}
		// One that is known, and touches what is found out.
		plan := func(yield func(Extent) bool) {
			_ = yield(Extent{Range: rng(base, last)}) &&
				yield(Extent{Range: rng(last, last+3*page), Err: &procmem.FaultError{Addr: last, Err: errBad}}) &&
				yield(Extent{Range: rng(last+4*page, last+5*page)})
		}
		faults, err := p.Run(t.Context(), &memory{bad: bad}, plan, w)
		want := []procmem.Fault{
			{Range: rng(base, base+page), Err: errBad},
			{Range: rng(base+BlockSize-2*page, base+BlockSize+2*page), Err: errBad},
			{Range: rng(base+BlockSize+2*page, base+BlockSize+3*page), Err: other},
			{Range: rng(last-page, last+3*page), Err: errBad},
		}
		if err != nil || !slices.Equal(faults, want) || total != 4*BlockSize-7*page+page {
			t.Errorf("%v, %v, %d bytes; want %v", faults, err, total, want)
		}
	}
}

// Neighbours are one, with the reason of the first.
func TestJoin(t *testing.T) {
	a, b := errors.New("frame 1"), errors.New("frame 2")
	got := Join([]procmem.Fault{{Range: rng(1, 2), Err: a}, {Range: rng(2, 5), Err: b}, {Range: rng(5, 6), Err: a}, {Range: rng(7, 8), Err: b}})
	if len(got) != 2 || got[0].Range != rng(1, 6) || got[0].Err.Error() != "frame 1 (and 2 more behind it)" || !errors.Is(got[0].Err, a) ||
		got[1].Range != rng(7, 8) || got[1].Err != b {
		t.Errorf("joined: %v", got)
	}
	if got := Join(nil); got != nil {
		t.Errorf("of nothing: %v", got)
	}
}

// No extent needs to begin or end at a page, as those of packed files do not.
func TestUnaligned(t *testing.T) {
	defer notEndless(t)()
	for _, r := range []procmem.Range{
		rng(1, 2), rng(page-1, page+1), rng(page+1, page+BlockSize), rng(page+1, page+1+BlockSize),
		rng(page+100, page+3*BlockSize+5), rng(BlockSize-1, 3*BlockSize), rng(^procmem.Addr(0)-2*BlockSize, ^procmem.Addr(0)),
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		at := r.Start
		_, err := New().Run(ctx, &memory{}, planned(r), Work{Emit: func(b *Block) error {
			if len(b.parts) > 2 {
				return fmt.Errorf("%d parts of one extent", len(b.parts))
			}
			for _, p := range b.Pieces {
				if p.Addr != at {
					return fmt.Errorf("a piece at %v; want %v", p.Addr, at)
				}
				at = p.end()
				if err := p.sameMemory(); err != nil {
					return err
				}
			}
			return nil
		}})
		cancel(nil)
		if err != nil || at != r.End {
			t.Errorf("%v: up to %v, %v", r, at, err)
		}
	}
}

// notEndless ends the tests where they take more and more memory, until what it
// returns is called.
func notEndless(t *testing.T) (stop func()) {
	done, name := make(chan struct{}), t.Name()
	go func() {
		for {
			var m runtime.MemStats
			if runtime.ReadMemStats(&m); m.HeapAlloc > 1<<30 {
				panic(name + " does not end")
			}
			select {
			case <-done:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	return func() { close(done) }
}

// Buffers are fit for direct I/O wherever the memory is.
func TestPiecesAreAligned(t *testing.T) {
	_, err := New().Run(t.Context(), &memory{}, scattered(3000, 3), Work{Each: func(b *Block) error {
		for _, p := range b.Pieces {
			if offset(p.Bytes)%page != uint64(p.Addr%page) {
				return fmt.Errorf("piece %v lies at %#x", p.Addr, offset(p.Bytes))
			}
		}
		return nil
	}})
	if err != nil {
		t.Error(err)
	}
}

func TestData(t *testing.T) {
	zeros, data := make([]byte, page), bytes.Repeat([]byte{1}, page)
	sparse := slices.Clone(zeros)
	sparse[page-1] = 1
	for _, c := range []struct {
		pages [][]byte
		want  string
	}{
		{nil, ""},
		{[][]byte{zeros}, ""},
		{[][]byte{data}, "0+1 "},
		{[][]byte{sparse}, "0+1 "},
		{[][]byte{zeros, data, sparse, zeros, zeros, data}, "1+2 5+1 "},
		{[][]byte{data, zeros}, "0+1 "},
	} {
		const addr = procmem.Addr(0x7000)
		got := ""
		for d := range (Piece{addr, slices.Concat(c.pages...)}).Data() {
			got += fmt.Sprintf("%d+%d ", (d.Addr-addr)/page, len(d.Bytes)/page)
		}
		if got != c.want {
			t.Errorf("%q; want %q", got, c.want)
		}
	}
	// The end may be a part of a page.
	for d := range (Piece{0, append(slices.Clone(zeros), 1, 0, 0)}).Data() {
		if d.Addr != page || len(d.Bytes) != 3 {
			t.Errorf("%v, %d bytes", d.Addr, len(d.Bytes))
		}
	}
}

// Whatever is planned arrives as a plain copy would have it.
func TestLikeNaiveCopy(t *testing.T) {
	p := New()
	for seed := range uint64(24) {
		random := rand.New(rand.NewPCG(seed, 0))
		p.Background = seed%3 == 0
		var plan []Extent
		shift := random.IntN(10) // the size of things
		a := procmem.Addr(random.IntN(1<<20)) * page
		for range 1 + random.IntN(200) {
			x := Extent{Range: rng(a, a+procmem.Addr(1+random.IntN(1<<shift))*page)}
			if random.IntN(8) == 0 { // a part of a page, at the end of a file
				x.End -= procmem.Addr(random.IntN(page))
			}
			if random.IntN(4) == 0 {
				x.Delta = int64(random.IntN(3)) << 40
			}
			if random.IntN(10) == 0 {
				x.Err = errBad
			}
			plan = append(plan, x)
			if a = (x.End + page - 1).PageDown(); random.IntN(3) > 0 {
				a += procmem.Addr(random.IntN(1<<shift)) * page
			}
			if a-plan[0].Start > 12<<20 {
				break
			}
		}
		mem := &memory{bad: func(a procmem.Addr) error {
			if (a/page*0x9e3779b97f4a7c15>>40+procmem.Addr(seed))%37 == 0 {
				return errBad
			}
			return nil
		}}
		type place struct {
			delta int64
			addr  procmem.Addr
		}
		want, missing := map[place]bool{}, map[procmem.Addr]bool{}
		var bytesWanted uint64
		for _, x := range plan {
			for a := x.Start; a < x.End; a += page {
				if x.Err != nil || mem.bad(a) != nil {
					missing[a] = true
				} else {
					want[place{x.Delta, a}] = true
					bytesWanted += uint64(min(page, x.End-a))
				}
			}
		}
		var mu sync.Mutex
		var n uint64
		check := func(b *Block) error {
			mu.Lock()
			defer mu.Unlock()
			for _, x := range b.Pieces {
				n += uint64(len(x.Bytes))
				for a := x.Addr; a < x.end(); a += page {
					if k := (place{b.Delta, a}); !want[k] {
						return fmt.Errorf("page %v, Delta %#x: twice, or for nothing", a, b.Delta)
					} else {
						delete(want, k)
					}
				}
				if err := x.sameMemory(); err != nil {
					return err
				}
			}
			return nil
		}
		w := Work{Each: check}
		if seed%2 == 0 {
			w = Work{Emit: check}
		}
		faults, err := p.Run(t.Context(), mem, slices.Values(plan), w)
		if err != nil || len(want) > 0 || n != bytesWanted {
			t.Fatalf("seed %d: %v, %d pages are missing, %d bytes of %d", seed, err, len(want), n, bytesWanted)
		}
		for i, f := range faults {
			if i > 0 && f.Start <= faults[i-1].End && (f.Start < faults[i-1].End || f.Err == faults[i-1].Err) {
				t.Fatalf("seed %d: %v after %v", seed, f, faults[i-1])
			}
			for a := f.Start; a < f.End; a += page {
				if !missing[a] {
					t.Fatalf("seed %d: %v can be read", seed, a)
				}
				delete(missing, a)
			}
		}
		if len(missing) > 0 {
			t.Fatalf("seed %d: %d pages are in no fault", seed, len(missing))
		}
	}
}

// With an overlap a block also holds what follows it, as far as there is no gap,
// and what it owns is in no other.
func TestOverlap(t *testing.T) {
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 2))
		var plan []Extent
		planned, bad := map[procmem.Addr]bool{}, map[procmem.Addr]bool{}
		a := procmem.Addr(random.IntN(100)) * page
		if random.IntN(4) == 0 {
			a = ^procmem.Addr(100*page - 1)
		}
		for range 1 + random.IntN(20) {
			x := Extent{Range: rng(a, a+1+procmem.Addr(random.IntN(4*page)))}
			plan = append(plan, x)
			for i := x.Start; i < x.End; i++ {
				planned[i] = true
			}
			if a = x.End; random.IntN(2) == 0 {
				a += procmem.Addr(random.IntN(page))
			}
			if random.IntN(4) == 0 {
				bad[a.PageDown()] = true
			}
		}
		p := New()
		p.Size, p.Overlap = page<<random.IntN(3), 1+random.IntN(3*page)
		there := func(a procmem.Addr) bool { return planned[a] && !bad[a.PageDown()] }
		owned := map[procmem.Addr]bool{}
		mem := &memory{bad: func(a procmem.Addr) error {
			if bad[a] {
				return errBad
			}
			return nil
		}}
		faults, err := p.Run(t.Context(), mem, slices.Values(plan), Work{Emit: func(b *Block) error {
			if b.Follows != planned[b.First-1] || !planned[b.First] {
				return fmt.Errorf("block at %v: follows %v", b.First, b.Follows)
			}
			var last procmem.Addr
			held := map[procmem.Addr]bool{}
			for _, x := range b.Pieces {
				if err := x.sameMemory(); err != nil {
					return err
				}
				for a := x.Addr; a < x.end(); a++ {
					held[a] = true
					if last = a; a > b.Last {
						continue
					}
					if owned[a] {
						return fmt.Errorf("%v is in two blocks", a)
					}
					owned[a] = true
				}
			}
			// All that follows without a gap in the plan.
			for a := b.Last + 1; planned[b.Last] && planned[a] && a-b.Last <= procmem.Addr(p.Overlap); a++ {
				if there(a) != held[a] {
					return fmt.Errorf("%v is not in the overlap of the block that ends at %v", a, b.Last)
				}
			}
			if last > b.Last && last-b.Last > procmem.Addr(p.Overlap) {
				return fmt.Errorf("%v is in the block that ends at %v", last, b.Last)
			}
			return nil
		}})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for a := range planned {
			if there(a) != owned[a] {
				t.Fatalf("seed %d: %v is in no block", seed, a)
			}
		}
		for i, f := range faults {
			if i > 0 && f.Start <= faults[i-1].End {
				t.Fatalf("seed %d: fault at %v after that at %v", seed, f.Range, faults[i-1].Range)
			}
			for a := f.Start; a < f.End; a++ {
				if !planned[a] || there(a) {
					t.Fatalf("seed %d: %v is no fault", seed, a)
				}
				delete(planned, a)
			}
		}
		for a := range planned {
			if !there(a) {
				t.Fatalf("seed %d: %v is in no fault", seed, a)
			}
		}
	}
}
