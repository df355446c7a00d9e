package process

import (
	"iter"

	"github.com/procmem/procmem"
)

// ReadPresent reads existing pages, whatever is mapped there by now, and stops before the first
// page that does not exist. It is for callers that know which pages there are. It brings no
// page into existence, except one that goes away between look and read. It fails with a
// *procmem.FaultError.
func (v *View) ReadPresent(p []byte, addr procmem.Addr) (int, error) {
	done := 0
	for done < len(p) {
		at := addr + procmem.Addr(done)
		r := procmem.Range{Start: at, End: addr + procmem.Addr(len(p))}
		var err error
		for run, rerr := range v.existing(&r) {
			if err = rerr; err != nil || run.Start > at {
				break
			}
			var n int
			n, err = v.raw(run.State, p[done:min(len(p), int(run.End-addr))], at)
			if done += n; err != nil {
				break
			}
			at = addr + procmem.Addr(done)
		}
		if at = addr + procmem.Addr(done); err == nil && at < r.End {
			err = procmem.ErrUnreadable
		}
		if err != nil {
			return done, &procmem.FaultError{Addr: at, Err: err}
		}
	}
	return done, nil
}

// existing yields the existing pages in the first part of r that was mapped alike, or not at
// all, when the view was made. It shortens r to that part.
func (v *View) existing(r *procmem.Range) iter.Seq2[pageRun, error] {
	i := procmem.FindMapping(v.spans, r.Start)
	switch {
	case i == len(v.spans):
	case v.spans[i].Contains(r.Start):
		r.End = min(r.End, v.spans[i].End)
		return v.pages(&v.spans[i], *r)
	default:
		r.End = min(r.End, v.spans[i].Start)
	}
	return v.pm.runs(*r, 0)
}

// ReadWritten reads pages in memory that the process has written since the view was made. Those
// are its own, unless it has forked since. They go into p, one range after the other, as far as
// process_vm_readv(2) reads them. It returns how many bytes of p are filled: 0 if reading would
// leave a trace. In a running process, pages that go away meanwhile come into existence again.
func (v *View) ReadWritten(p []byte, ranges []procmem.Range) (done int) {
	return v.readWritten(p, ranges)
}

// CopyPresent copies the pages of r that exist in the process itself, without guards. room
// returns memory for n bytes or fewer, whole pages of it, or nil to end the copy. keep is called
// with what has been read. No page comes into existence, as with ReadPresent.
func (v *View) CopyPresent(r procmem.Range, room func(n uint64) []byte, keep func(procmem.Addr, []byte)) error {
	for run, err := range v.pm.runs(r, 0) {
		if err != nil {
			return err
		}
		if run.State&pageGuard != 0 {
			continue
		}
		for part := run.Range.Intersect(r); !part.Empty(); {
			p := room(part.Size())
			if len(p) == 0 {
				return nil
			}
			if _, err := v.raw(0, p, part.Start); err != nil {
				return err
			}
			keep(part.Start, p)
			part.Start += procmem.Addr(len(p))
		}
	}
	return nil
}
