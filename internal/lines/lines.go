// Package lines tells functions and lines of source for addresses, by debug information in DWARF
// of versions 2 to 5.
//
// Start with Open and At. Nothing is read before it is asked for: first only where the units of
// a file have code, then one unit. A file may be anybody's: time and memory are bounded by the
// Cache, and what is damaged gives fewer answers, or wrong ones, and nothing worse.
//
// Split debug information (.dwo) tells lines alone.
package lines

import "fmt"

// Frame is a function that holds an address.
type Frame struct {
	// Name is that of the source, and Linkage that of the linker; both may be "".
	Name, Linkage string
	// Entry is the lowest address of the function's part that holds the address; 0 if unknown.
	Entry uint64
	// File is "" and Line is 0 where they are unknown.
	File string
	Line int
	// Inlined tells that the function is a part of the next one.
	Inlined bool
}

// At returns the functions that hold the code at the address v of the file, the innermost
// first. It returns nil if that is unknown. Where lines alone are known, there is one Frame
// without a name.
func (p *Program) At(v uint64) (frames []Frame, err error) {
	defer func() {
		if r := recover(); r != nil {
			frames, err = nil, fmt.Errorf("%w: %v", errDamaged, r)
		}
	}()
	return p.at(v)
}

// at may panic, if there is a fault in this package.
func (p *Program) at(v uint64) (frames []Frame, err error) {
	if err := p.prepare(); err != nil {
		return nil, err
	}
	u := p.holding(v)
	if u == nil {
		return nil, nil
	}
	fs, err := p.functions(u)
	if err != nil {
		return nil, err
	}
	file, line := p.lineOf(u, v)
	for _, f := range fs.at(v) {
		name, linkage := p.names(f.entry)
		frames = append(frames, Frame{name, linkage, fs.entryOf(f, v), file, line, f.inlined})
		file, line = p.fileOf(u, uint64(f.callFile)), int(f.callLine)
	}
	if frames == nil && file != "" {
		frames = []Frame{{File: file, Line: line}}
	}
	return frames, nil
}

func (p *Program) prepare() error {
	if !p.indexed {
		p.indexed = true
		p.err = p.index()
	}
	return p.err
}

// holding returns the unit that has code at v: of several the one whose code begins last.
func (p *Program) holding(v uint64) *unit {
	const most = 64 // that begin before v, and may end behind it
	low, high := 0, len(p.spans)
	for low < high {
		if mid := (low + high) / 2; p.spans[mid].low <= v {
			low = mid + 1
		} else {
			high = mid
		}
	}
	for k := low - 1; k >= max(0, low-most); k-- {
		if v < p.spans[k].high {
			return &p.units[p.spans[k].of]
		}
	}
	return nil
}
