package target

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/procmem/procmem"
)

// Reasons why a name is no range of the target.
var (
	ErrNoMapping     = errors.New("no such mapping")
	ErrAmbiguousName = errors.New("ambiguous name") // several files have the basename, or the symbol
	ErrNoSymbol      = errors.New("no such symbol")
)

// DefaultLength is the length, in bytes, of a range of which only the beginning is given.
const DefaultLength = 256

// Spec is a RANGE as it was written. What it means depends on the mappings of a target: see
// Resolve. The zero Spec is no range.
//
//	0xA-0xB          from A up to and without B
//	0xA+LEN          LEN bytes from A
//	0xA              256 bytes from A, fewer where the memory mapped there ends
//	0xA-OFF+LEN      LEN bytes from OFF bytes before A
//	NAME             all mappings of that name
//	NAME+OFF+LEN     LEN bytes from OFF bytes behind the lowest of them
//	NAME+OFF         256 bytes from there, fewer where the memory mapped there ends
//	heap             the writable anonymous memory: [heap], and what the allocator has elsewhere
//	sym:SYMBOL       the memory of a symbol, or 256 bytes where its size is not known; with +OFF and +LEN as NAME
//
// Addresses are hexadecimal. The prefix 0x may be missing where there are 8
// to 16 digits, as /proc/PID/maps prints them, and from 0. LEN and OFF are sizes, as
// ParseSize reads them. A line that begins with an address or with two, as of
// maps or of a hexdump, means these.
//
// NAME is a name in brackets such as [heap] or [anon:glibc: malloc], which
// may be left out where no file has the name, the full
// path of a mapped file, or its basename where no other file has the same.
// Memory without a name is [anon@START]: see Name. [heap] is heap where no
// mapping is called that.
// The suffix " (deleted)" may be left out. A file whose name has the form of
// an address is reached by its full path. A name may itself hold '+': the
// longest name that a mapping has is taken. The lowest mapping of a program
// or a library is where it was loaded. So OFF is what nm and objdump print if
// it is position-independent. Memory that belongs to a program and not to its
// file, as of .bss, has no name.
type Spec struct {
	text     string
	named    bool
	r        procmem.Range // unless named; if named, the address that the text may be as well
	open     bool          // the end of r is a default
	readings []reading     // if named, the longest name first
}

// reading is one way to divide a text with '+' into a name and the rest.
type reading struct {
	name     string
	at       bool // an offset is given, and only so a length
	offset   uint64
	open     bool // the length is a default
	length   uint64
	lengthAt int // where it is in the text
}

// String returns the text that was parsed.
func (s Spec) String() string { return s.text }

// ParseRange parses a RANGE as far as that goes without the mappings of a target. It fails with
// a *SyntaxError.
func ParseRange(s string) (Spec, error) {
	var spec Spec
	var err *SyntaxError
	if s == "" {
		err = rangeError(s, 0, errors.New("a range is missing"))
	} else {
		spec, err = parse(s)
	}
	if err != nil {
		return Spec{}, err
	}
	return spec, nil
}

func parse(s string) (Spec, *SyntaxError) {
	head, plain, isLine := pastedRange(s)
	if isLine && plain {
		spec, err := parseAddresses(head)
		if err != nil {
			return Spec{}, rangeError(s, strings.Index(s, head)+err.Offset, err.Err)
		}
		spec.text = s
		return spec, nil
	}
	if addrForm(s) {
		return parseAddresses(s)
	}
	spec, err := parseName(s)
	if isLine && err == nil {
		if line, err := parseAddresses(head); err == nil {
			spec.r, spec.open = line.r, line.open
		}
	}
	return spec, err
}

func rangeError(text string, offset int, err error) *SyntaxError {
	return &SyntaxError{"range", text, offset, err}
}

// addrLen returns how much of s is an address: 0x and what follows, digits or not, 8 to 16
// hexadecimal digits, or 0.
func addrLen(s string) int {
	if has0x(s) {
		return 2 + digits(s[2:], true)
	}
	if n := digits(s, true); n >= 8 && n <= 16 || n == 1 && s[0] == '0' {
		return n
	}
	return 0
}

// longAddr is how many digits addresses of 64-bit programs have at least. What has fewer, and a
// number behind it, may be the name of a file.
const longAddr = 12

func has0x(s string) bool { return strings.HasPrefix(s, "0x") || strings.HasPrefix(s, "0X") }

// addrForm tells addresses from names. Without the prefix the whole text must have the form,
// for file names may begin with hexadecimal digits too.
func addrForm(s string) bool {
	if has0x(s) {
		return true
	}
	n := addrLen(s)
	if n == 0 || n == len(s) {
		return n != 0
	}
	rest := s[n+1:]
	switch s[n] {
	case '-':
		if m := addrLen(rest); m > 0 {
			return m == len(rest)
		}
		_, _, err := backwards(rest)
		return err == nil && n >= longAddr
	case '+':
		_, err := ParseSize(rest)
		return err == nil
	}
	return false
}

func parseAddresses(s string) (Spec, *SyntaxError) {
	start, n, err := parseAddr(s, 0)
	if err != nil {
		return Spec{}, err
	}
	spec := Spec{text: s}
	if n == len(s) {
		end := start + min(DefaultLength, math.MaxUint64-start)
		if end == start {
			return Spec{}, rangeError(s, 0, procmem.ErrOverflow)
		}
		spec.r, spec.open = procmem.Range{Start: start, End: end}, true
		return spec, nil
	}
	second := n + 1
	switch s[n] {
	case '-':
		if offset, length, err := backwards(s[second:]); err == nil && offset <= uint64(start) {
			spec.r, err = sized(s, strings.LastIndexByte(s, '+')+1, start-procmem.Addr(offset), length)
			return spec, err
		}
		end, m, err := parseAddr(s, second)
		if err != nil {
			return Spec{}, err
		}
		if second+m < len(s) {
			return Spec{}, rangeError(s, second+m, fmt.Errorf("%q follows the range", s[second+m:]))
		}
		switch {
		case end == start:
			return Spec{}, rangeError(s, second, fmt.Errorf("the range is empty: it ends where it begins"))
		case end < start:
			return Spec{}, rangeError(s, second, fmt.Errorf("the end %v is below the start %v", end, start))
		}
		spec.r = procmem.Range{Start: start, End: end}
		return spec, nil
	case '+':
		length, err := parseLength(s, second)
		if err != nil {
			return Spec{}, err
		}
		spec.r, err = sized(s, second, start, length)
		return spec, err
	}
	return Spec{}, rangeError(s, n, fmt.Errorf("%q follows the address: want -END, +LENGTH or nothing", s[n:]))
}

// backwards reads OFF+LEN behind an address and a minus.
func backwards(s string) (offset, length uint64, err *SyntaxError) {
	before, after, ok := strings.Cut(s, "+")
	if !ok {
		return 0, 0, rangeError(s, len(s), errors.New("a length is missing"))
	}
	if offset, err = parseSize(before); err == nil {
		length, err = parseSize(after)
	}
	return offset, length, err
}

// parseAddr reads the address at s[offset:] and returns the bytes it has.
func parseAddr(s string, offset int) (procmem.Addr, int, *SyntaxError) {
	t := s[offset:]
	n := addrLen(t)
	if n == 0 || has0x(t) && n == 2 {
		if t == "" {
			return 0, 0, rangeError(s, offset, errors.New("an address is missing"))
		}
		return 0, 0, rangeError(s, offset, fmt.Errorf("%q is not an address: want hexadecimal digits after 0x", t))
	}
	hex := t[:n]
	if has0x(hex) {
		hex = hex[2:]
	}
	v, err := strconv.ParseUint(hex, 16, 64)
	if err != nil {
		return 0, 0, rangeError(s, offset, fmt.Errorf("%w: %s has more than 64 bits", procmem.ErrOverflow, t[:n]))
	}
	return procmem.Addr(v), n, nil
}

// parseLength reads the length at s[offset:], which must end the text.
func parseLength(s string, offset int) (uint64, *SyntaxError) {
	n, err := parseSize(s[offset:])
	if err != nil {
		if i := strings.IndexByte(s[offset:], '+'); i > 0 {
			return 0, rangeError(s, offset+i, fmt.Errorf("%q follows the length", s[offset+i:]))
		}
		return 0, rangeError(s, offset+err.Offset, fmt.Errorf("length: %w", err.Err))
	}
	return n, nil
}

// sized returns length bytes from start; lengthAt is where the length is in the text.
func sized(text string, lengthAt int, start procmem.Addr, length uint64) (procmem.Range, *SyntaxError) {
	if length == 0 {
		return procmem.Range{}, rangeError(text, lengthAt, errors.New("the range is empty: its length is 0"))
	}
	end, err := start.Add(length)
	if err != nil {
		return procmem.Range{}, rangeError(text, lengthAt, err)
	}
	return procmem.Range{Start: start, End: end}, nil
}

func parseName(s string) (Spec, *SyntaxError) {
	spec := Spec{text: s, named: true}
	if s[0] == '+' || s[0] == '-' {
		return Spec{}, rangeError(s, 0, fmt.Errorf("nothing is in front of %q: want an address or a name", s[:1]))
	}
	if i := strings.IndexByte(s, ']'); s[0] == '[' && i > 0 {
		// A name in brackets ends with the bracket.
		rd, err := parseRest(s, i+1)
		if err != nil {
			return Spec{}, err
		}
		spec.readings = []reading{rd}
		return spec, nil
	}
	spec.readings = []reading{{name: s}}
	i := len(s)
	for range 2 { // +LEN, +OFF
		if i = strings.LastIndexByte(s[:i], '+'); i <= 0 {
			break
		}
		rd, err := parseRest(s, i)
		if err != nil {
			continue
		}
		spec.readings = append(spec.readings, rd)
	}
	return spec, nil
}

// parseRest reads +OFF and +OFF+LEN behind the name s[:n].
func parseRest(s string, n int) (reading, *SyntaxError) {
	rd := reading{name: s[:n]}
	if n == len(s) {
		return rd, nil
	}
	if s[n] != '+' {
		return rd, rangeError(s, n, fmt.Errorf("%q follows the name: want +OFFSET+LENGTH or nothing", s[n:]))
	}
	first, _, both := strings.Cut(s[n+1:], "+")
	off, err := parseSize(first)
	if err != nil {
		return rd, rangeError(s, n+1+err.Offset, fmt.Errorf("offset: %w", err.Err))
	}
	rd.at, rd.offset, rd.open, rd.length, rd.lengthAt = true, off, !both, DefaultLength, n+1
	if !both {
		return rd, nil
	}
	rd.lengthAt = n + 1 + len(first) + 1
	if rd.length, err = parseLength(s, rd.lengthAt); err != nil {
		return rd, err
	}
	if _, err := sized(s, rd.lengthAt, procmem.Addr(off), rd.length); err != nil {
		return rd, err
	}
	return rd, nil
}

// Symbols returns the memory of the one symbol of that name. If its size is not known, the
// range ends where it begins. It fails with ErrNoSymbol, or with ErrAmbiguousName if there are
// several.
type Symbols func(name string) (procmem.Range, error)

// symbolPrefix marks the name of a symbol.
const symbolPrefix = "sym:"

// DefaultTo returns s with another length, in bytes, in place of DefaultLength.
func (s Spec) DefaultTo(length uint64) Spec {
	if s.open {
		s.r.End = s.r.Start + procmem.Addr(min(length, uint64(math.MaxUint64-s.r.Start)))
	}
	s.readings = slices.Clone(s.readings)
	for i := range s.readings {
		if rd := &s.readings[i]; rd.open || !rd.at {
			rd.length = length
		}
	}
	return s
}

// Resolve returns the memory that the range means among the mappings ms, which must ascend. The
// result has at least one range. Its ranges are not empty, ascend, and do not touch. Addresses
// that are given are returned whether they are mapped or not.
//
// It fails with ErrNoMapping and the names that come close, and with ErrAmbiguousName if
// several files have the basename. It fails with a *SyntaxError if what follows a name makes no
// sense. It knows no symbols: see ResolveWith.
func (s Spec) Resolve(ms []procmem.Mapping) ([]procmem.Range, error) { return s.ResolveWith(ms, nil) }

// ResolveWith is Resolve with symbols, which may be nil. It passes their errors on.
func (s Spec) ResolveWith(ms []procmem.Mapping, symbols Symbols) ([]procmem.Range, error) {
	if !s.named {
		if s.r.Empty() {
			return nil, rangeError(s.text, 0, errors.New("a range is missing"))
		}
		if s.open {
			return []procmem.Range{clip(ms, s.r)}, nil
		}
		return []procmem.Range{s.r}, nil
	}
	if strings.HasPrefix(s.text, symbolPrefix) {
		return s.resolveSymbol(ms, symbols)
	}
	if rs := s.heap(ms); len(rs) > 0 {
		return rs, nil
	}
	for _, rd := range s.readings {
		rs, err := findName(ms, rd.name)
		if err != nil {
			return nil, fmt.Errorf("resolve range %q: %w", s.text, err)
		}
		if len(rs) > 0 {
			return s.place(ms, rd, rs)
		}
	}
	if rs := s.pasted(ms); len(rs) > 0 {
		return rs, nil
	}
	return nil, s.notFound(ms)
}

func (s Spec) resolveSymbol(ms []procmem.Mapping, symbols Symbols) ([]procmem.Range, error) {
	if symbols == nil {
		return nil, fmt.Errorf("resolve range %q: %w: symbols are not known here", s.text, ErrNoSymbol)
	}
	find := func(name string) (procmem.Range, error) { return symbols(strings.TrimPrefix(name, symbolPrefix)) }
	var err error
	for _, rd := range s.readings {
		var r procmem.Range
		if r, err = find(rd.name); err == nil {
			if !rd.at && r.Empty() {
				rd.at, rd.open, rd.length = true, true, cmp.Or(rd.length, DefaultLength)
			}
			return s.place(ms, rd, []procmem.Range{r})
		}
		if !errors.Is(err, ErrNoSymbol) {
			return nil, fmt.Errorf("resolve range %q: %w", s.text, err)
		}
	}
	// Symbols have no + in their names: where the text up to the first one is a symbol, what
	// follows is what is wrong.
	if i := strings.IndexByte(s.text, '+'); i > 0 {
		if _, ferr := find(s.text[:i]); ferr == nil {
			if _, perr := parseRest(s.text, i); perr != nil {
				return nil, perr
			}
		}
	}
	return nil, fmt.Errorf("resolve range %q: %w", s.text, err)
}

// place applies the offset and the length, if any, to the mappings rs.
func (s Spec) place(ms []procmem.Mapping, rd reading, rs []procmem.Range) ([]procmem.Range, error) {
	if !rd.at {
		return rs, nil
	}
	start, err := rs[0].Start.Add(rd.offset)
	if err != nil {
		return nil, rangeError(s.text, len(rd.name)+1, fmt.Errorf("offset: %w", err))
	}
	length := rd.length
	if rd.open {
		length = min(length, uint64(math.MaxUint64-start))
	}
	r, serr := sized(s.text, rd.lengthAt, start, length)
	if serr != nil {
		return nil, serr
	}
	if rd.open {
		r = clip(ms, r)
	}
	return []procmem.Range{r}, nil
}

// clip ends r, whose length was not given, where the memory mapped at its start ends. Where
// none is mapped, r stays, for the fault to be reported.
func clip(ms []procmem.Mapping, r procmem.Range) procmem.Range {
	i := procmem.FindMapping(ms, r.Start)
	if i == len(ms) || !ms[i].Contains(r.Start) {
		return r
	}
	end := ms[i].End
	for i++; i < len(ms) && ms[i].Start == end && end < r.End; i++ {
		end = ms[i].End
	}
	return procmem.Range{Start: r.Start, End: min(r.End, end)}
}
