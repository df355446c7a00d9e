package lines

import (
	"debug/dwarf"
)

// entry is what is wanted of one.
type entry struct {
	name, linkage                  value
	origin                         value // where the rest is told
	low, high, ranges              value
	callFile, callLine             value
	lines, dir                     value
	strOffsets, addrBase, rangesAt value
}

// Attributes that debug/dwarf does not know.
const (
	attrMIPSLinkageName = 0x2007
	attrGNURangesBase   = 0x2132
	attrGNUAddrBase     = 0x2133
)

// attrs reads the attributes of an entry of that shape.
func (p *Program) attrs(u *unit, c *cursor, shape *abbrev) (e entry) {
	for _, a := range shape.attrs {
		v := u.value(c, a.form, a.implicit)
		switch dwarf.Attr(a.name) {
		case dwarf.AttrName:
			e.name = v
		case dwarf.AttrLinkageName, attrMIPSLinkageName:
			e.linkage = v
		case dwarf.AttrAbstractOrigin, dwarf.AttrSpecification:
			e.origin = v
		case dwarf.AttrLowpc:
			e.low = v
		case dwarf.AttrHighpc:
			e.high = v
		case dwarf.AttrRanges:
			e.ranges = v
		case dwarf.AttrCallFile:
			e.callFile = v
		case dwarf.AttrCallLine:
			e.callLine = v
		case dwarf.AttrStmtList:
			e.lines = v
		case dwarf.AttrCompDir:
			e.dir = v
		case dwarf.AttrStrOffsetsBase:
			e.strOffsets = v
		case dwarf.AttrAddrBase, attrGNUAddrBase:
			e.addrBase = v
		case dwarf.AttrRnglistsBase, attrGNURangesBase:
			e.rangesAt = v
		}
	}
	return e
}

// pass skips an entry of that shape.
func (u *unit) pass(c *cursor, shape *abbrev) {
	if shape.fixed >= 0 {
		c.take(uint64(shape.fixed))
		return
	}
	for _, a := range shape.attrs {
		u.value(c, a.form, a.implicit)
	}
}

// spansOf visits the code that an entry is about, as long as there is fuel.
func (p *Program) spansOf(u *unit, e entry, fuel *int, visit func(low, high uint64)) {
	if e.ranges.form != 0 {
		_ = p.rangeList(u, e.ranges, fuel, visit) // what was read before it ends is there
		return
	}
	low, ok := p.address(u, e.low)
	if !ok || e.high.form == 0 || *fuel <= 0 {
		return
	}
	high, isAddress := p.address(u, e.high)
	if !isAddress {
		high = low + e.high.n
	}
	if *fuel--; low < high {
		visit(low, high)
	}
}
