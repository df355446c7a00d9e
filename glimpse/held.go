package glimpse

import (
	"errors"
	"time"

	"github.com/procmem/procmem"
)

// ErrLate reports that the time or the memory that a pause may take is used up.
var ErrLate = errors.New("not read: the pause would become too long, or too much would be copied")

// Held is a process in a pause, for Options.Also. It is a procmem.Memory: what is read from it
// is kept, and can be read again from the memory of the Glimpse, in whole pages. So the same
// walk over structures of a runtime finds them in the pause, and decodes them afterwards. It
// must not be used after Also has returned, nor by other goroutines.
type Held struct {
	hold  *hold
	until time.Time
}

// Arch returns the architecture of the process.
func (h *Held) Arch() procmem.Arch { return h.hold.img.Arch }

// Threads returns the threads with their registers, the leader first. The caller must not
// change the slice.
func (h *Held) Threads() []procmem.Thread { return h.hold.threads }

// Mappings returns the mappings as they were just before the pause.
func (h *Held) Mappings() ([]procmem.Mapping, error) { return h.hold.maps, nil }

// Left returns the time for which memory can still be read.
func (h *Held) Left() time.Duration { return time.Until(h.until) }

// ReadAt reads, and keeps the pages. It fails with a *procmem.FaultError: ErrLate where the
// pause or what is kept would exceed its bound, and procmem.ErrUntouched for pages that do not
// exist in the process.
func (h *Held) ReadAt(p []byte, addr procmem.Addr) (done int, err error) {
	for done < len(p) {
		a := addr + procmem.Addr(done)
		page := h.hold.kept.pages[a.PageDown()]
		if page == nil {
			if err := h.Keep(procmem.Range{Start: a, End: addr + procmem.Addr(len(p))}); err != nil {
				return done, &procmem.FaultError{Addr: a, Err: err}
			}
			if page = h.hold.kept.pages[a.PageDown()]; page == nil {
				return done, &procmem.FaultError{Addr: a, Err: procmem.ErrUntouched}
			}
		}
		done += copy(p[done:], page[a-a.PageDown():])
	}
	return done, nil
}

// Keep copies the pages of r that exist and have not been copied yet, up to the end of the
// mapping that holds its start. It fails with ErrLate, procmem.ErrNotMapped or
// procmem.ErrDevice.
func (h *Held) Keep(r procmem.Range) error {
	m := h.mapping(r.Start)
	switch {
	case m == nil:
		return procmem.ErrNotMapped
	case m.Device() || m.Special():
		return procmem.ErrDevice
	}
	r.End = min(max(r.Start, r.End), m.End)
	k := &h.hold.kept
	for at := r.Start.PageDown(); at < r.End; {
		if k.pages[at] != nil {
			at += procmem.PageSize
			continue
		}
		end := at
		for end < r.End && k.pages[end] == nil && end-at < keepAtOnce {
			end += procmem.PageSize
		}
		if h.Left() <= 0 || k.used+uint64(end-at) > h.hold.o.Total {
			return ErrLate
		}
		if err := h.hold.view.CopyPresent(procmem.Range{Start: at, End: end}, k.room, k.keep); err != nil {
			return procmem.Cause(err)
		}
		at = end
	}
	return nil
}

func (h *Held) mapping(a procmem.Addr) *procmem.Mapping {
	i := procmem.FindMapping(h.hold.maps, a)
	if i == len(h.hold.maps) || !h.hold.maps[i].Contains(a) {
		return nil
	}
	return &h.hold.maps[i]
}

// keepAtOnce is how much is copied between two looks at the clock, in bytes.
const keepAtOnce = 256 << 10
