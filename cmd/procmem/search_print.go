package main

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/candidates"
	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/search"
	"github.com/procmem/procmem/symbols"
	"github.com/procmem/procmem/target"
)

// places names addresses.
type places struct {
	maps    []procmem.Mapping
	locate  func(procmem.Addr) string
	symbols *symbols.Table
}

func newPlaces(ms []procmem.Mapping, tab *symbols.Table) *places {
	return &places{ms, target.Locator(ms), tab}
}

func (p *places) name(a procmem.Addr) string { return placeName(p.locate(a), p.symbols.Name(a)) }

// mapping returns the mapping that holds the address, or nil.
func (p *places) mapping(a procmem.Addr) *procmem.Mapping {
	if i := procmem.FindMapping(p.maps, a); i < len(p.maps) && p.maps[i].Contains(a) {
		return &p.maps[i]
	}
	return nil
}

// output returns the output that prints matches.
func (o *searchFlags) output(g *globals, s *searched, patterns []search.Pattern) searchOutput {
	p := matchPrinter{whose: s.whose, several: o.several.list.Several(), places: s.places, patterns: patterns, bigEndian: o.bigEndian, hex: o.hex, typed: -1}
	if typ, err := search.ParseType(o.typ); err == nil {
		p.typed = int(typ)
	} else if o.pointer {
		p.typed = int(search.Ptr)
	}
	if g.json {
		w := bufio.NewWriterSize(o.stdout, printBuffer)
		j := &matchJSON{matchPrinter: p, enc: newJSONEncoder(w)}
		j.flush = newFlusher(w.Flush)
		return j
	}
	rows := o.set("context") && o.context > 0
	l := &matchLines{matchPrinter: p, finds: term.NewFinds(o.stdout, g.color.Enabled(os.Stdout), rows)}
	l.flush = newFlusher(l.finds.Flush)
	return l
}

const printBuffer = 64 << 10

// flusher empties a buffer when nothing has come for a moment, so that matches show while the
// search goes on. Code that writes to the buffer must hold its lock.
type flusher struct {
	sync.Mutex
	flush func() error
	timer *time.Timer
	armed bool
	err   error
}

// flushAfter is how long a match waits for others.
const flushAfter = 50 * time.Millisecond

func newFlusher(flush func() error) *flusher {
	f := &flusher{flush: flush}
	f.timer = time.AfterFunc(time.Hour, func() {
		f.Lock()
		defer f.Unlock()
		f.armed = false
		f.err = cmp.Or(f.err, f.flush())
	})
	f.timer.Stop()
	return f
}

// wrote notes that something is in the buffer. It returns the error since the last call.
func (f *flusher) wrote() error {
	if !f.armed {
		f.armed = true
		f.timer.Reset(flushAfter)
	}
	return f.err
}

// end empties the buffer for the last time.
func (f *flusher) end() error {
	f.Lock()
	defer f.Unlock()
	f.timer.Stop()
	return cmp.Or(f.err, f.flush())
}

// matchPrinter is what all printers of matches share.
type matchPrinter struct {
	whose     whose
	several   bool // there are other targets
	places    *places
	patterns  []search.Pattern
	typed     int // a search.Type, or -1
	bigEndian bool
	hex       bool
	flush     *flusher
}

// pattern returns the text of a match's pattern.
func (p *matchPrinter) pattern(m *search.Match) string { return p.patterns[m.Pattern].String() }

// value returns a match as a number, or "" where it is none.
func (p *matchPrinter) value(b []byte) string {
	if p.typed < 0 {
		return ""
	}
	return formatValue(search.Type(p.typed), b, p.bigEndian)
}

func (p *matchPrinter) end() error { return p.flush.end() }

// formatValue returns a value as one would search for it.
func formatValue(t search.Type, b []byte, bigEndian bool) string {
	var v uint64
	for i, c := range b {
		if !bigEndian {
			c = b[len(b)-1-i]
		}
		v = v<<8 | uint64(c)
	}
	shift := 64 - 8*len(b)
	switch t {
	case search.I8, search.I16, search.I32, search.I64:
		return strconv.FormatInt(int64(v<<shift)>>shift, 10)
	case search.F32:
		return strconv.FormatFloat(float64(math.Float32frombits(uint32(v))), 'g', -1, 32)
	case search.F64:
		return strconv.FormatFloat(math.Float64frombits(v), 'g', -1, 64)
	case search.Ptr:
		return procmem.Addr(v).String()
	}
	return strconv.FormatUint(v, 10)
}

// matchLines prints a line for each match.
type matchLines struct {
	matchPrinter
	finds *term.Finds
	find  term.Find // used again for each match
}

func (l *matchLines) match(m *search.Match) error {
	f := &l.find
	*f = term.Find{Addr: m.Start, Place: l.places.name(m.Start), Value: l.value(m.Bytes), Hex: l.hex, Match: m.Bytes, Before: m.Before, After: m.After}
	if l.several {
		f.Whose = l.whose.String()
	}
	if len(l.patterns) > 1 {
		f.Pattern = l.pattern(m)
	}
	if l.typed == int(search.Ptr) {
		if to := l.places.name(pointer(m.Bytes, l.bigEndian)); to != "" {
			f.Value += " " + to
		}
	}
	return l.print()
}

// pointer returns the address that a pointer holds.
func pointer(b []byte, bigEndian bool) procmem.Addr {
	order := binary.ByteOrder(binary.LittleEndian)
	if bigEndian {
		order = binary.BigEndian
	}
	if len(b) == 4 {
		return procmem.Addr(order.Uint32(b))
	}
	return procmem.Addr(order.Uint64(b))
}

func (l *matchLines) candidate(c candidates.Candidate, info *candidates.Info) error {
	f := &l.find
	*f = term.Find{Addr: c.Addr, Place: l.places.name(c.Addr), Value: formatValue(info.Type, c.Now, info.BigEndian), Match: c.Now}
	if string(c.Value) != string(c.Now) {
		f.Value = formatValue(info.Type, c.Value, info.BigEndian) + " -> " + f.Value
	}
	return l.print()
}

func (l *matchLines) print() error {
	l.flush.Lock()
	defer l.flush.Unlock()
	if err := l.finds.Print(&l.find); err != nil {
		return err
	}
	return l.flush.wrote()
}

// count prints a number, and the pattern where there are several.
func (l *matchLines) count(pattern string, n uint64, several bool) error {
	line := number(n)
	if l.several {
		line += "  " + l.whose.String()
	}
	if several {
		line += "  " + strconv.Quote(pattern)
	}
	return l.finds.Line(line)
}

// matchJSON prints an object for each match.
type matchJSON struct {
	matchPrinter
	enc *json.Encoder
}

// foundJSON is a match.
type foundJSON struct {
	whose
	Start   procmem.Addr `json:"start"`
	Bytes   int          `json:"bytes"`
	Pattern *string      `json:"pattern,omitempty"`
	Mapping string       `json:"mapping"`
	Path    string       `json:"path"`
	Offset  uint64       `json:"offset"`
	Symbol  string       `json:"symbol"`
	Value   string       `json:"value,omitempty"`
	Was     string       `json:"was,omitempty"`
	Hex     string       `json:"hex"`
	Before  *string      `json:"before,omitempty"`
	After   *string      `json:"after,omitempty"`
}

func (j *matchJSON) found(a procmem.Addr, b []byte) foundJSON {
	f := foundJSON{whose: j.whose, Start: a, Bytes: len(b), Mapping: j.places.locate(a), Symbol: j.places.symbols.Name(a), Hex: hex.EncodeToString(b)}
	if m := j.places.mapping(a); m != nil {
		f.Path, f.Offset = m.Path, uint64(a-m.Start)
	}
	return f
}

func (j *matchJSON) match(m *search.Match) error {
	f := j.found(m.Start, m.Bytes)
	pattern := j.pattern(m)
	f.Pattern, f.Value = &pattern, j.value(m.Bytes)
	before, after := hex.EncodeToString(m.Before), hex.EncodeToString(m.After)
	f.Before, f.After = &before, &after
	return j.print(&f)
}

func (j *matchJSON) candidate(c candidates.Candidate, info *candidates.Info) error {
	f := j.found(c.Addr, c.Now)
	f.Value, f.Was = formatValue(info.Type, c.Now, info.BigEndian), formatValue(info.Type, c.Value, info.BigEndian)
	return j.print(&f)
}

func (j *matchJSON) print(v any) error {
	j.flush.Lock()
	defer j.flush.Unlock()
	if err := j.enc.Encode(v); err != nil {
		return err
	}
	return j.flush.wrote()
}

func (j *matchJSON) count(pattern string, n uint64, _ bool) error {
	type counted struct {
		whose
		Pattern *string `json:"pattern,omitempty"`
		Count   uint64  `json:"count"`
	}
	c := counted{j.whose, &pattern, n}
	if j.patterns == nil {
		c.Pattern = nil
	}
	return j.print(c)
}
