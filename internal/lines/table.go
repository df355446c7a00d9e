package lines

import (
	"cmp"
	"path"
	"slices"
)

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

// table returns the line table of a unit.
func (p *Program) table(u *unit) (*table, error) {
	return get(p.cache, cacheKey{p, u.lines, 'l'}, func() (*table, int64, error) {
		t, err := p.readTable(u)
		if err != nil {
			return nil, 0, err
		}
		return t, t.memory(), nil
	})
}

// lineOf returns the file and the line of the code at v.
func (p *Program) lineOf(u *unit, v uint64) (string, int) {
	if !u.hasLines {
		return "", 0
	}
	t, err := p.table(u)
	if err != nil {
		return "", 0
	}
	r, ok := t.find(v)
	if !ok {
		return "", 0
	}
	return p.fileOf(u, uint64(r.file)), int(r.line)
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

// fileOf returns the path of a file by its number in the line table, "" if it is unknown.
func (p *Program) fileOf(u *unit, number uint64) string {
	if !u.hasLines {
		return ""
	}
	t, err := p.table(u)
	if err != nil {
		return ""
	}
	if t.version < 5 {
		number-- // 0 is none
	}
	if number >= uint64(len(t.files)) {
		return ""
	}
	f := t.files[number]
	name := p.string(u, f.name)
	if name == "" {
		return ""
	}
	dir, k := p.string(u, u.dir), f.dir
	if t.version >= 5 && k < uint64(len(t.dirs)) {
		dir = p.string(u, t.dirs[0]) // that of the unit
	}
	if t.version < 5 {
		k-- // 0 is that of the unit
	}
	if k < uint64(len(t.dirs)) && !(t.version >= 5 && k == 0) {
		dir = join(dir, p.string(u, t.dirs[k]))
	}
	return join(dir, name)
}

// join returns the path of name, which dir has.
func join(dir, name string) string {
	if path.IsAbs(name) {
		return path.Clean(name)
	}
	return path.Join(dir, name)
}

// readTable reads the line table of a unit, as far as it makes sense.
func (p *Program) readTable(u *unit) (*table, error) {
	head, err := p.line.upTo(u.lines, 12)
	if err != nil {
		return nil, err
	}
	c := cursor{b: head}
	n := c.length()
	if c.bad || n > maxLineBytes {
		return nil, errDamaged
	}
	b, err := p.line.upTo(u.lines+uint64(c.at), n)
	if err != nil {
		return nil, err
	}
	t, m := &table{}, &machine{}
	code := cursor{b: b, wide: c.wide, addrSize: u.addrSize}
	if !m.header(&code, t) {
		return nil, errDamaged
	}
	m.run(&code, t)
	t.rows, t.sequences = slices.Clip(t.rows), slices.Clip(t.sequences)
	slices.SortStableFunc(t.sequences, func(a, b sequence) int { return cmp.Compare(a.low, b.low) })
	return t, nil
}
