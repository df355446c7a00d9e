package lines

import (
	"debug/dwarf"
	"errors"
	"slices"
)

// function is one that has code, of its own or inlined into another.
type function struct {
	entry    uint64 // in .debug_info
	outer    int32  // the one that it is in, -1 if none
	depth    uint16
	inlined  bool
	callFile uint32 // where it is called
	callLine uint32
}

// Bounds of one unit. A large one of Rust has some hundred thousand functions.
const (
	maxFunctions = 1 << 20
	maxSpans     = 1 << 21
	maxDepth     = 1 << 10 // of entries in entries
)

// functions are those of a unit.
type functions struct {
	all   []function
	spans []span // ascending
}

// readFunctions reads all entries of a unit. What is damaged leaves what was read before it.
func (p *Program) readFunctions(u *unit) (*functions, error) {
	if u.end-u.first > maxUnitBytes {
		return nil, errors.New("one of its units is too large")
	}
	b, err := p.info.exactly(u.first, u.end-u.first)
	if err != nil {
		return nil, err
	}
	shapes, err := p.shapes(u)
	if err != nil {
		return nil, err
	}
	out, fuel := &functions{}, maxSpans
	c := cursor{b: b, wide: u.wide, addrSize: u.addrSize}
	var stack []int32 // the innermost function of each entry that the next one is in
	for !c.done() && fuel > 0 && len(out.all) < maxFunctions {
		at := u.first + uint64(c.at)
		code := c.uleb()
		if code == 0 {
			if stack = stack[:max(len(stack)-1, 0)]; len(stack) == 0 {
				break // behind the root
			}
			continue
		}
		shape, ok := shapes.find(code)
		if !ok {
			break
		}
		inner := int32(-1)
		if len(stack) > 0 {
			inner = stack[len(stack)-1]
		}
		inlined := shape.tag == uint64(dwarf.TagInlinedSubroutine)
		if !inlined && shape.tag != uint64(dwarf.TagSubprogram) {
			u.pass(&c, shape)
		} else if e := p.attrs(u, &c, shape); !c.bad {
			inner = p.addFunction(u, out, e, function{entry: at, outer: inner, depth: uint16(len(stack)), inlined: inlined,
				callFile: uint32(e.callFile.n), callLine: uint32(e.callLine.n)}, &fuel)
		}
		if shape.children {
			if len(stack) == maxDepth {
				break
			}
			stack = append(stack, inner)
		}
	}
	slices.SortFunc(out.spans, func(a, b span) int {
		switch {
		case a.low < b.low:
			return -1
		case a.low > b.low:
			return 1
		}
		return 0
	})
	out.all, out.spans = slices.Clip(out.all), slices.Clip(out.spans)
	return out, nil
}

// addFunction adds f if it has code, and returns the function that its children are in.
func (p *Program) addFunction(u *unit, to *functions, e entry, f function, fuel *int) int32 {
	k, had := len(to.all), len(to.spans)
	p.spansOf(u, e, fuel, func(low, high uint64) { to.spans = append(to.spans, span{low, high, uint32(k)}) })
	if len(to.spans) == had {
		return f.outer
	}
	to.all = append(to.all, f)
	return int32(k)
}

// at returns the functions that hold the address v, the innermost first, which have no other
// function between them.
func (fs *functions) at(v uint64) (chain []function) {
	best := int32(-1)
	for _, s := range fs.spans {
		if s.low > v {
			break
		}
		if v < s.high && (best < 0 || fs.all[s.of].depth >= fs.all[best].depth) {
			best = int32(s.of)
		}
	}
	for k := best; k >= 0; k = fs.all[k].outer {
		if chain = append(chain, fs.all[k]); !fs.all[k].inlined {
			break
		}
	}
	return chain
}

func (fs *functions) memory() int64 { return int64(cap(fs.all))*32 + int64(cap(fs.spans))*24 }

// entryOf returns where the part of f that holds v begins.
func (fs *functions) entryOf(f function, v uint64) uint64 {
	for _, s := range fs.spans {
		if s.low > v {
			break
		}
		if v < s.high && fs.all[s.of].entry == f.entry {
			return s.low
		}
	}
	return 0
}

func (p *Program) functions(u *unit) (*functions, error) {
	return get(p.cache, cacheKey{p, u.off, 'f'}, func() (*functions, int64, error) {
		fs, err := p.readFunctions(u)
		if err != nil {
			return nil, 0, err
		}
		return fs, fs.memory(), nil
	})
}
