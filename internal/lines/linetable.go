package lines

import (
	"cmp"
	"path"
	"slices"
)

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
