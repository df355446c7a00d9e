package core

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"os"
	"slices"
	"sync"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/checksums"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/pipe"
)

// Verdict is the result of Verify.
type Verdict struct {
	// Checked says whether the core has checksums. Without them, Verify finds only memory that
	// the file promises and does not hold, and what cannot be read.
	Checked     bool
	MemoryBytes uint64   // memory that was looked at, in bytes, holes included
	Damaged     []Damage // notes and headers first, then memory, ascending
}

// Verify compares the core with the checksums in it: each page, the notes, and the headers. A
// core without checksums is only read, which a disk or a compressed file may refuse. If
// progress is not nil, several goroutines call it with the bytes of memory that were read since
// the last call. Verify fails only with the cause of ctx.
func (f *File) Verify(ctx context.Context, progress func(n int)) (*Verdict, error) {
	v := &verifier{f: f, progress: progress}
	v.Checked = f.sums != fileRange{}
	if v.Checked {
		v.load()
	}
	v.cutOff()
	v.broken()
	if err := v.memory(ctx); err != nil {
		return nil, err
	}
	slices.SortStableFunc(v.Damaged, func(a, b Damage) int { return cmp.Compare(a.Start, b.Start) })
	v.join()
	return &v.Verdict, nil
}

type verifier struct {
	f *File
	Verdict
	sums     *checksums.Pages // nil if there are no usable ones
	progress func(n int)

	mu sync.Mutex // guards Damaged
}

func (v *verifier) damaged(d Damage) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.Damaged = append(v.Damaged, d)
}

// load reads the checksums, and compares all parts but memory.
func (v *verifier) load() {
	f := v.f
	spans, sums, err := checksums.Read(f.r, f.sums.off, f.sums.end-f.sums.off, f.dumps)
	if err != nil {
		v.damaged(Damage{Offset: f.sums.off, Size: f.sums.end - f.sums.off, Err: err})
		return
	}
	v.sums = sums
	for _, d := range f.damagedSpans(spans) {
		v.damaged(d)
	}
}

// dumps reports whether the core promises the bytes of all of r.
func (f *File) dumps(r procmem.Range) bool {
	for i := f.find(r.Start); i < len(f.segs) && f.segs[i].Start <= r.Start; i++ {
		if r.Start = f.segs[i].dumped; r.Start >= r.End {
			return true
		}
	}
	return false
}

// cutOff notes the memory that the file ends before.
func (v *verifier) cutOff() {
	f := v.f
	for _, r := range f.Truncated() {
		v.damaged(Damage{Range: r.Range, Err: procmem.ErrTruncated})
	}
}

// broken notes the damage that opening the file has shown, unless it is inside a part that is
// already noted.
func (v *verifier) broken() {
	known := v.Damaged
	for _, b := range v.f.broken {
		if !slices.ContainsFunc(known, func(d Damage) bool {
			return d.Empty() && b.Offset >= d.Offset && b.Offset+b.Size <= d.Offset+d.Size
		}) {
			v.damaged(b)
		}
	}
}

// memory reads each page that is not a hole of the file, compares it, and looks for holes where
// there should be none.
func (v *verifier) memory(ctx context.Context) error {
	raw := &File{r: v.f.r, size: v.f.size, segs: v.f.segs} // missing memory is zeros in the file
	if f, ok := raw.r.(*os.File); ok {
		c := newCold(f, raw.size)
		defer c.close()
		raw.r = c
	}
	plan := func(yield func(pipe.Extent) bool) {
		for _, s := range raw.segs {
			at, end := s.Start, min(s.dumped, s.inFile(raw.size))
			for r, _ := range dataOf(raw, procmem.Range{Start: at, End: end}) { // blocks of a disk may be smaller than a page
				v.zeros(procmem.Range{Start: at, End: r.Start})
				if !yield(pipe.Extent{Range: r}) {
					return
				}
				at = r.End
			}
			v.zeros(procmem.Range{Start: at, End: end})
			if end > s.Start {
				v.MemoryBytes += uint64(end - s.Start)
			}
		}
	}
	faults, err := pipe.New().Run(ctx, raw, plan, pipe.Work{Each: func(b *pipe.Block) error {
		for _, p := range b.Pieces {
			v.compare(p)
			if v.progress != nil {
				v.progress(len(p.Bytes))
			}
		}
		return nil
	}})
	for _, x := range pipe.Join(faults) {
		v.damaged(Damage{Range: x.Range, Err: x.Err})
	}
	return err
}

// zeros compares a hole of the file.
func (v *verifier) zeros(r procmem.Range) {
	if r.Empty() || v.sums == nil {
		return
	}
	for x := range v.sums.Extents(one(pageset.Place{Range: r}), false) {
		v.damaged(Damage{Range: procmem.Range{Start: x.Addr, End: x.Addr + procmem.Addr(x.Pages)*procmem.PageSize},
			Err: ErrZeros})
	}
}

func one[T any](x T) iter.Seq[T] { return func(yield func(T) bool) { yield(x) } }

// compare compares what was read. Faults end at pages, so all pages are whole.
func (v *verifier) compare(p pipe.Piece) {
	if v.sums == nil {
		return
	}
	for at := 0; at < len(p.Bytes); at += procmem.PageSize {
		a := p.Addr + procmem.Addr(at)
		page := p.Bytes[at:min(at+procmem.PageSize, len(p.Bytes))]
		if !v.sums.Match(a, page) {
			v.damaged(Damage{Range: procmem.Range{Start: a, End: a + procmem.Addr(len(page))}, Err: ErrChecksum})
		}
	}
}

// join joins neighbours with the same reason.
func (v *verifier) join() {
	kept := v.Damaged[:0]
	for _, d := range v.Damaged {
		if k := len(kept) - 1; k >= 0 && !d.Empty() && kept[k].End == d.Start && errors.Is(kept[k].Err, d.Err) {
			kept[k].End = d.End
			continue
		}
		kept = append(kept, d)
	}
	for i := range kept {
		if d := &kept[i]; !d.Empty() {
			d.Size = int64(d.Range.Size())
		}
	}
	v.Damaged = kept
}
