package core

import (
	"iter"

	"github.com/procmem/procmem"
)

// Segment is one PT_LOAD of a core.
type Segment struct {
	procmem.Range
	Perm   procmem.Perm // of the mapping
	Dumped bool         // the core holds all of it (p_filesz is p_memsz) or nothing (0)
}

// Predict returns the size of the dumped segments, and how much of them may hold data, both in
// bytes. dataBytes is the most that they can take on disk, and about what Writer.Written
// reaches. An error is that of mem, and the sizes then are those up to the failure.
func Predict(segs []Segment, mem procmem.Memory) (memoryBytes, dataBytes uint64, err error) {
	for _, s := range segs {
		if !s.Dumped {
			continue
		}
		memoryBytes += s.Size()
		for r, err := range dataOf(mem, s.Range) {
			if err != nil {
				return memoryBytes, dataBytes, err
			}
			dataBytes += r.Size()
		}
	}
	return memoryBytes, dataBytes, nil
}

// dataOf yields the parts of r that may hold data, made of whole pages, ascending and disjoint.
// A Memory that is not Sparse may hold data everywhere. An error comes with the part that it
// leaves unknown, and ends the sequence.
func dataOf(mem procmem.Memory, r procmem.Range) iter.Seq2[procmem.Range, error] {
	sparse, ok := mem.(procmem.Sparse)
	return func(yield func(procmem.Range, error) bool) {
		if !ok {
			yield(r, nil)
			return
		}
		at := r.Start
		for d, err := range sparse.Data(r) {
			if err != nil {
				if at < r.End {
					yield(procmem.Range{Start: at, End: r.End}, err)
				}
				return
			}
			d = procmem.Range{Start: max(d.Start.PageDown(), at), End: min(pageAbove(d.End), r.End)}
			if d.Empty() {
				continue
			}
			at = d.End
			if !yield(d, nil) {
				return
			}
		}
	}
}

// pageAbove rounds up to a page boundary, or to the last one that there is.
func pageAbove(a procmem.Addr) procmem.Addr {
	if up, err := a.Add(procmem.PageSize - 1); err == nil {
		return up.PageDown()
	}
	return a
}
