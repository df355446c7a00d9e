package elfcore

import (
	"cmp"
	"slices"
	"strings"

	"github.com/procmem/procmem"
)

// Load is the memory of a PT_LOAD, whether or not the file holds it.
type Load struct {
	procmem.Range
	Perm procmem.Perm
}

// JoinMappings makes mappings of segments, ascending and disjoint, and of the names in NT_FILE.
// A segment may hold mappings of several files, and a mapping may be several segments. gdb
// writes no program header for a mapping that it leaves out, while NT_FILE may still name it.
func JoinMappings(segs []Load, files []FileEntry) []procmem.Mapping {
	files = disjointFiles(files)
	ms := make([]procmem.Mapping, 0, max(len(segs), len(files)))
	add := func(r procmem.Range, perm procmem.Perm, file *FileEntry) {
		if r.Empty() {
			return
		}
		m := procmem.Mapping{Range: r, Perm: perm}
		if file != nil {
			m.Path, m.Offset = file.Path, file.Offset+uint64(r.Start-file.Start)
			// The parts of a mapping that is partly dumped belong together.
			if k := len(ms) - 1; k >= 0 && ms[k].End == r.Start && r.Start > file.Start && ms[k].Perm == perm {
				ms[k].End = r.End
				return
			}
		}
		ms = append(ms, m)
	}
	// Walk along both lists; at is the address that the walk has reached.
	var at procmem.Addr
	for len(segs) > 0 || len(files) > 0 {
		var seg *Load
		var file *FileEntry
		next := ^procmem.Addr(0) // the next address where a segment or entry begins or ends
		if len(segs) > 0 {
			if s := &segs[0]; at >= s.Start {
				seg, next = s, min(next, s.End)
			} else {
				next = min(next, s.Start)
			}
		}
		if len(files) > 0 {
			if e := &files[0]; at >= e.Start {
				file, next = e, min(next, e.End)
			} else {
				next = min(next, e.Start)
			}
		}
		r := procmem.Range{Start: at, End: next}
		switch {
		case seg != nil:
			add(r, seg.Perm, file)
		case file != nil:
			add(r, 0, file)
		}
		at = next
		if len(segs) > 0 && segs[0].End <= at {
			segs = segs[1:]
		}
		if len(files) > 0 && files[0].End <= at {
			files = files[1:]
		}
	}
	return ms
}

// disjointFiles returns the entries in ascending order without overlaps. An address in two of
// them belongs to the one that starts lower, or comes first.
func disjointFiles(files []FileEntry) []FileEntry {
	files = slices.Clone(files)
	slices.SortStableFunc(files, func(a, b FileEntry) int { return cmp.Compare(a.Start, b.Start) })
	kept := files[:0]
	var end procmem.Addr
	for _, e := range files {
		if e.Empty() || e.End <= end {
			continue
		}
		if e.Start < end {
			e.Offset += uint64(end - e.Start)
			e.Start = end
		}
		end = e.End
		kept = append(kept, e)
	}
	return kept
}

// NameMappings finds the vDSO and the stack of the first thread among anonymous mappings. The
// kernel puts the executable's path at the top of the stack, and its address into the auxiliary
// vector. That holds even where the thread runs on a stack of its own making. Without it, the
// stack pointer decides.
func NameMappings(img *procmem.Image) {
	name := func(at uint64, path string) bool {
		a := procmem.Addr(at)
		i := procmem.FindMapping(img.Mappings, a)
		if i == len(img.Mappings) || !img.Mappings[i].Contains(a) || img.Mappings[i].Path != "" {
			return false
		}
		img.Mappings[i].Path = path
		return true
	}
	if a, ok := img.Arch.AuxvValue(img.Auxv, procmem.ATSysinfoEHdr); ok {
		name(a, "[vdso]")
	}
	if a, ok := img.Arch.AuxvValue(img.Auxv, procmem.ATExecFn); ok && name(a, "[stack]") {
		return
	}
	for i := range img.Threads {
		t := &img.Threads[i]
		if t.TID != img.Process.PID && img.Process.PID != 0 {
			continue
		}
		if _, sp, ok := img.Arch.PC(t); ok {
			name(uint64(sp), "[stack]")
		}
		return
	}
}

// ExePath returns the path of the executable: the file with its program headers, or with its
// entry point.
func ExePath(img *procmem.Image) string {
	for _, typ := range [2]uint64{procmem.ATPhdr, procmem.ATEntry} {
		v, ok := img.Arch.AuxvValue(img.Auxv, typ)
		if !ok {
			continue
		}
		a := procmem.Addr(v)
		if i := procmem.FindMapping(img.Mappings, a); i < len(img.Mappings) && img.Mappings[i].Contains(a) &&
			strings.HasPrefix(img.Mappings[i].Path, "/") {
			return img.Mappings[i].Path
		}
	}
	return ""
}
