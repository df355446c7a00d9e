package diff

import (
	"slices"
	"strings"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
)

// Kind tells what became of a mapping.
type Kind string

// The kinds.
const (
	Came    Kind = "came"    // it is in the second memory alone
	Went    Kind = "went"    // it is in the first alone
	Grew    Kind = "grew"    // by addresses that nothing had
	Shrank  Kind = "shrank"  // by addresses that nothing has now
	Altered Kind = "altered" // another permission, another name
)

// MappingChange is a difference between the mappings of two memories.
type MappingChange struct {
	procmem.Range // the addresses of which it is true
	Kind          Kind
	// A and B are the mapping in the first and in the second memory, with all of its addresses.
	// A is nil if it came, B if it went.
	A, B *procmem.Mapping
}

// area is a range that both memories have mapped, in one mapping each.
type area struct {
	procmem.Range
	mapping int // index of that of the first memory
}

// sweep walks along the mappings of two memories at once.
type sweep struct {
	a, b    []procmem.Mapping
	i, j    int // the first ones that end behind where the walk is
	changes []MappingChange
	areas   []area
}

// compareMappings cuts all addresses at the ends of all mappings, and looks at each piece.
func compareMappings(a, b []procmem.Mapping, in []procmem.Range) ([]MappingChange, []area) {
	s := &sweep{a: a, b: b}
	var at procmem.Addr
	for s.i < len(a) || s.j < len(b) {
		piece, inA, inB := s.next(at)
		switch {
		case inA && inB:
			s.both(piece)
		case inA:
			s.onlyA(piece)
		default:
			s.onlyB(piece)
		}
		at = piece.End
		for s.i < len(a) && a[s.i].End <= at {
			s.i++
		}
		for s.j < len(b) && b[s.j].End <= at {
			s.j++
		}
	}
	if in == nil {
		return s.changes, s.areas
	}
	return inside(s.changes, s.areas, in)
}

// next returns the first piece behind at that is in a mapping.
func (s *sweep) next(at procmem.Addr) (piece procmem.Range, inA, inB bool) {
	switch {
	case s.i == len(s.a):
		at = max(at, s.b[s.j].Start)
	case s.j == len(s.b):
		at = max(at, s.a[s.i].Start)
	default:
		at = max(at, min(s.a[s.i].Start, s.b[s.j].Start))
	}
	piece = procmem.Range{Start: at, End: ^procmem.Addr(0)}
	border := func(ms []procmem.Mapping, i int) bool {
		switch {
		case i == len(ms):
			return false
		case ms[i].Start > at:
			piece.End = min(piece.End, ms[i].Start)
			return false
		}
		piece.End = min(piece.End, ms[i].End)
		return true
	}
	inA = border(s.a, s.i)
	inB = border(s.b, s.j)
	return piece, inA, inB
}

func (s *sweep) both(piece procmem.Range) {
	a, b := &s.a[s.i], &s.b[s.j]
	if a.Perm != b.Perm || !sameName(a, b) {
		s.changes = append(s.changes, MappingChange{piece, Altered, a, b})
	}
	if !hidden(a) && !hidden(b) {
		s.areas = append(s.areas, area{Range: piece, mapping: s.i})
	}
}

func (s *sweep) onlyA(piece procmem.Range) {
	a := &s.a[s.i]
	if b := kin(a, s.b, s.j); b != nil {
		s.changes = append(s.changes, MappingChange{piece, Shrank, a, b})
		return
	}
	s.changes = append(s.changes, MappingChange{piece, Went, a, nil})
}

func (s *sweep) onlyB(piece procmem.Range) {
	b := &s.b[s.j]
	if a := kin(b, s.a, s.i); a != nil {
		s.changes = append(s.changes, MappingChange{piece, Grew, a, b})
		return
	}
	s.changes = append(s.changes, MappingChange{piece, Came, nil, b})
}

// kin returns what a mapping was, or has become: one of others of the same name that has some
// of its addresses. Those about index i are the candidates.
func kin(m *procmem.Mapping, others []procmem.Mapping, i int) *procmem.Mapping {
	for k := max(i-1, 0); k <= i && k < len(others); k++ {
		if o := &others[k]; !o.Intersect(m.Range).Empty() && sameName(m, o) {
			return o
		}
	}
	return nil
}

// sameName compares what is mapped. A name in brackets that one of the two does not tell is no
// difference: many cores have none.
func sameName(a, b *procmem.Mapping) bool {
	bracket := func(s string) bool { return strings.HasPrefix(s, "[") }
	return a.Path == b.Path || a.Path == "" && bracket(b.Path) || b.Path == "" && bracket(a.Path)
}

// hidden reports whether a mapping is the kernel's, and not to be read.
func hidden(m *procmem.Mapping) bool { return m.Special() && m.Path != "[vdso]" }

// inside leaves what lies in ranges.
func inside(changes []MappingChange, areas []area, in []procmem.Range) ([]MappingChange, []area) {
	changes = slices.DeleteFunc(changes, func(c MappingChange) bool {
		i := pageset.Index(in, c.Start)
		return i == len(in) || in[i].Start >= c.End
	})
	var cut []area
	for _, x := range areas {
		for i := pageset.Index(in, x.Start); i < len(in) && in[i].Start < x.End; i++ {
			cut = append(cut, area{Range: x.Intersect(in[i]), mapping: x.mapping})
		}
	}
	return changes, cut
}
