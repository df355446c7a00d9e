package lines

// names returns the name of a function, as in the source, and as the linker has it, if that is
// told. They may be in another entry, which this one is an instance of.
func (p *Program) names(off uint64) (name, linkage string) {
	const hops = 16
	for range hops {
		u := p.unitOf(off)
		if u == nil {
			return name, linkage
		}
		e, ok := p.entryAt(u, off)
		if !ok {
			return name, linkage
		}
		if name == "" {
			name = p.string(u, e.name)
		}
		if linkage = p.string(u, e.linkage); linkage != "" || e.origin.form == 0 {
			return name, linkage
		}
		if p, off, ok = p.follow(u, e.origin); !ok {
			return name, linkage
		}
	}
	return name, linkage
}

// entryAt reads the entry at an offset.
func (p *Program) entryAt(u *unit, off uint64) (entry, bool) {
	for _, most := range []uint64{512, 64 << 10} {
		b, err := p.info.upTo(off, min(most, u.end-off))
		if err != nil {
			return entry{}, false
		}
		c := cursor{b: b, wide: u.wide, addrSize: u.addrSize}
		code := c.uleb()
		shapes, err := p.shapes(u)
		if err != nil || c.bad {
			return entry{}, false
		}
		shape, ok := shapes.find(code)
		if !ok {
			return entry{}, false
		}
		if e := p.attrs(u, &c, shape); !c.bad {
			return e, true
		}
	}
	return entry{}, false
}

// follow returns where a reference leads to.
func (p *Program) follow(u *unit, v value) (in *Program, off uint64, ok bool) {
	switch v.form {
	case formRef1, formRef2, formRef4, formRef8, formRefUdata:
		return p, u.off + v.n, true
	case formRefAddr:
		return p, v.n, true
	case formGNURefAlt, formRefSup4, formRefSup8:
		return p.alt, v.n, p.alt != nil
	}
	return nil, 0, false
}
