package lines

import (
	"cmp"
	"debug/dwarf"
	"fmt"
	"slices"
)

// Bounds of one file. Chromium has 40,000 units and a million ranges.
const (
	maxUnits     = 1 << 19
	maxUnitSpans = 1 << 22
	maxUnitBytes = 96 << 20 // of the entries of a unit
)

// index finds out which units there are, and which code each is about. It reads only the roots.
func (p *Program) index() error {
	for off := uint64(0); ; {
		if len(p.units) == maxUnits {
			return nil
		}
		u, err := p.header(off)
		if err != nil {
			break // what is before it is good for something
		}
		if u.version >= 2 && u.version <= 5 {
			p.units = append(p.units, u)
			k := len(p.units) - 1
			if err := p.root(&p.units[k], uint32(k)); err != nil && p.cache.left < 0 {
				return err
			}
		}
		off = u.end
	}
	if len(p.units) == 0 {
		return fmt.Errorf("%w: it has no units", errDamaged)
	}
	slices.SortFunc(p.spans, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.low, b.low), cmp.Compare(b.high, a.high))
	})
	p.spans = slices.Clip(p.spans)
	return nil
}

// header reads that of the unit at off.
func (p *Program) header(off uint64) (unit, error) {
	const most = 64
	b, err := p.info.upTo(off, most)
	if err != nil {
		return unit{}, err
	}
	c := cursor{b: b}
	n := c.length()
	u := unit{off: off, end: off + uint64(c.at) + n, wide: c.wide}
	u.version = uint16(c.uint(2))
	if c.bad || u.end <= off || u.end > p.info.size {
		return unit{}, errDamaged
	}
	if u.version < 5 {
		u.abbrevs, u.addrSize = c.offset(), int(c.u8())
		u.first = off + uint64(c.at)
		return u, u.check(&c)
	}
	const skeleton, splitCompile, typ, splitType = 4, 5, 2, 6
	kind := c.u8()
	u.addrSize, u.abbrevs = int(c.u8()), c.offset()
	switch kind {
	case skeleton, splitCompile:
		c.take(8)
	case typ, splitType:
		c.take(8)
		c.offset()
	}
	u.first = off + uint64(c.at)
	// The tables that indices lead into have headers, behind which a unit without a base begins.
	u.strOffsets, u.addrBase = uint64(2*u.offsetSize()), 8
	return u, u.check(&c)
}

func (u *unit) check(c *cursor) error {
	if c.bad || u.first > u.end || u.addrSize != 4 && u.addrSize != 8 {
		u.version = 0 // to be passed over
	}
	return nil
}

// root reads the entry of unit k itself, and where its code is.
func (p *Program) root(u *unit, k uint32) error {
	for _, most := range []uint64{1 << 10, 64 << 10} {
		b, err := p.info.upTo(u.first, min(most, u.end-u.first))
		if err != nil {
			return err
		}
		c := cursor{b: b, wide: u.wide, addrSize: u.addrSize}
		code := c.uleb()
		shapes, err := p.readAbbrevs(u, code)
		if err != nil {
			return err
		}
		shape, ok := shapes.find(code)
		if !ok || shape.tag != uint64(dwarf.TagCompileUnit) && shape.tag != uint64(tagSkeletonUnit) {
			return nil
		}
		e := p.attrs(u, &c, shape)
		if c.bad {
			continue
		}
		u.setBases(e)
		u.dir = e.dir
		u.dir.text = slices.Clone(u.dir.text[:min(len(u.dir.text), maxText)])
		u.low, _ = p.address(u, e.low)
		fuel := maxUnitSpans - len(p.spans)
		p.spansOf(u, e, &fuel, func(low, high uint64) { p.spans = append(p.spans, span{low, high, k}) })
		return nil
	}
	return nil
}

const tagSkeletonUnit = 0x4a

func (u *unit) setBases(e entry) {
	if e.lines.form != 0 {
		u.lines, u.hasLines = e.lines.n, true
	}
	if e.strOffsets.form != 0 {
		u.strOffsets = e.strOffsets.n
	}
	if e.addrBase.form != 0 {
		u.addrBase = e.addrBase.n
	}
	if e.rangesAt.form != 0 {
		u.rangesAt = e.rangesAt.n
	}
}

// unitOf returns the unit that holds the offset of an entry.
func (p *Program) unitOf(off uint64) *unit {
	i, found := slices.BinarySearchFunc(p.units, off, func(u unit, off uint64) int { return cmp.Compare(u.off, off) })
	if !found {
		i--
	}
	if i < 0 || off < p.units[i].first || off >= p.units[i].end {
		return nil
	}
	return &p.units[i]
}
