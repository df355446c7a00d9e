package pageset

import (
	"cmp"
	"slices"

	"github.com/procmem/procmem"
)

// Merge sorts ranges by address, drops empty ones and joins those that overlap or touch. It
// reuses the slice, and never returns nil.
func Merge(ranges []procmem.Range) []procmem.Range {
	slices.SortFunc(ranges, func(a, b procmem.Range) int { return cmp.Compare(a.Start, b.Start) })
	if ranges == nil {
		return []procmem.Range{}
	}
	out := ranges[:0]
	for _, r := range ranges {
		switch k := len(out) - 1; {
		case r.Empty():
		case k >= 0 && out[k].End >= r.Start:
			out[k].End = max(out[k].End, r.End)
		default:
			out = append(out, r)
		}
	}
	return out
}

// Index returns the index of the first of ascending, disjoint ranges that ends above a, or
// len(ranges).
func Index(ranges []procmem.Range, a procmem.Addr) int {
	i, _ := slices.BinarySearchFunc(ranges, a, func(r procmem.Range, a procmem.Addr) int {
		if r.End <= a {
			return -1
		}
		return 1
	})
	return i
}

// Contains reports whether one of ascending, disjoint ranges holds a.
func Contains(ranges []procmem.Range, a procmem.Addr) bool {
	i := Index(ranges, a)
	return i < len(ranges) && ranges[i].Start <= a
}

// Overlaps reports whether any of ascending, disjoint ranges overlaps r.
func Overlaps(ranges []procmem.Range, r procmem.Range) bool {
	i := Index(ranges, r.Start)
	return i < len(ranges) && ranges[i].Start < r.End
}

// Covers reports whether one of ascending, disjoint ranges holds all of r.
func Covers(ranges []procmem.Range, r procmem.Range) bool {
	i := Index(ranges, r.Start)
	return i < len(ranges) && ranges[i].Start <= r.Start && ranges[i].End >= r.End
}
