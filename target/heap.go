package target

import (
	"slices"
	"strings"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
)

// heapWord means the heap, whichever allocator a program has. brkHeap is where malloc(3) begins,
// and is that in a program that has no mapping of this name.
const (
	heapWord = "heap"
	brkHeap  = "[heap]"
)

// heap returns the writable anonymous memory, if that is what a RANGE means.
func (s Spec) heap(ms []procmem.Mapping) []procmem.Range {
	if s.text != heapWord && (s.text != brkHeap || slices.ContainsFunc(ms, func(m procmem.Mapping) bool { return m.Path == brkHeap })) {
		return nil
	}
	var rs []procmem.Range
	for i := range ms {
		if inHeap(&ms[i]) {
			rs = append(rs, ms[i].Range)
		}
	}
	return pageset.Merge(rs)
}

func inHeap(m *procmem.Mapping) bool {
	return m.Perm&procmem.PermWrite != 0 && !m.Shared() && !m.HasFile() &&
		(m.Path == "" || m.Path == brkHeap || strings.HasPrefix(m.Path, "[anon:"))
}
