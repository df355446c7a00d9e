package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/dirty"
	"github.com/procmem/procmem/internal/holders"
	"github.com/procmem/procmem/internal/inject"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/internal/sys"
)

// pauser holds a process for as long as the last copy takes. It finds out before the pause all
// that can be: mappings with their flags, wanted memory, files to read pages from later.
type pauser struct {
	*look
	o     Options
	store Store     // nil for none
	s     *Snapshot // the result; its Close undoes everything

	tracker *dirty.Tracker // nil: nothing has been copied
	wanted  []procmem.Range
	whole   []procmem.Mapping        // copied during the pause, even where copied before
	inPause uint64                   // size of whole, in bytes
	shared  map[holders.ID]*tracking // shared memory that is copied like private memory
	torn    uint64                   // bytes of shared memory that are read after the pause
	calls   *uint64                  // count of write(2) and similar calls before tracking; nil: not known
	pagemap *os.File
	unknown uint64           // categories that the kernel does not know
	regions []sys.PageRegion // what scan found
	room    []sys.PageRegion // for the results of a query
}

// newPauser returns a pauser that owns what the look has opened.
func newPauser(l *look, o Options, store Store) *pauser {
	f := &pauser{look: l, o: o, store: store, s: &Snapshot{img: l.img, undo: l.undo},
		room: make([]sys.PageRegion, 4096), regions: make([]sys.PageRegion, 0, 4096)}
	l.undo = nil
	return f
}

// errTooMuch reports that a pause would have exceeded its bound, and was ended at once.
var errTooMuch = errors.New("more was written than can be copied within the bound of the pause")

// plan finds out what there is to copy, and which part of it during the pause.
func (f *pauser) plan() error {
	planned := f.text
	if _, err := f.refresh(); err != nil || planned != nil && bytes.Equal(planned, f.text) {
		return err
	}
	f.wanted = f.o.want(f.img, f.view)
	f.s.Torn, f.whole, f.inPause = nil, nil, 0
	for i := range f.maps {
		switch m := &f.maps[i]; {
		case m.Device() || !pageset.Overlaps(f.wanted, m.Range), m.Shared() && !m.Special():
		case m.Special() || m.Flags&procmem.VMUffdMiss != 0 || m.HasFile() && !f.fromFile(m):
			f.whole = append(f.whole, *m)
		}
	}
	shared := f.boundShared(f.sharedMappings(f.maps), f.mayTrack)
	f.track(shared.tracked)
	f.torn = shared.torn
	f.whole = append(f.whole, shared.inPause...)
	slices.SortFunc(f.whole, func(a, b procmem.Mapping) int { return compareAddr(a.Start, b.Start) })
	for i := range f.whole {
		f.inPause += presentSize(f.view, &f.whole[i])
	}
	return nil
}

// fromFile reports whether unwritten pages of a private file mapping can be read from the file
// later.
func (f *pauser) fromFile(m *procmem.Mapping) bool {
	return m.HasFile() && m.Flags&procmem.VMHugeTLB == 0 && f.view.HasBacking(m)
}

// pauseFor holds the process, copies what has not been copied, and lets it go on. rest is about
// the number of bytes to copy. errTooMuch reports that there was more than the bound allows,
// and that nothing was kept.
func (f *pauser) pauseFor(ctx context.Context, rest uint64) (err error) {
	s := f.s
	ov := &overlay{store: f.store}
	if ov.arena, err = newArena(2*rest+f.inPause+(1<<20), f.store); err != nil {
		return err
	}
	f.o.step(StepPause, 0)
	s.tracer = ptracer.New(f.p)
	s.tracer.Known = known(f.infos)
	s.tracer.HoldSharers(true)
	s.Unheld = nil
	var m *pausePlan
	var threads []ptracer.Taken
	// One thread does all of it, because handing over takes time on a busy machine.
	s.tracer.Do(func() {
		if m, err = f.hold(ctx, ov); err == nil {
			threads = s.tracer.Take(f.img.Arch)
		}
		s.tracer.LetAllGo()
	})
	s.letGo()
	if err != nil {
		ov.arena.close()
		return err
	}
	s.undo.add(func() error { ov.arena.close(); return nil })
	s.threads = nil
	s.addThreads(f.p.PID(), f.infos, threads)
	f.lookAgain()
	if err := f.settle(ov, m); err != nil {
		return err
	}
	s.tearCalls(callsOf(threads), s.Sparse)
	return nil
}

// hold stops the process and copies what has not been copied. It runs on the tracing thread.
func (f *pauser) hold(ctx context.Context, ov *overlay) (*pausePlan, error) {
	if err := f.s.tracer.StopAll(ctx); err != nil {
		return nil, err
	}
	if err := mapsAreFree(f.s.tracer, f.p); err != nil {
		return nil, err
	}
	f.s.taken = time.Now()
	if !f.sameProgram() {
		return nil, inject.ErrExec
	}
	text, err := f.readMaps()
	if err != nil {
		return nil, err
	}
	var fresh []procmem.Range
	if !bytes.Equal(text, f.text) {
		if fresh, err = f.update(text); err != nil {
			return nil, err
		}
	}
	if err := f.scan(); err != nil {
		return nil, err
	}
	m, err := f.classify(ov, fresh)
	if err != nil {
		return nil, err
	}
	if f.o.MaxPause > 0 && f.estimate(m.work()) > f.o.MaxPause {
		f.text = nil // the next plan has to see what is fresh
		return nil, errTooMuch
	}
	m.copy(ctx)
	return m, ov.arena.err
}

// scan finds out which pages exist, in ascending order. It does not ask which are a file's. For
// that the kernel looks at each page, and otherwise at the page tables alone: 50 ns an entry in
// place of 10. Of tracked memory it asks for the pages that are no longer protected (2 ns). The
// others are as they were copied.
func (f *pauser) scan() error {
	f.regions = f.regions[:0]
	at := f.maps[0].Start
	if t := f.tracker; t != nil {
		for _, r := range t.Ranges {
			if err := f.exact(procmem.Range{Start: at, End: r.Start}); err != nil {
				return err
			}
			if err := f.tracked(r); err != nil {
				return err
			}
			at = r.End
		}
	}
	end := at
	for i := range f.maps {
		if f.maps[i].End < 1<<63 { // not [vsyscall]
			end = f.maps[i].End
		}
	}
	if err := f.exact(procmem.Range{Start: at, End: end}); err != nil {
		return err
	}
	if len(f.regions) == 0 {
		return f.lost()
	}
	return nil
}

// exact adds the existing pages of r.
func (f *pauser) exact(r procmem.Range) error {
	if r.Empty() {
		return nil
	}
	found, err := f.query(r, 0)
	f.regions = append(f.regions, found...)
	return err
}

// tracked adds the existing pages of r, which is registered.
func (f *pauser) tracked(r procmem.Range) error {
	t := f.tracker
	spans, err := t.Unprotected(r, dirty.MergeGap)
	if err != nil {
		return f.exact(r) // some of it is not tracked any more
	}
	at := r.Start
	for _, span := range spans {
		if err := f.protected(procmem.Range{Start: at, End: span.Start}); err != nil {
			return err
		}
		if err := f.exact(span); err != nil {
			return err
		}
		at = span.End
	}
	return f.protected(procmem.Range{Start: at, End: r.End})
}

// asCopied is a category of our own: the pages are known to be as they were copied.
const asCopied = 1 << 63

// protected adds the pages of r, where all pages that exist are protected. Pages that were
// never copied may exist or not, and are asked for.
func (f *pauser) protected(r procmem.Range) error {
	const known = sys.PageTracked | sys.PagePresent | asCopied
	t := f.tracker
	at := r.Start
	for c := range t.Copied.Ranges(r) {
		if err := f.exact(procmem.Range{Start: at, End: c.Start}); err != nil {
			return err
		}
		for z := range t.Zero.Gaps(c) {
			f.regions = append(f.regions, sys.PageRegion{Start: uint64(z.Start), End: uint64(z.End), Categories: known})
		}
		at = c.End
	}
	return f.exact(procmem.Range{Start: at, End: r.End})
}

// query returns the existing pages of r, with more categories beside the usual ones. The result
// is valid until the next query.
func (f *pauser) query(r procmem.Range, more uint64) ([]sys.PageRegion, error) {
	pm, err := f.openPagemap()
	if err != nil {
		return nil, err
	}
	n := 0
	q := sys.Scan{Start: uint64(r.Start), End: uint64(r.End), Any: sys.PagePresent | sys.PageSwapped}
	for q.Start < q.End {
		q.Return = scanned&^f.unknown | more
		found, err := sys.PagemapNext(pm.Fd(), &q, 0, f.room[n:])
		switch {
		case errors.Is(err, unix.EINVAL) && f.unknown == 0:
			f.unknown = sys.PageGuard // of kernel 6.15
			continue
		case errors.Is(err, unix.ESRCH):
			return nil, f.lost()
		case err != nil:
			return nil, fmt.Errorf("scan pagemap at %#x: %w", q.Start, err)
		}
		if n += len(found); n == len(f.room) {
			f.room = append(f.room, make([]sys.PageRegion, n)...)
		}
	}
	return f.room[:n], nil
}

// scanned are the categories that cost nothing to tell.
const scanned = sys.PageTracked | sys.PageWritten | sys.PagePresent | sys.PageSwapped | sys.PageZero | sys.PageHuge | sys.PageGuard

// openPagemap opens /proc/PID/pagemap, once.
func (f *pauser) openPagemap() (*os.File, error) {
	if f.pagemap != nil {
		return f.pagemap, nil
	}
	pm, err := f.p.OpenMem("pagemap")
	if err == nil {
		f.pagemap = pm
		f.s.undo.add(pm.Close)
	}
	return pm, err
}
