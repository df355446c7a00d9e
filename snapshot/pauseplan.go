package snapshot

import (
	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/dirty"
	"github.com/procmem/procmem/internal/holders"
	"github.com/procmem/procmem/internal/overlay"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/sys"
)

// pausePlan says of the pages of a held process which are known, and which must be copied
// before it goes on.
type pausePlan struct {
	f          *pauser
	ov         *overlay.Memory
	whole      []procmem.Mapping
	known      []procmem.Range // their copies are still right
	dirty      []procmem.Range // to be copied now
	written    []procmem.Range // to be copied now: the process has written all of it since tracking began
	shared     []procmem.Range // to be copied now from backing memory: shared memory that is tracked
	dirtyBytes uint64
	objects    map[holders.ID]*sharedNow
	err        error
}

// classify goes through the mappings and their pages. fresh are mappings of which nothing is
// known; all that they hold is wanted.
func (f *pauser) classify(ov *overlay.Memory, fresh []procmem.Range) (*pausePlan, error) {
	m := &pausePlan{f: f, ov: ov}
	m.classifyShared()
	k := 0
	for i := range f.maps {
		mp := &f.maps[i]
		for k < len(f.regions) && procmem.Addr(f.regions[k].End) <= mp.Start {
			k++
		}
		// A region may go on in the next mapping, so k stays at it.
		last := k
		for last < len(f.regions) && procmem.Addr(f.regions[last].Start) < mp.End {
			last++
		}
		if m.mapping(mp, f.regions[k:last], pageset.Overlaps(fresh, mp.Range)); m.err != nil {
			return nil, m.err
		}
	}
	return m, nil
}

// mapping decides what becomes of one mapping.
func (m *pausePlan) mapping(mp *procmem.Mapping, regions []sys.PageRegion, fresh bool) {
	usage := procmem.Usage{}
	if mp.Usage != nil {
		usage = *mp.Usage
	}
	usage.RSS, usage.Anonymous, usage.Swap, usage.HugeTLB = 0, 0, 0, 0
	defer func() { mp.Usage = &usage }()
	if dirty.Private(mp) && mp.HasFile() && !m.f.noScan && (m.f.bits == nil || !clearable(mp)) {
		// The scan does not say which pages the process has written, so that they are no longer
		// the file's.
		if regions, m.err = m.f.query(mp.Range, sys.PageFile); m.err != nil {
			return
		}
	}
	for _, v := range regions {
		count(&usage, mp, v)
	}
	switch {
	case mp.Device() || !fresh && !pageset.Overlaps(m.f.wanted, mp.Range):
		return
	case !fresh && m.isWhole(mp):
		m.whole = append(m.whole, *mp)
		return
	case mp.Special():
		return
	case mp.Shared() && m.objects[holders.Of(mp)] != nil:
		m.sharedMapping(mp, fresh)
		return
	case mp.Shared() && !fresh:
		return // too large: it is read later, and Torn lists it
	}
	files := !mp.Shared() && m.f.fromFile(mp)
	if !files {
		m.ov.Own(mp.Range)
	}
	at := mp.Start
	for _, v := range regions {
		m.region(mp, v, files)
		m.absent(mp, procmem.Range{Start: at, End: procmem.Addr(v.Start)}, files)
		at = procmem.Addr(v.End)
	}
	m.absent(mp, procmem.Range{Start: at, End: mp.End}, files)
}

// absent notes that absent pages of a mapping cannot be known, where they are neither zeros nor
// to be read from a file.
func (m *pausePlan) absent(mp *procmem.Mapping, r procmem.Range, files bool) {
	anonymous := !mp.Shared() && (!mp.HasFile() || mp.Flags&procmem.VMHugeTLB != 0)
	if files || anonymous || r.Empty() {
		return
	}
	m.ov.Miss(r, procmem.ErrUntouched)
}

func (m *pausePlan) isWhole(mp *procmem.Mapping) bool {
	i := procmem.FindMapping(m.f.whole, mp.Start)
	return i < len(m.f.whole) && m.f.whole[i].Start == mp.Start
}

// count adds a run of pages to the usage of its mapping.
func count(u *procmem.Usage, mp *procmem.Mapping, v sys.PageRegion) {
	n := procmem.Range{Start: procmem.Addr(v.Start), End: procmem.Addr(v.End)}.Intersect(mp.Range).Size()
	switch {
	case v.Categories&(sys.PageGuard|sys.PageZero) != 0:
	case v.Categories&sys.PageSwapped != 0:
		u.Swap += n
	case mp.Flags&procmem.VMHugeTLB != 0:
		u.HugeTLB += n
	default:
		u.RSS += n
		if !mp.Shared() && v.Categories&sys.PageFile == 0 {
			u.Anonymous += n
		}
	}
}

// region decides what becomes of a run of pages.
func (m *pausePlan) region(mp *procmem.Mapping, v sys.PageRegion, files bool) {
	r := procmem.Range{Start: procmem.Addr(v.Start), End: procmem.Addr(v.End)}.Intersect(mp.Range)
	if files {
		if v.Categories&sys.PageFile != 0 {
			return
		}
		m.ov.Own(r)
	}
	switch {
	case v.Categories&sys.PageGuard != 0:
		m.ov.Fault(r, procmem.ErrUnreadable)
		return
	case v.Categories&sys.PageZero != 0:
		return
	}
	// A page that was dropped from a file's mapping no longer exists. It looks like one that is
	// swapped out and still protected (PTE_MARKER_UFFD_WP).
	dropped := files && v.Categories&sys.PagePresent == 0
	switch t := m.f.tracker; {
	case t == nil && v.Categories&asCopied != 0 && !mp.Shared():
		for known := range m.f.bits.Copied.Ranges(r) {
			m.known = append(m.known, known)
		}
		for unknown := range m.f.bits.Copied.Gaps(r) {
			m.dirty = append(m.dirty, unknown)
			m.dirtyBytes += unknown.Size()
		}
		return
	case t == nil || mp.Shared() || dropped || !dirty.Trusted(v.Categories):
	case v.Categories&asCopied != 0:
		m.known = append(m.known, r)
		return
	default:
		for known := range t.Copied.Ranges(r) {
			m.known = append(m.known, known)
		}
		for unknown := range t.Copied.Gaps(r) {
			m.dirty = append(m.dirty, unknown)
			m.dirtyBytes += unknown.Size()
		}
		return
	}
	if (m.f.tracker != nil || m.f.bits != nil) && ownWrites(mp, v.Categories) {
		m.written = append(m.written, r)
	} else {
		m.dirty = append(m.dirty, r)
	}
	m.dirtyBytes += r.Size()
}

// ownWrites reports whether a run of tracked pages is all in memory and was written by the
// process itself.
func ownWrites(mp *procmem.Mapping, categories uint64) bool {
	const own = sys.PageTracked | sys.PageWritten | sys.PagePresent
	return categories&(own|sys.PageFile) == own && ownMapping(mp)
}

// ownMapping reports whether the process can read a page that it has written, and no other
// process has it, short of a fork since.
func ownMapping(mp *procmem.Mapping) bool {
	const others = procmem.VMMergeable | procmem.VMHugeTLB | procmem.VMUffdMiss
	return dirty.Private(mp) && mp.Perm&procmem.PermRead != 0 && mp.Flags != 0 && mp.Flags&others == 0
}

// work returns what copy has to do.
func (m *pausePlan) work() dirty.Work {
	return dirty.Work{Bytes: m.dirtyBytes, Runs: uint64(len(m.dirty) + len(m.written) + len(m.shared))}
}

// copy copies what must be copied while the process is held.
func (m *pausePlan) copy() {
	m.ov.Gather(m.f.view.ReadWritten, m.f.read, m.written)
	for _, r := range m.dirty {
		m.ov.Copy(m.f.read, r)
	}
	backing := m.f.view.Backing(m.f.maps)
	for _, r := range m.shared {
		m.ov.Copy(backing, r)
	}
	m.ov.Keep(m.f.view, m.whole)
}

// everything is the range of all addresses that can hold pages of a process.
var everything = procmem.Range{End: 1 << 63}
