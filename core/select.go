package core

import (
	"strings"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/elfcore"
)

// Filter says which kinds of mappings go into a core, in the bits of /proc/PID/coredump_filter
// (core(5), include/linux/sched/coredump.h).
type Filter uint32

// The bits of a Filter. Those of DAX have no effect: no file of /proc shows that a mapping is
// one, so it counts as a file mapping.
const (
	FilterAnonPrivate Filter = 1 << iota
	FilterAnonShared
	FilterFilePrivate
	FilterFileShared
	FilterELFHeaders
	FilterHugePrivate
	FilterHugeShared
	FilterDAXPrivate
	FilterDAXShared

	// filterDontDump includes memory that the program marked MADV_DONTDUMP. The kernel has no
	// such bit.
	filterDontDump Filter = 1 << 31

	// FilterDefault is the kernel's default.
	FilterDefault Filter = 0x33
	// FilterAll is every mapping that is not a device. As with "gcore -a", it includes those
	// that the program marked MADV_DONTDUMP.
	FilterAll Filter = 0x1ff | filterDontDump
)

// hugeUntouched is the size, in bytes, from which the core names untouched anonymous memory but
// does not hold it. Smaller memory is held as a hole, which costs nothing in a file and little
// in a stream. That spares lldb and drgn a range that they cannot read.
const hugeUntouched = 64 << 20

// hugeHole is the size, in bytes, from which an untouched part of a dumped mapping is left out
// like untouched memory. Runtimes reserve terabytes in one mapping and touch a small part of it
// (GHC, GraalVM). Some file systems do not take a file of that length, and a stream would carry
// the zeros.
const hugeHole = 1 << 30

// share is how much of a mapping is dumped.
type share uint8

const (
	dumpNothing share = iota
	dumpWhole
	dumpHeader // the pages that identify an ELF file, if it is one
	dumpOmit   // not even a program header
)

// Select returns the segments of a core of img, ascending. It chooses as the kernel does
// (fs/coredump.c, vma_dump_size), and adds what debuggers need besides. The pages with the
// executable's ELF header and build id are always in. Private mappings of files that cannot be
// found by their names are whole. Untouched anonymous memory is a hole.
//
// Select reads ELF headers from mem. Mappings without Usage count as touched where they are
// private and writable.
func Select(img *procmem.Image, mem procmem.Memory, f Filter) []Segment {
	segs := make([]Segment, 0, len(img.Mappings)+16)
	ids := identifier{img: img, mem: mem}
	for i := range img.Mappings {
		m := &img.Mappings[i]
		var pages []procmem.Range
		switch shareOf(m, f, m.Path != "" && m.Path == img.Exe) {
		case dumpOmit:
			continue
		case dumpWhole:
			pages = withoutHugeHoles(mem, m.Range)
			ids.look(i, false)
		case dumpHeader:
			ids.look(i, true)
			pages = ids.pages(m)
		case dumpNothing:
			pages = ids.pages(m)
		}
		segs = appendSplit(segs, m, pages)
	}
	return limitSegments(segs, elfcore.MaxPlainHeaders-noteSegments)
}

// withoutHugeHoles returns r without the parts of at least hugeHole bytes that are known to
// hold nothing.
func withoutHugeHoles(mem procmem.Memory, r procmem.Range) []procmem.Range {
	if r.Size() < hugeHole {
		return []procmem.Range{r}
	}
	var out []procmem.Range
	cur := procmem.Range{Start: r.Start, End: r.Start}
	gap := func(next procmem.Addr) {
		if next-cur.End < hugeHole {
			return
		}
		if !cur.Empty() {
			out = append(out, cur)
		}
		cur = procmem.Range{Start: next, End: next}
	}
	for d, err := range dataOf(mem, r) {
		if err != nil {
			return []procmem.Range{r}
		}
		gap(d.Start)
		cur.End = d.End
	}
	if gap(r.End); cur.Start < r.End {
		cur.End = r.End
		out = append(out, cur)
	}
	return out
}

// shareOf makes the kernel's decisions in the kernel's order.
func shareOf(m *procmem.Mapping, f Filter, exe bool) share {
	whole := func(bit Filter) share {
		if f&bit != 0 {
			return dumpWhole
		}
		return dumpNothing
	}
	device := m.Flags&(procmem.VMIO|procmem.VMPFNMap) != 0
	switch {
	case m.Path == "[vvar]" || m.Path == "[vvar_vclock]" || m.Path == "[vsyscall]":
		return dumpOmit // /proc/PID/mem cannot read these
	case m.Special():
		return dumpWhole
	case m.Flags&procmem.VMDontDump != 0 && f&filterDontDump == 0:
		return dumpNothing
	case m.Flags&procmem.VMHugeTLB != 0 && m.Shared():
		return whole(FilterHugeShared)
	case m.Flags&procmem.VMHugeTLB != 0:
		return whole(FilterHugePrivate)
	case device:
		return dumpNothing
	case m.Shared() && nameless(m):
		return whole(FilterAnonShared)
	case m.Shared():
		return whole(FilterFileShared)
	case (hasAnon(m) || lost(m)) && f&FilterAnonPrivate != 0:
		return dumpWhole
	case !m.HasFile():
		if untouchedHole(m) {
			return whole(FilterAnonPrivate)
		}
		return dumpNothing
	case f&FilterFilePrivate != 0:
		return dumpWhole
	case m.Perm&procmem.PermRead != 0 && m.Offset == 0 && (exe || f&FilterELFHeaders != 0):
		return dumpHeader
	}
	return dumpNothing
}

// nameless reports whether a shared mapping belongs to no file that has a name. The kernel
// calls such a mapping anonymous. It excludes objects of the kernel's own, such as the rings of
// io_uring.
func nameless(m *procmem.Mapping) bool {
	return !m.HasFile() || m.Deleted() || !strings.HasPrefix(m.Path, "/")
}

// lost reports whether readers of the core cannot find the mapped file. Its bytes are then in
// the core or nowhere, as those of anonymous memory are. The kernel uses bit 2 here, too, and
// leaves them out.
func lost(m *procmem.Mapping) bool { return m.HasFile() && (m.Unreachable || m.Deleted()) }

// hasAnon reports whether a private mapping holds pages of its own.
func hasAnon(m *procmem.Mapping) bool {
	if m.Usage == nil {
		return m.Perm&procmem.PermWrite != 0
	}
	return m.Usage.Anonymous+m.Usage.Swap > 0
}

// untouchedHole reports whether anonymous memory that holds nothing goes into the core all the
// same, as a hole.
func untouchedHole(m *procmem.Mapping) bool {
	const access = procmem.PermRead | procmem.PermWrite | procmem.PermExec
	if m.Perm&access == 0 {
		return false
	}
	known := m.Usage != nil && m.Usage.RSS+m.Usage.Swap+m.Usage.HugeTLB == 0
	return !known || m.Size() < hugeUntouched
}

// appendSplit appends the segments of one mapping. pages, ascending and disjoint, are dumped.
func appendSplit(segs []Segment, m *procmem.Mapping, pages []procmem.Range) []Segment {
	add := func(r procmem.Range, dumped bool) {
		if !r.Empty() {
			segs = append(segs, Segment{r, m.Perm, dumped})
		}
	}
	at := m.Start
	for _, p := range pages {
		add(procmem.Range{Start: at, End: p.Start}, false)
		add(p, true)
		at = p.End
	}
	add(procmem.Range{Start: at, End: m.End}, false)
	return segs
}

// limitSegments returns fewer than limit segments where that is possible, because delve and
// viewcore misread a core that has more. It joins neighbours. If that is not enough, it drops
// segments that hold nothing.
func limitSegments(segs []Segment, limit int) []Segment {
	if len(segs) < limit {
		return segs
	}
	merged := segs[:0]
	for _, s := range segs {
		if k := len(merged) - 1; k >= 0 && merged[k].End == s.Start && merged[k].Perm == s.Perm && merged[k].Dumped == s.Dumped {
			merged[k].End = s.End
			continue
		}
		merged = append(merged, s)
	}
	if len(merged) < limit {
		return merged
	}
	full := 0
	for _, s := range merged {
		if s.Dumped {
			full++
		}
	}
	if full >= limit {
		return merged
	}
	kept := merged[:0]
	for _, s := range merged {
		if s.Dumped {
			kept = append(kept, s)
		}
	}
	return kept
}
