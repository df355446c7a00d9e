package lines

import "slices"

// table is the line table of a unit.
type table struct {
	version   uint64
	dirs      []value
	files     []fileEntry
	rows      []row
	sequences []sequence // ascending
}

type fileEntry struct {
	name value
	dir  uint64
}

// row tells the line of the code from addr on, up to the next.
type row struct {
	addr       uint64
	file, line uint32
}

// sequence is code without a gap, which rows[first:last] are about.
type sequence struct {
	low, high   uint64
	first, last int
}

// Bounds of a line table. A large one has a million rows.
const (
	maxLineBytes = 64 << 20
	maxRows      = 1 << 22
	maxFiles     = 1 << 17
)

func (t *table) memory() int64 {
	n := int64(cap(t.rows))*16 + int64(cap(t.sequences))*32 + int64(cap(t.files)+cap(t.dirs))*64
	for _, d := range t.dirs {
		n += int64(len(d.text))
	}
	for _, f := range t.files {
		n += int64(len(f.name.text))
	}
	return n
}

// find returns the row of v, of the sequence that begins last before it.
func (t *table) find(v uint64) (row, bool) {
	i, _ := slices.BinarySearchFunc(t.sequences, v, func(s sequence, v uint64) int {
		if s.low <= v {
			return -1
		}
		return 1
	})
	const most = 64
	for k := i - 1; k >= max(0, i-most); k-- {
		s := t.sequences[k]
		if v >= s.high {
			continue
		}
		rows := t.rows[s.first:s.last]
		j, _ := slices.BinarySearchFunc(rows, v, func(r row, v uint64) int {
			if r.addr <= v {
				return -1
			}
			return 1
		})
		if j > 0 {
			return rows[j-1], true
		}
	}
	return row{}, false
}
