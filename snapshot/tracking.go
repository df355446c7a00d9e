package snapshot

import (
	"context"
	"slices"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/dirty"
	"github.com/procmem/procmem/internal/holders"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// Shared memory that is too large for the pause is copied while the process goes on, if this
// process alone writes to it. Package dirty tells which pages were written through a mapping.
// What a system call writes (write(2), io_uring) leaves no trace in page tables.
//
// Any of three observations excludes such writes (confirm). The process has no descriptor to
// write to, or has made no write calls and has no io_uring, or the file's time has not changed.
// The first write to a page through a mapping changes that time, too.

// quietFile is the time for which a file must not have changed when the copying begins. An
// earlier change might still be under way, and the clock of files ticks in milliseconds.
const quietFile = 100 * time.Millisecond

// track has objects tracked in the next rounds, with all of their mappings.
func (f *pauser) track(objects []*holders.Object) {
	before := f.shared
	f.shared = nil
	for _, o := range objects {
		t := before[o.ID]
		if t == nil {
			t = new(tracking)
			t.began, _ = f.view.FileState(&o.Maps[0])
			t.quiet = time.Since(t.began.Changed) > quietFile
		}
		t.object, t.Maps = o, nil
		for i := range f.maps {
			if m := &f.maps[i]; m.Shared() && holders.Of(m) == o.ID {
				t.Maps = append(t.Maps, *m)
			}
		}
		if f.shared == nil {
			f.shared = make(map[holders.ID]*tracking)
		}
		f.shared[o.ID] = t
	}
}

// roundShared is one round for the shared memory that is tracked.
func (f *pauser) roundShared(ctx context.Context) (written dirty.Work, err error) {
	if len(f.shared) == 0 {
		return written, nil
	}
	f.tracker.WorkAhead(false) // shared memory does not come in the order of addresses
	if f.calls == nil {
		if calls, err := holders.WriteCalls(f.p); err == nil {
			f.calls = &calls
		}
	}
	backing := f.view.Backing(f.maps)
	for _, t := range f.shared {
		t.Pages = 0
		if state, ok := f.view.FileState(&t.Maps[0]); ok {
			t.Pages = state.Pages
		}
		more, err := f.tracker.RoundShared(ctx, &t.Shared, backing, f.wanted)
		written.Bytes += more.Bytes
		written.Runs += more.Runs
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// sharedNow is what a pause finds of an object that is tracked.
type sharedNow struct {
	t       *tracking
	maps    []procmem.Mapping
	written pageset.Set // offsets of pages that may have been written since they were copied
	present pageset.Set // offsets of pages that the process has in its page tables
}

// classifyShared finds out which pages of tracked shared memory were written.
func (m *pausePlan) classifyShared() {
	if m.f.tracker == nil {
		for _, t := range m.f.shared {
			m.f.s.tear(t.object, tornBeyond)
		}
		return
	}
	m.objects = make(map[holders.ID]*sharedNow, len(m.f.shared))
	for id, t := range m.f.shared {
		m.objects[id] = &sharedNow{t: t}
	}
	for i := range m.f.maps {
		mp := &m.f.maps[i]
		if o := m.objects[holders.Of(mp)]; o != nil && mp.Shared() {
			o.maps = append(o.maps, *mp)
		}
	}
	backing := m.f.view.Backing(m.f.maps)
	for _, o := range m.objects {
		added := uint64(0)
		for i := range o.maps {
			added += o.look(&o.maps[i], m.f.regions)
		}
		o.exists(backing, m.f.view, added)
		m.f.confirm(o)
	}
}

// look goes through the pages that a mapping has in page tables. It returns the number of pages
// that have been added since the last round began.
func (o *sharedNow) look(mp *procmem.Mapping, regions []sys.PageRegion) (added uint64) {
	at := mp.Start
	k, _ := slices.BinarySearchFunc(regions, mp.Start, func(v sys.PageRegion, a procmem.Addr) int {
		if procmem.Addr(v.End) <= a {
			return -1
		}
		return 1
	})
	for ; k < len(regions) && procmem.Addr(regions[k].Start) < mp.End; k++ {
		v := regions[k]
		r := procmem.Range{Start: procmem.Addr(v.Start), End: procmem.Addr(v.End)}.Intersect(mp.Range)
		if v.Categories&sys.PagePresent != 0 {
			offsets := dirty.Offsets(mp, r)
			for fresh := range o.t.Data.Gaps(offsets) {
				if !o.present.Has(fresh.Start) {
					added += fresh.Size() / procmem.PageSize
				}
				o.written.Add(fresh)
			}
			o.present.Add(offsets)
		}
		if !o.t.MayWrite(mp) || dirty.Trusted(v.Categories) {
			o.unprotected(mp, procmem.Range{Start: at, End: r.Start})
			at = r.End
		}
	}
	o.unprotected(mp, procmem.Range{Start: at, End: mp.End})
	return added
}

// unprotected notes that pages of a mapping may have been written through it.
func (o *sharedNow) unprotected(mp *procmem.Mapping, r procmem.Range) {
	if r.Empty() || !o.t.MayWrite(mp) {
		return
	}
	for d := range o.t.Data.Ranges(dirty.Offsets(mp, r)) {
		o.written.Add(d)
	}
}

// exists finds out which pages exist now. Pages in page tables do. The file is asked for other
// added or removed pages, where that is needed.
func (o *sharedNow) exists(backing procmem.Sparse, view *process.View, added uint64) {
	removed := uint64(0)
	for i := range o.maps {
		mp := &o.maps[i]
		window := dirty.Offsets(mp, mp.Range)
		var absent []procmem.Range
		for d := range o.t.Data.Ranges(window) {
			for gap := range o.present.Gaps(d) {
				absent = append(absent, gap)
			}
		}
		for _, gap := range absent {
			at := gap.Start
			for d, err := range backing.Data(dirty.At(mp, gap)) {
				if err != nil { // not known to be gone
					at = gap.End
					break
				}
				removed += o.remove(procmem.Range{Start: at, End: dirty.Offset(mp, d.Start.PageDown())})
				at = dirty.Offset(mp, d.End+procmem.PageSize-1).PageDown()
			}
			removed += o.remove(procmem.Range{Start: at, End: gap.End})
		}
	}
	for fresh := range o.written.Ranges(everything) {
		o.t.Data.Add(fresh)
	}
	if state, ok := view.FileState(&o.maps[0]); ok && state.Pages == o.t.Pages+added-removed {
		return
	}
	for i := range o.maps {
		mp := &o.maps[i]
		for d, err := range backing.Data(mp.Range) {
			if err != nil {
				d = mp.Range // all pages may exist, and be new
			}
			d = dirty.Offsets(mp, procmem.Range{Start: d.Start.PageDown(), End: (d.End + procmem.PageSize - 1).PageDown()})
			for fresh := range o.t.Data.Gaps(d) {
				o.written.Add(fresh)
			}
			o.t.Data.Add(d)
		}
	}
}

// remove notes that pages no longer exist. It returns how many did.
func (o *sharedNow) remove(r procmem.Range) uint64 {
	if r.Empty() {
		return 0
	}
	before := o.t.Data.Len()
	o.t.Data.Remove(r)
	o.written.Remove(r)
	return before - o.t.Data.Len()
}

// sharedMapping decides what becomes of a mapping of shared memory that is tracked.
func (m *pausePlan) sharedMapping(mp *procmem.Mapping, fresh bool) {
	o := m.objects[holders.Of(mp)]
	m.ov.Own(mp.Range)
	again := func(r procmem.Range) {
		m.shared = append(m.shared, r)
		m.dirtyBytes += r.Size()
	}
	for d := range o.t.Data.Ranges(dirty.Offsets(mp, mp.Range)) {
		if fresh {
			again(dirty.At(mp, d))
			continue
		}
		for written := range o.written.Ranges(d) {
			again(dirty.At(mp, written))
		}
		for same := range o.written.Gaps(d) {
			r := dirty.At(mp, same)
			for known := range m.f.tracker.Copied.Ranges(r) {
				m.known = append(m.known, known)
			}
			for unknown := range m.f.tracker.Copied.Gaps(r) {
				again(unknown)
			}
		}
	}
}

// confirm notes an object as torn that may have been written without a trace. It does not where
// such writes can be excluded.
func (f *pauser) confirm(o *sharedNow) {
	if !f.writers[o.t.object.ID].Open {
		return
	}
	if state, ok := f.view.FileState(&o.maps[0]); ok && o.t.quiet && state.Changed.Equal(o.t.began.Changed) {
		return
	}
	if calls, err := holders.WriteCalls(f.p); err == nil && f.calls != nil && calls == *f.calls && !holders.HasRings(f.p, f.maps) {
		return
	}
	f.s.tear(o.t.object, tornWritten)
}

// lookAgain finds, after the pause, processes that may have written to shared memory that
// seemed to have no other users before.
func (f *pauser) lookAgain() {
	released := holders.Ticks()
	unknown := slices.DeleteFunc(holders.Objects(f.sharedMappings(f.maps)), func(o *holders.Object) bool { return f.writers[o.ID].Reason() != "" })
	now := holders.WritersOf(f.p, f.view, unknown)
	for _, o := range unknown {
		w := now[o.ID].Until(released)
		if before, ok := f.writers[o.ID]; ok {
			w.Mapped = before.Mapped
		}
		f.s.tear(o, w.Reason())
	}
}
