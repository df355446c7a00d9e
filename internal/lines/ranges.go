package lines

// rangeList visits the ranges of a list of .debug_ranges or .debug_rnglists.
func (p *Program) rangeList(u *unit, v value, fuel *int, visit func(low, high uint64)) error {
	in, read := &p.rnglists, (*Program).rnglist
	off := v.n
	switch {
	case u.version < 5:
		in, read = &p.ranges, (*Program).oldRanges
	case v.form == formRnglistx:
		if v.n > 1<<32 {
			return errDamaged
		}
		size := uint64(u.offsetSize())
		b, err := in.exactly(u.rangesAt+v.n*size, size)
		if err != nil {
			return err
		}
		c := cursor{b: b, wide: u.wide}
		off = u.rangesAt + c.offset()
	}
	base := u.low
	// A list is read piece by piece: nothing tells how long it is.
	for n := uint64(256); *fuel > 0; n = min(4*n, 64<<10) {
		b, err := in.upTo(off, n)
		if err != nil {
			return err
		}
		c := cursor{b: b, wide: u.wide, addrSize: u.addrSize}
		whole := 0
		for *fuel > 0 {
			*fuel--
			end := read(p, u, &c, &base, visit)
			if c.bad {
				break
			}
			if whole = c.at; end {
				return nil
			}
		}
		if whole == 0 {
			return errDamaged
		}
		off += uint64(whole)
	}
	return nil
}

// oldRanges reads a pair of .debug_ranges, and reports whether the list ends with it.
func (p *Program) oldRanges(u *unit, c *cursor, base *uint64, visit func(low, high uint64)) (end bool) {
	low, high := c.addr(), c.addr()
	highest := uint64(1)<<(8*u.addrSize-1)<<1 - 1
	switch {
	case c.bad:
	case low == 0 && high == 0:
		return true
	case low == highest:
		*base = high
	case low < high:
		visit(*base+low, *base+high)
	}
	return false
}

// rnglist reads an entry of .debug_rnglists, and reports whether the list ends with it.
func (p *Program) rnglist(u *unit, c *cursor, base *uint64, visit func(low, high uint64)) (end bool) {
	const endOfList, baseAddrx, startxEndx, startxLength, offsetPair, baseAddress, startEnd, startLength = 0, 1, 2, 3, 4, 5, 6, 7
	var low, high uint64
	ok := true
	switch c.u8() {
	case endOfList:
		return true
	case baseAddrx:
		*base, _ = p.addressAt(u, c.uleb())
		return false
	case baseAddress:
		*base = c.addr()
		return false
	case startxEndx:
		var ok2 bool
		low, ok = p.addressAt(u, c.uleb())
		high, ok2 = p.addressAt(u, c.uleb())
		ok = ok && ok2
	case startxLength:
		low, ok = p.addressAt(u, c.uleb())
		high = low + c.uleb()
	case offsetPair:
		low, high = *base+c.uleb(), *base+c.uleb()
	case startEnd:
		low, high = c.addr(), c.addr()
	case startLength:
		low = c.addr()
		high = low + c.uleb()
	default:
		c.bad = true
	}
	if ok && !c.bad && low < high {
		visit(low, high)
	}
	return false
}
