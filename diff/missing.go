package diff

import (
	"cmp"
	"slices"
)

// MaxMissing is how many ranges Stats.Missing has at most.
const MaxMissing = 10_000

// missingList lists what was not compared, and counts what it does not list.
type missingList struct {
	list   []Missing
	ranges uint64
	bytes  uint64
}

// add adds one, or makes the last one longer.
func (l *missingList) add(m Missing) {
	l.bytes += m.Size()
	l.place(m)
}

func (l *missingList) place(m Missing) {
	if k := len(l.list) - 1; k >= 0 && l.list[k].End == m.Start && l.list[k].Side == m.Side && l.list[k].Err.Error() == m.Err.Error() {
		l.list[k].End = m.End
		return
	}
	l.ranges++
	if len(l.list) < MaxMissing {
		l.list = append(l.list, m)
	}
}

// mergeMissing makes one list of several.
func mergeMissing(lists ...*missingList) *missingList {
	var all []Missing
	out := &missingList{}
	var unlisted uint64
	for _, l := range lists {
		all = append(all, l.list...)
		out.bytes += l.bytes
		unlisted += l.ranges - uint64(len(l.list))
	}
	slices.SortFunc(all, func(a, b Missing) int { return cmp.Compare(a.Start, b.Start) })
	for _, m := range all {
		out.place(m)
	}
	out.ranges += unlisted
	return out
}
