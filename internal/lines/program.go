package lines

import (
	"errors"

	"github.com/procmem/procmem/internal/elffile"
)

// ErrNone reports a file without debug information.
var ErrNone = errors.New("it has no debug information")

// Program is the debug information of one file.
type Program struct {
	source
	alt *Program // what several files have in common, maybe nil

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
	p := &Program{source: source{f, cache, maxUnpacked}, alt: alt}
	by := p.sections()
	names := make([]string, 0, len(by))
	for name, s := range by {
		names = append(names, name)
		s.from = &p.source
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
