package main

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/symbols"
)

const (
	followWords = 16 // words of a range without an end
	followDepth = 5  // most pointers in a chain
	followText  = 64 // bytes of a string that are shown
	followCode  = 8  // bytes of instructions
	shortest    = 4  // bytes of the shortest string; shorter text may be shown beside its number
	least       = 3  // bytes of text in a number that are worth showing
)

// follower follows pointers through the memory of a target.
type follower struct {
	mem    procmem.Memory
	maps   []procmem.Mapping
	word   int // bytes
	locate func(procmem.Addr) string
	tab    *symbols.Table
}

// chain is where a word leads to.
type chain struct {
	Links []link   `json:"chain"`
	End   chainEnd `json:"leads_to"`
}

// link is an address, as the word before has it.
type link struct {
	Addr    procmem.Addr `json:"address"`
	Region  string       `json:"region"`
	Mapping string       `json:"mapping"`
	Symbol  string       `json:"symbol"`
}

// chainEnd is what the last pointer of a chain points to. Without a pointer, it is what the
// word itself is.
type chainEnd struct {
	Kind  string        `json:"kind"`
	Value *procmem.Addr `json:"value,omitempty"`
	Text  string        `json:"text,omitempty"`
	Cut   bool          `json:"-"` // the text goes on
	Hex   string        `json:"hex,omitempty"`
	Error string        `json:"error,omitempty"`
}

// The kinds of chainEnd.
const (
	endNumber     = "number"
	endString     = "string"
	endCode       = "code"
	endLoop       = "loop"
	endDepth      = "depth"
	endUnreadable = "unreadable"
)

// regions are the values of link.Region, with their colours.
var regions = map[string]term.Kind{
	"code": term.KindCode, "stack": term.KindStack, "heap": term.KindHeap, "data": term.KindData, "rodata": term.KindReadOnly,
}

func regionOf(m *procmem.Mapping) string {
	switch {
	case m.Perm&procmem.PermExec != 0:
		return "code"
	case strings.HasPrefix(m.Path, "[stack"):
		return "stack"
	case m.Path == "[heap]":
		return "heap"
	case m.Perm&procmem.PermWrite != 0:
		return "data"
	}
	return "rodata"
}

// mapping returns the mapping that holds the address, or nil.
func (f *follower) mapping(a procmem.Addr) *procmem.Mapping {
	if i := procmem.FindMapping(f.maps, a); i < len(f.maps) && f.maps[i].Contains(a) {
		return &f.maps[i]
	}
	return nil
}

// follow returns the chain of the word v at the address at.
func (f *follower) follow(at procmem.Addr, v uint64) chain {
	c := chain{Links: []link{}}
	for {
		a := procmem.Addr(v)
		m := f.mapping(a)
		if m == nil {
			c.End = numberEnd(v)
			return c
		}
		if back := a == at || c.visited(a); back || len(c.Links) == followDepth {
			if c.End.Kind = endDepth; back {
				c.End.Kind = endLoop
			}
			c.End.Value = &a
			return c
		}
		c.Links = append(c.Links, link{a, regionOf(m), f.locate(a), f.tab.Name(a)})
		var done bool
		if v, c.End, done = f.look(a, m); done {
			return c
		}
	}
}

func (c *chain) visited(a procmem.Addr) bool {
	for _, l := range c.Links {
		if l.Addr == a {
			return true
		}
	}
	return false
}

// look returns the pointer at an address, or what ends the chain.
func (f *follower) look(a procmem.Addr, m *procmem.Mapping) (next uint64, end chainEnd, done bool) {
	var buf [followText]byte
	n, err := f.mem.ReadAt(buf[:], a)
	b := buf[:n]
	switch {
	case n == 0:
		return 0, chainEnd{Kind: endUnreadable, Error: inShort(err)}, true
	case m.Perm&procmem.PermExec != 0:
		return 0, chainEnd{Kind: endCode, Hex: hex.EncodeToString(b[:min(n, followCode)])}, true
	}
	whole := n >= f.word
	if whole {
		if next = wordAt(b, f.word); f.mapping(procmem.Addr(next)) != nil {
			return next, chainEnd{}, false
		}
	}
	if text := textAt(b); len(text) >= shortest {
		return 0, chainEnd{Kind: endString, Text: text, Cut: len(text) == n}, true
	}
	if !whole {
		return 0, chainEnd{Kind: endUnreadable, Hex: hex.EncodeToString(b), Error: inShort(err)}, true
	}
	return 0, numberEnd(next), true
}

func wordAt(b []byte, size int) uint64 {
	if size == 4 {
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return binary.LittleEndian.Uint64(b)
}

// numberEnd returns the end for a word that points nowhere. If all of it is text, up to the
// leading zeros of the number, the end has the text, too.
func numberEnd(v uint64) chainEnd {
	a := procmem.Addr(v)
	b := binary.LittleEndian.AppendUint64(nil, v)
	text := textAt(b)
	if len(text) < least || v>>(8*len(text)) != 0 {
		text = ""
	}
	return chainEnd{Kind: endNumber, Value: &a, Text: text}
}

// textAt returns the printable text at the front of b. A character that the end of b cuts off
// is left out.
func textAt(b []byte) string {
	n := 0
	for n < len(b) {
		r, size := utf8.DecodeRune(b[n:])
		if r == utf8.RuneError && size == 1 || !strconv.IsPrint(r) && r != '\t' && r != '\n' && r != '\r' {
			break
		}
		n += size
	}
	return string(b[:n])
}

// name returns the text of an address, a RANGE and the symbol. It is "" where nothing is
// mapped.
func (f *follower) name(a procmem.Addr) string { return placeName(f.locate(a), f.tab.Name(a)) }

func placeName(mapping, symbol string) string {
	if symbol == "" {
		return mapping
	}
	return mapping + " <" + symbol + ">"
}

// parts returns the chain as a line of text has it.
func (c *chain) parts() []term.Part {
	var parts []term.Part
	for i := range c.Links {
		l := &c.Links[i]
		text := placeName(l.Mapping, l.Symbol)
		if i > 0 {
			text = l.Addr.String() + " " + text
		}
		parts = append(parts, term.Part{Kind: regions[l.Region], Text: text})
	}
	end := c.End.part()
	if len(parts) == 0 && c.End.Kind == endNumber {
		end.Text = strings.TrimPrefix(strings.TrimPrefix(end.Text, c.End.Value.String()), " ") // the line has it already
	}
	return append(parts, end)
}

func (e *chainEnd) part() term.Part {
	switch e.Kind {
	case endString:
		text := strconv.Quote(e.Text)
		if e.Cut {
			text += "..."
		}
		return term.Part{Kind: term.KindString, Text: text}
	case endCode:
		b, _ := hex.DecodeString(e.Hex)
		return term.Part{Kind: term.KindCode, Text: fmt.Sprintf("% x", b)}
	case endLoop:
		return term.Part{Text: e.Value.String() + " (loop)"}
	case endDepth:
		return term.Part{Text: e.Value.String() + " ..."}
	case endUnreadable:
		return term.Part{Text: "(" + e.Error + ")"}
	}
	text := e.Value.String()
	if e.Text != "" {
		text += " " + strconv.Quote(e.Text)
	}
	return term.Part{Text: text}
}

// output returns an output that prints words with the chains that they begin.
func (f *follower) output(g *globals) readOutput {
	if g.json {
		return newJSONChains(f)
	}
	return term.NewChains(os.Stdout, f.word, g.color.Enabled(os.Stdout), func(at procmem.Addr, v uint64) []term.Part {
		c := f.follow(at, v)
		return c.parts()
	})
}

// jsonChains prints an object for each word.
type jsonChains struct {
	f    *follower
	w    *bufio.Writer
	at   procmem.Addr
	part []byte // of a word that is not complete yet
}

func newJSONChains(f *follower) *jsonChains { return &jsonChains{f: f, w: bufio.NewWriter(os.Stdout)} }

func (j *jsonChains) Write(addr procmem.Addr, p []byte) error {
	if addr != j.at+procmem.Addr(len(j.part)) {
		if err := j.rest(); err != nil {
			return err
		}
		j.at = addr
	}
	j.part = append(j.part, p...)
	for len(j.part) >= j.f.word {
		v := wordAt(j.part, j.f.word)
		err := writeJSON(j.w, struct {
			Addr  procmem.Addr `json:"address"`
			Value procmem.Addr `json:"value"`
			chain
		}{j.at, procmem.Addr(v), j.f.follow(j.at, v)})
		if err != nil {
			return err
		}
		j.at, j.part = j.at+procmem.Addr(j.f.word), j.part[j.f.word:]
	}
	return nil
}

// rest prints the rest of a word as bytes.
func (j *jsonChains) rest() error {
	if len(j.part) == 0 {
		return nil
	}
	p := j.part
	j.part = nil
	return writeJSON(j.w, pieceOf(j.at, p))
}

func (j *jsonChains) fault(f procmem.Fault) error {
	if err := j.rest(); err != nil {
		return err
	}
	return writeJSON(j.w, missing{f.Range, f.Size(), f.Err.Error()})
}

func (j *jsonChains) Close() error {
	if err := j.rest(); err != nil {
		return err
	}
	return j.w.Flush()
}
