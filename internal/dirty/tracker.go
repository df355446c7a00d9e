package dirty

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// Tracker copies memory of a running process into a store, and knows which pages have been
// written since. A write to a protected page goes on at once and ends the protection
// (userfaultfd(2), UFFD_FEATURE_WP_ASYNC of kernel 6.7; fs/proc/task_mmu.c, PAGEMAP_SCAN).
//
// A page is trusted to be as it was copied on three conditions. It is present, it is protected,
// and its mapping has been tracked since before the copy. No other page is trusted. A dropped
// page is absent, and comes back without protection. A new or moved mapping is not tracked. A
// protected page need not be copied, such as one that could not be read: nothing is known of
// it.
//
// A Tracker is not safe for concurrent use.
type Tracker struct {
	copier
	p          *process.Process
	uffd       int
	pm         *os.File // /proc/PID/pagemap
	boundaries boundaries
	Ranges     []procmem.Range // tracked memory, ascending
	Files      []procmem.Range // where pages may be a file's; set by the owner
	Own        []procmem.Range // mappings whose written pages are no other process's; set by the owner
	vec        []sys.PageRegion
	// Check is called from time to time in a round with the address up to which it has come.
	// Its error ends the round. nil for none.
	Check func(upTo procmem.Addr) error
}

// Sizes of the steps of a tracker, in bytes.
const (
	// scanStep is how much one look covers, while the address space is locked against changes
	// of its mappings.
	scanStep = 32 << 20
	// registerStep bounds the number of neighbouring mappings that are registered at once, for
	// the same reason.
	registerStep = 256
)

// New returns a Tracker that tracks nothing yet. uffd is a userfaultfd of the target, and
// remains the caller's. New fails if the kernel does not support asynchronous write protection
// (before 6.7), or /proc cannot be read. Close must be called.
func New(p *process.Process, uffd int, view *process.View, store Store) (*Tracker, error) {
	if err := sys.UffdTrackWrites(uffd); err != nil {
		return nil, fmt.Errorf("track writes: the kernel does not know how (6.7 does): %w", err)
	}
	pm, err := p.OpenMem("pagemap")
	if err != nil {
		return nil, err
	}
	maps, err := p.OpenMem("maps")
	if err != nil {
		pm.Close()
		return nil, err
	}
	t := &Tracker{p: p, uffd: uffd, pm: pm, boundaries: boundaries{maps}, vec: make([]sys.PageRegion, 512)}
	t.copier.start(view, store)
	return t, nil
}

// Close stops the copying threads and closes files. It does not end the tracking: Untrack does.
func (t *Tracker) Close() error {
	t.copier.stop()
	return errors.Join(t.boundaries.maps.Close(), t.pm.Close())
}

// Register has those mappings tracked that are not tracked yet. A mapping that cannot be
// tracked is left out, and counts as written in the end.
func (t *Tracker) Register(maps []procmem.Mapping) {
	var unknown []procmem.Mapping
	for i := range maps {
		if !pageset.Covers(t.Ranges, maps[i].Range) {
			unknown = append(unknown, maps[i])
		}
	}
	for len(unknown) > 0 {
		run := touching(unknown, math.MaxUint64)
		t.registerRun(run)
		unknown = unknown[len(run):]
	}
	t.Ranges = pageset.Merge(append(t.Ranges, t.anew...)) // Ranges has what was in anew in earlier rounds
}

// registerRun registers mappings that touch, one by one if need be.
func (t *Tracker) registerRun(maps []procmem.Mapping) {
	if !t.cover(hull(maps)) && len(maps) > 1 {
		for i := range maps {
			t.registerRun(maps[i : i+1])
		}
	}
}

// fresh notes that r is tracked from now on, so that nothing known of it is valid. Some of it
// may be protected already, if its mapping has grown or was moved here.
func (t *Tracker) fresh(r procmem.Range) {
	t.forget(r)
	t.anew = append(t.anew, r)
}

// Work is an amount of memory to copy: bytes, in a number of runs of pages.
type Work struct{ Bytes, Runs uint64 }

func (w *Work) add(more Work) {
	w.Bytes += more.Bytes
	w.Runs += more.Runs
}

// Round protects the pages of ascending ranges that have been written, and copies them. The
// result says how much was copied. Round fails if the store or Check does, with the cause of
// ctx, and with procmem.ErrGone.
func (t *Tracker) Round(ctx context.Context, ranges []procmem.Range) (written Work, err error) {
	defer func() {
		if derr := t.drain(); err == nil {
			err = derr
		}
		t.rounds++
	}()
	anew := pageset.Merge(t.anew)
	t.anew = nil
	pages := finder{pm: t.pm}
	for _, tracked := range t.Ranges {
		for i := pageset.Index(ranges, tracked.Start); i < len(ranges) && ranges[i].Start < tracked.End; i++ {
			for r := ranges[i].Intersect(tracked); !r.Empty(); {
				if ctx.Err() != nil {
					return written, context.Cause(ctx)
				}
				if first, ok, err := pages.next(r); err == nil && !ok {
					break
				} else if err == nil { // the look reports the reason of an error
					r.Start = first
				}
				step := procmem.Range{Start: r.Start, End: min(r.End, (r.Start|(scanStep-1))+1)}
				more, err := t.look(step, anew)
				if written.add(more); err != nil {
					return written, err
				}
				r.Start = step.End
				if t.Check != nil {
					if err := t.Check(step.End); err != nil {
						return written, err
					}
				}
			}
		}
	}
	return written, nil
}

// look is Round for one step. What is in anew is copied as a whole.
func (t *Tracker) look(r procmem.Range, anew []procmem.Range) (written Work, err error) {
	for i := pageset.Index(anew, r.Start); i < len(anew) && anew[i].Start < r.End; i++ {
		more, err := t.step(anew[i].Intersect(r), true)
		if written.add(more); err != nil {
			return written, err
		}
	}
	if pageset.Covers(anew, r) {
		return written, nil
	}
	spans, err := t.Unprotected(r, MergeGap)
	if err != nil {
		spans = []procmem.Range{r} // step reports the reason of the error
	}
	for _, span := range spans {
		more, err := t.step(span, false)
		if written.add(more); err != nil {
			return written, err
		}
	}
	return written, nil
}

// MergeGap is the distance, in bytes, up to which two pieces of memory are looked at as one.
// Asking twice takes longer than looking at the pages between them.
const MergeGap = 256 << 10

// Unprotected returns the parts of a range that are not protected: written pages, and pages
// that do not exist. Parts that are at most gap bytes apart are returned as one. It fails with
// EPERM if some of the range is not tracked.
func (t *Tracker) Unprotected(r procmem.Range, gap procmem.Addr) (spans []procmem.Range, err error) {
	q := sys.Scan{Start: uint64(r.Start), End: uint64(r.End), All: sys.PageWritten, Return: sys.PageWritten, Tracked: true}
	for q.Start < q.End {
		found, err := sys.PagemapNext(t.pm.Fd(), &q, 0, t.vec)
		if err != nil {
			return nil, err
		}
		for _, v := range found {
			start, end := procmem.Addr(v.Start), procmem.Addr(v.End)
			if k := len(spans) - 1; k >= 0 && start-spans[k].End <= gap {
				spans[k].End = end
				continue
			}
			spans = append(spans, procmem.Range{Start: start, End: end})
		}
	}
	return spans, nil
}

// AheadBatch is the granularity, in bytes, for the question whether it pays to work ahead. All
// of an aligned batch counts as written where some of it was.
const AheadBatch = 256 << 10

// WrittenBelow returns how many copied pages below an address were written since, and in how
// many aligned batches of AheadBatch bytes they are. all is the number of copied pages.
func (t *Tracker) WrittenBelow(upTo procmem.Addr) (written, batches, all uint64) {
	next := procmem.Addr(0) // the first batch that is not counted yet
	for _, tracked := range t.Ranges {
		for r := tracked.Intersect(procmem.Range{End: upTo}); !r.Empty(); {
			step := procmem.Range{Start: r.Start, End: min(r.End, (r.Start|(scanStep-1))+1)}
			if r.Start = step.End; !t.hasCopied(step) {
				r.Start = t.nextCopied(r)
				continue
			}
			spans, _ := t.Unprotected(step, 0)
			for _, span := range spans {
				for r := range t.Copied.Ranges(span) {
					written += r.Size() / procmem.PageSize
					first, end := max(next, r.Start/AheadBatch), (r.End-1)/AheadBatch+1
					if first < end {
						batches += uint64(end - first)
						next = end
					}
				}
			}
		}
	}
	return written, batches, t.Copied.Len()
}

// step protects what has been written of a range, and copies it. If forced is true, all pages
// count as written.
func (t *Tracker) step(r procmem.Range, forced bool) (written Work, err error) {
	q := sys.Scan{Start: uint64(r.Start), End: uint64(r.End), Any: sys.PagePresent | sys.PageSwapped,
		Return: sys.PagePresent | sys.PageSwapped | sys.PageZero, Protect: true, Tracked: true}
	if !forced {
		q.All = sys.PageWritten
	}
	if pageset.Overlaps(t.Files, r) {
		q.Return |= sys.PageFile
	}
	for try := 0; q.Start < q.End; {
		found, err := sys.PagemapNext(t.pm.Fd(), &q, 0, t.vec)
		switch {
		case errors.Is(err, unix.EPERM) && try < maxTries:
			// Something here was mapped or moved since it was registered. The kernel does not
			// say what it had protected by then.
			try++
			if err := t.drain(); err != nil {
				return written, err
			}
			forced, q.All, q.Start = true, 0, uint64(r.Start)
			t.forget(r)
			t.reregister(r)
			continue
		case errors.Is(err, unix.EPERM):
			t.anew = append(t.anew, r) // the range changes too fast
			return written, nil
		case errors.Is(err, unix.ESRCH):
			return written, procmem.ErrGone
		case err != nil:
			return written, fmt.Errorf("scan pagemap at %#x: %w", q.Start, err)
		}
		for _, v := range found {
			run := procmem.Range{Start: procmem.Addr(v.Start), End: procmem.Addr(v.End)}
			if err := t.copy(run, v.Categories, !forced); err != nil {
				return written, err
			}
			written.add(Work{run.Size(), 1})
		}
	}
	return written, nil
}

// maxTries bounds how often a range is registered again in one round.
const maxTries = 4

// reregister tracks what is mapped in r now and is not tracked yet.
func (t *Tracker) reregister(r procmem.Range) {
	maps, err := t.p.Mappings()
	if err != nil {
		return
	}
	for i := procmem.FindMapping(maps, r.Start); i < len(maps) && maps[i].Start < r.End; i++ {
		if Private(&maps[i]) && !t.tracks(maps[i].Start) {
			t.registerRun(maps[i : i+1])
		}
	}
}

// tracks reports whether the page at a is tracked.
func (t *Tracker) tracks(a procmem.Addr) bool {
	_, err := t.Unprotected(procmem.Range{Start: a, End: a + procmem.PageSize}, 0)
	return err == nil
}

// copy copies a run of pages that have been protected just now. written says that they had been
// written since they were protected before.
func (t *Tracker) copy(r procmem.Range, categories uint64, written bool) error {
	t.forget(r)
	switch {
	case categories&sys.PageFile != 0:
		return nil // the page is as in the file
	case categories&sys.PageZero != 0:
		t.Copied.Add(r)
		t.Zero.Add(r)
		return t.store.Forget(r)
	case written && r.Size() < smallRun && categories&sys.PagePresent != 0 && pageset.Covers(t.Own, r):
		return t.gather(r)
	}
	return t.copyRun(r, nil)
}

// Trusted reports whether pages with these categories of the scan in the pause are as they were
// copied, if they are in Copied.
func Trusted(categories uint64) bool {
	return categories&sys.PageTracked != 0 && categories&(sys.PageWritten|sys.PageFile) == 0
}
