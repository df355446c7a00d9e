package lines

import "fmt"

// abbrev is the shape of an entry.
type abbrev struct {
	tag      uint64
	children bool
	attrs    []attr
	fixed    int // bytes of an entry of this shape, -1 if it varies
}

type attr struct {
	name, form uint16
	implicit   int64
}

// abbrevs are the shapes of the entries of a unit, by code.
type abbrevs struct {
	dense  []abbrev // those of codes 1, 2, 3…
	sparse map[uint64]abbrev
}

func (a *abbrevs) find(code uint64) (*abbrev, bool) {
	if code-1 < uint64(len(a.dense)) {
		return &a.dense[code-1], true
	}
	s, ok := a.sparse[code]
	return &s, ok
}

// maxAbbrevs bounds the bytes of the shapes of one unit. Large programs have some ten thousand.
const maxAbbrevs = 1 << 20

// readAbbrevs reads the shapes at an offset of .debug_abbrev; of those only the one with that
// code, and those before it, if only is not 0.
func (p *Program) readAbbrevs(u *unit, only uint64) (*abbrevs, error) {
	for n := uint64(4 << 10); ; n *= 16 {
		b, err := p.abbrev.upTo(u.abbrevs, n)
		if err != nil {
			return nil, err
		}
		out, whole := parseAbbrevs(u, b, only)
		switch {
		case whole:
			return out, nil
		case uint64(len(b)) < n || n >= maxAbbrevs:
			return nil, fmt.Errorf("%w: the shapes of its entries do not end", errDamaged)
		}
	}
}

func parseAbbrevs(u *unit, b []byte, only uint64) (out *abbrevs, whole bool) {
	out = &abbrevs{sparse: map[uint64]abbrev{}}
	c := cursor{b: b}
	for {
		code := c.uleb()
		if c.bad || code == 0 {
			return out, !c.bad
		}
		a := abbrev{tag: c.uleb(), children: c.u8() != 0}
		for !c.bad {
			at := attr{name: small(c.uleb()), form: small(c.uleb())}
			if at.form == formImplicitConst {
				at.implicit = c.sleb()
			}
			if at.name == 0 && at.form == 0 {
				break
			}
			a.attrs = append(a.attrs, at)
			if n := u.fixedSize(at.form); n < 0 {
				a.fixed = -1
			} else if a.fixed >= 0 {
				a.fixed += n
			}
		}
		if c.bad {
			return out, false
		}
		if code == uint64(len(out.dense))+1 {
			out.dense = append(out.dense, a)
		} else {
			out.sparse[code] = a
		}
		if code == only {
			return out, true
		}
	}
}

func (a *abbrevs) memory() int64 {
	n := int64(len(a.dense))*64 + int64(len(a.sparse))*128
	for i := range a.dense {
		n += int64(cap(a.dense[i].attrs)) * 16
	}
	for _, s := range a.sparse {
		n += int64(cap(s.attrs)) * 16
	}
	return n
}

// shapes are those of all entries of a unit.
func (p *Program) shapes(u *unit) (*abbrevs, error) {
	return get(p.cache, cacheKey{p, u.abbrevs, 'a'}, func() (*abbrevs, int64, error) {
		a, err := p.readAbbrevs(u, 0)
		if err != nil {
			return nil, 0, err
		}
		return a, a.memory(), nil
	})
}
