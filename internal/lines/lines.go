// Package lines tells functions and lines of source for addresses, by debug information in DWARF
// of versions 2 to 5.
//
// Start with Open and At. Nothing is read before it is asked for: first only where the units of
// a file have code, then one unit. A file may be anybody's: time and memory are bounded by the
// Cache, and what is damaged gives fewer answers, or wrong ones, and nothing worse.
//
// Split debug information (.dwo) tells lines alone.
package lines

import (
	"errors"
	"fmt"

	"github.com/procmem/procmem/internal/elffile"
)

// ErrNone reports a file without debug information.
var ErrNone = errors.New("it has no debug information")

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

// Program is the debug information of one file.
type Program struct {
	elf   *elffile.File
	cache *Cache
	alt   *Program // what several files have in common, maybe nil
	room  uint64   // bytes of sections that may still be unpacked

	info, abbrev, str, lineStr, strOffsets, addr, line, ranges, rnglists section

	indexed bool
	err     error
	units   []unit
	spans   []span // of units
}

// maxUnpacked bounds the bytes of the unpacked sections of a file. The JVM of OpenJDK 17 has 330
// MiB of them.
const maxUnpacked = 384 << 20

// Open returns the debug information of a file. alt is that of the file which .gnu_debugaltlink
// means; nil if it has none, or it is not at hand: names that are there are then missing. It
// fails with ErrNone.
func Open(f *elffile.File, alt *Program, cache *Cache) (*Program, error) {
	p := &Program{elf: f, cache: cache, alt: alt, room: maxUnpacked}
	by := p.sections()
	names := make([]string, 0, len(by))
	for name, s := range by {
		names = append(names, name)
		s.p = p
	}
	found, err := f.Named(names...)
	if err != nil {
		return nil, err
	}
	for name, header := range found {
		by[name].header, by[name].there = header, true
	}
	if !p.info.there || !p.abbrev.there {
		return nil, ErrNone
	}
	return p, nil
}

// Close gives back the memory of p, of which nothing may be asked any more.
func (p *Program) Close() {
	p.cache.forget(p)
	for _, s := range p.sections() {
		s.close()
	}
}

// sections are those of p by name.
func (p *Program) sections() map[string]*section {
	return map[string]*section{".debug_info": &p.info, ".debug_abbrev": &p.abbrev, ".debug_str": &p.str, ".debug_line_str": &p.lineStr,
		".debug_str_offsets": &p.strOffsets, ".debug_addr": &p.addr, ".debug_line": &p.line, ".debug_ranges": &p.ranges, ".debug_rnglists": &p.rnglists}
}

// Memory returns how many bytes p keeps, beside what is in the cache.
func (p *Program) Memory() int64 {
	return int64(maxUnpacked-p.room) + int64(cap(p.units))*200 + int64(cap(p.spans))*24
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

func (p *Program) functions(u *unit) (*functions, error) {
	return get(p.cache, cacheKey{p, u.off, 'f'}, func() (*functions, int64, error) {
		fs, err := p.readFunctions(u)
		if err != nil {
			return nil, 0, err
		}
		return fs, fs.memory(), nil
	})
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
