package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/diff"
	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/internal/units"
	"github.com/procmem/procmem/target"
)

// diffOutput prints what is different: mappings, then ranges, then the rest.
type diffOutput interface {
	mapping(m diff.MappingChange) error
	change(c diff.Change) error
	end(mappings int, s *diff.Stats) error
}

func newDiffOutput(g *globals, before []procmem.Mapping, hex bool) diffOutput {
	w := bufio.NewWriterSize(os.Stdout, 256<<10)
	if g.json {
		return &diffJSON{w, newJSONEncoder(w), before, hex}
	}
	t := &diffText{w: w, color: g.color.Enabled(os.Stdout), terminal: term.IsTerminal(os.Stdout), width: columnsOf(os.Stdout),
		before: before, where: target.Locator(before)}
	if hex {
		t.hex = newHexPairs(w, t.color, t.width)
	}
	return t
}

// diffText prints for people.
type diffText struct {
	w        *bufio.Writer
	color    bool
	terminal bool // each range is shown when it is found
	width    int  // of the terminal, in columns; 0 where there is none
	before   []procmem.Mapping
	where    func(procmem.Addr) string
	hex      *hexPairs // nil where bytes are not printed

	mappings *term.Table
	ranges   *term.Table
}

func (t *diffText) mapping(m diff.MappingChange) error {
	if t.mappings == nil {
		t.mappings = term.NewTable(t.w, t.color, term.Column{Title: "CHANGE"}, term.Column{Title: "RANGE"},
			term.Column{Title: "PERM"}, term.Column{Title: "SIZE", Right: true, Spare: 1}, term.Column{Title: "MAPPING"})
		t.mappings.Fit(t.width, leastName)
	}
	perm, name := "", ""
	switch {
	case m.A == nil:
		perm, name = m.B.Perm.String(), target.Name(m.B)
	case m.B == nil:
		perm, name = m.A.Perm.String(), target.Name(m.A)
	default:
		perm, name = fromTo(m.A.Perm.String(), m.B.Perm.String()), nameFromTo(m.A, m.B)
		if m.A.Range != m.B.Range && m.Kind != diff.Altered {
			name += ", " + m.A.Range.String() + " -> " + m.B.Range.String()
		}
	}
	return t.mappings.Row(string(m.Kind), m.Range.String(), perm, units.Size(m.Size()), name)
}

// fromTo returns one text for a text that has become another, or has stayed.
func fromTo(a, b string) string {
	if a == b {
		return a
	}
	return a + " -> " + b
}

// nameFromTo is fromTo for names. Without one, a mapping that starts elsewhere is the same still.
func nameFromTo(a, b *procmem.Mapping) string {
	if a.Path == b.Path {
		return target.Name(a)
	}
	return fromTo(target.Name(a), target.Name(b))
}

// section ends what was printed before.
func (t *diffText) section(empty bool) error {
	if t.mappings == nil {
		return nil
	}
	err := t.mappings.Close()
	t.mappings = nil
	if !empty {
		t.w.WriteByte('\n')
	}
	return err
}

// diffCount is the width of a column that is printed before all rows are known.
const diffCount = len("1073741824")

func (t *diffText) change(c diff.Change) error {
	if err := t.section(false); err != nil {
		return err
	}
	if t.hex != nil {
		t.hex.print(c, t.where)
	} else if err := t.changed(c); err != nil {
		return err
	}
	if t.terminal {
		return t.w.Flush()
	}
	_, err := t.w.Write(nil)
	return err
}

// changed prints a row for a range.
func (t *diffText) changed(c diff.Change) error {
	if t.ranges == nil {
		t.ranges = term.NewTable(t.w, t.color, term.Column{Title: "RANGE", Width: rangeWidth}, term.Column{Title: "CHANGED", Width: diffCount, Right: true, Spare: 1},
			term.Column{Title: "OF", Width: diffCount, Right: true, Spare: 2}, term.Column{Title: "AT"})
		t.ranges.Fit(t.width, leastName)
	}
	err := t.ranges.Row(c.Range.String(), strconv.FormatUint(c.Bytes, 10), strconv.FormatUint(c.Size(), 10), t.where(c.Start))
	if err == nil && t.terminal {
		err = t.ranges.Flush()
	}
	return err
}

func (t *diffText) end(mappings int, s *diff.Stats) error {
	if err := t.body(s); err != nil {
		return err
	}
	if len(s.Heat) > 0 {
		t.w.WriteByte('\n')
	}
	term.Fprintf(t.w, "%s\n", diffTotal(mappings, s))
	return t.w.Flush()
}

// body prints what is known at the end, but for the total.
func (t *diffText) body(s *diff.Stats) error {
	if err := t.section(len(s.Heat) == 0); err != nil {
		return err
	}
	if t.ranges != nil {
		if err := t.ranges.Close(); err != nil {
			return err
		}
	}
	if len(s.Heat) == 0 {
		return nil
	}
	t.w.WriteByte('\n')
	return t.heat(s.Heat)
}

// diffTotal returns what is said of all.
func diffTotal(mappings int, s *diff.Stats) string {
	var parts []string
	if mappings > 0 {
		parts = append(parts, count(mappings, "change")+" of mappings")
	}
	if s.Changed > 0 {
		parts = append(parts, fmt.Sprintf("%s changed in %s and %s", bytesOf(s.Changed), count(int(s.Changes), "range"), count(int(s.Pages), "page")))
	}
	if len(parts) == 0 {
		parts = append(parts, "no difference")
	}
	return strings.Join(parts, ", ") + "; " + units.Size(s.Compared) + " compared"
}

// heat prints how much of each mapping has changed, and where in it.
func (t *diffText) heat(heat []diff.Heat) error {
	const least, most = 8, diff.MaxSpots
	pages := make([]string, len(heat))
	taken := rangeWidth + len("  ") + len("  ") + len("  ||  ") + len("CHANGED")
	pagesWidth := 0
	for i := range heat {
		pages[i] = fmt.Sprintf("%d of %d", heat[i].Pages, (heat[i].Compared+procmem.PageSize-1)/procmem.PageSize)
		pagesWidth = max(pagesWidth, len(pages[i]))
	}
	cells := most
	if t.width > 0 {
		cells = max(least, min(most, t.width-taken-pagesWidth-leastName-len("  ")))
	}
	tab := term.NewTable(t.w, t.color, term.Column{Title: "RANGE", Width: rangeWidth}, term.Column{Title: "PAGES", Right: true, Spare: 1},
		term.Column{Title: "CHANGED", Right: true, Spare: 2}, term.Column{Title: "WHERE", Width: cells + 2}, term.Column{Title: "MAPPING"})
	tab.Fit(t.width, leastName)
	for i := range heat {
		h := &heat[i]
		if err := tab.Row(h.Mapping.Range.String(), pages[i], strconv.FormatUint(h.Changed, 10), heatBar(h, cells), target.Name(&h.Mapping)); err != nil {
			return err
		}
	}
	return tab.Close()
}

// heatBar draws a mapping from its start to its end: blank where nothing has changed, up to @
// where each page has.
func heatBar(h *diff.Heat, cells int) string {
	const levels = ".:-=+*#%@"
	n := len(h.Spots)
	cells = min(cells, n)
	pages := (h.Mapping.Size() + procmem.PageSize - 1) / procmem.PageSize
	b := []byte{'|'}
	for i := range cells {
		from, to := i*n/cells, (i+1)*n/cells
		changed, of := uint64(0), min(uint64(to)*h.SpotPages(), pages)-uint64(from)*h.SpotPages()
		for _, x := range h.Spots[from:to] {
			changed += x
		}
		level := byte(' ')
		if changed > 0 {
			level = levels[int(float64(changed)/float64(max(of, changed))*float64(len(levels)-1))]
		}
		b = append(b, level)
	}
	return string(append(b, '|'))
}

// diffJSON prints each result as an object on a line.
type diffJSON struct {
	w      *bufio.Writer
	enc    *json.Encoder
	before []procmem.Mapping
	hex    bool
}

// diffMapping is a mapping in the output of diff.
type diffMapping struct {
	procmem.Range
	Perm   procmem.Perm `json:"perm"`
	Offset uint64       `json:"offset"`
	Path   string       `json:"path"`
}

func diffMappingOf(m *procmem.Mapping) *diffMapping {
	if m == nil {
		return nil
	}
	return &diffMapping{m.Range, m.Perm, m.Offset, m.Path}
}

func (j *diffJSON) mapping(m diff.MappingChange) error {
	return j.enc.Encode(struct {
		Kind   string    `json:"kind"`
		Change diff.Kind `json:"change"`
		procmem.Range
		Bytes  uint64       `json:"bytes"`
		Before *diffMapping `json:"before,omitempty"`
		After  *diffMapping `json:"after,omitempty"`
	}{"mapping", m.Kind, m.Range, m.Size(), diffMappingOf(m.A), diffMappingOf(m.B)})
}

func (j *diffJSON) change(c diff.Change) error {
	m := &j.before[c.Mapping]
	v := struct {
		Kind string `json:"kind"`
		procmem.Range
		Bytes   uint64        `json:"bytes"`
		Changed uint64        `json:"changed_bytes"`
		Mapping procmem.Range `json:"mapping"`
		Path    string        `json:"path"`
		A       string        `json:"a,omitempty"`
		B       string        `json:"b,omitempty"`
	}{"range", c.Range, c.Size(), c.Bytes, m.Range, m.Path, "", ""}
	if j.hex {
		v.A, v.B = hex.EncodeToString(c.A), hex.EncodeToString(c.B)
	}
	return j.enc.Encode(&v)
}

func (j *diffJSON) end(mappings int, s *diff.Stats) error {
	for i := range s.Heat {
		h := &s.Heat[i]
		if err := j.enc.Encode(struct {
			Kind     string       `json:"kind"`
			Mapping  *diffMapping `json:"mapping"`
			Compared uint64       `json:"compared_bytes"`
			Changed  uint64       `json:"changed_bytes"`
			Pages    uint64       `json:"changed_pages"`
			Ranges   uint64       `json:"ranges"`
			Spot     uint64       `json:"spot_bytes"`
			Spots    []uint64     `json:"spots"`
		}{"heat", diffMappingOf(&h.Mapping), h.Compared, h.Changed, h.Pages, h.Changes, h.SpotPages() * procmem.PageSize, h.Spots}); err != nil {
			return err
		}
	}
	for _, m := range s.Missing {
		if err := j.enc.Encode(struct {
			Kind string    `json:"kind"`
			Side diff.Side `json:"side"`
			missing
		}{"missing", m.Side, missing{m.Range, m.Size(), m.Err.Error()}}); err != nil {
			return err
		}
	}
	if err := j.enc.Encode(struct {
		Kind     string `json:"kind"`
		Same     bool   `json:"same"`
		Mappings int    `json:"mapping_changes"`
		Ranges   uint64 `json:"ranges"`
		Pages    uint64 `json:"changed_pages"`
		Changed  uint64 `json:"changed_bytes"`
		Compared uint64 `json:"compared_bytes"`
		Missing  uint64 `json:"missing_bytes"`
		Swapped  uint64 `json:"swapped_bytes"`
	}{"total", mappings == 0 && s.Changed == 0, mappings, s.Changes, s.Pages, s.Changed, s.Compared, s.MissingBytes, s.Swapped}); err != nil {
		return err
	}
	return j.w.Flush()
}
