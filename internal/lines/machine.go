package lines

import (
	"cmp"
	"slices"
)

// machine runs a line program.
type machine struct {
	minLength, lineBase, lineRange uint64
	opcodeBase                     uint8
	lengths                        []byte // how many operands the standard opcodes have

	addr  uint64
	file  uint32
	line  uint32
	first int // row of the sequence
}

// header reads what is before the program, and leaves the cursor there.
func (m *machine) header(c *cursor, t *table) bool {
	t.version = c.uint(2)
	if t.version < 2 || t.version > 5 {
		return false
	}
	if t.version == 5 {
		c.addrSize = int(c.u8())
		c.u8() // bytes of a segment selector
	}
	length := c.offset()
	if c.bad || length > uint64(len(c.b)-c.at) {
		return false
	}
	program := c.at + int(length)
	m.minLength = uint64(c.u8())
	if t.version >= 4 {
		c.u8() // operations of an instruction: of no machine that is known here
	}
	c.u8() // whether rows are statements by default: all count
	m.lineBase, m.lineRange = uint64(int64(int8(c.u8()))), uint64(c.u8())
	m.opcodeBase = c.u8()
	m.lengths = c.take(uint64(max(m.opcodeBase, 1)) - 1)
	if c.bad || c.at > program || m.lineRange == 0 || c.addrSize != 4 && c.addrSize != 8 {
		return false
	}
	tables := cursor{b: c.b[:program], at: c.at, wide: c.wide, addrSize: c.addrSize}
	if t.version == 5 {
		entries(&tables, func(f fileEntry) { t.dirs = append(t.dirs, f.name) })
		entries(&tables, func(f fileEntry) { t.files = append(t.files, f) })
	} else {
		oldEntries(&tables, t)
	}
	c.at = program
	return true
}

// oldEntries reads the folders and files of versions up to 4.
func oldEntries(c *cursor, t *table) {
	for len(t.dirs) < maxFiles {
		name := c.text()
		if len(name) == 0 {
			break
		}
		t.dirs = append(t.dirs, inPlace(name))
	}
	for len(t.files) < maxFiles {
		name := c.text()
		if len(name) == 0 {
			return
		}
		t.files = append(t.files, fileEntry{inPlace(name), c.uleb()})
		c.uleb() // time
		c.uleb() // size
	}
}

func inPlace(text []byte) value {
	return value{form: formString, text: slices.Clone(text[:min(len(text), maxText)])}
}

// entries reads the folders, or the files, of version 5.
func entries(c *cursor, add func(fileEntry)) {
	const path, dir = 1, 2
	// The program may have another format than the entries of its unit.
	u := &unit{version: 5, wide: c.wide, addrSize: c.addrSize}
	formats := make([]attr, c.u8())
	for i := range formats {
		formats[i] = attr{name: small(c.uleb()), form: small(c.uleb())}
	}
	for left := min(c.uleb(), maxFiles); left > 0 && !c.bad && len(formats) > 0; left-- {
		var f fileEntry
		for _, a := range formats {
			v := u.value(c, a.form, 0)
			switch a.name {
			case path:
				if f.name = v; v.form == formString {
					f.name = inPlace(v.text)
				}
			case dir:
				f.dir = v.n
			}
		}
		if !c.bad {
			add(f)
		}
	}
}

// Opcodes.
const (
	opExtended       = 0
	opCopy           = 1
	opAdvancePC      = 2
	opAdvanceLine    = 3
	opSetFile        = 4
	opConstAddPC     = 8
	opFixedAdvancePC = 9
	opEndSequence    = 1
	opSetAddress     = 2
	opDefineFile     = 3
)

func (m *machine) reset() { m.addr, m.file, m.line = 0, 1, 1 }

// run runs the program. What is behind its last sequence is left out.
func (m *machine) run(c *cursor, t *table) {
	for m.reset(); !c.done() && len(t.rows) < maxRows; {
		switch op := c.u8(); {
		case op >= m.opcodeBase:
			m.special(op, t)
		case op == opExtended:
			m.extended(c, t)
		default:
			m.standard(op, c, t)
		}
	}
	t.rows = t.rows[:m.first]
}

func (m *machine) emit(t *table) { t.rows = append(t.rows, row{m.addr, m.file, m.line}) }

func (m *machine) special(op uint8, t *table) {
	adjusted := uint64(op - m.opcodeBase)
	m.addr += adjusted / m.lineRange * m.minLength
	m.line += uint32(m.lineBase + adjusted%m.lineRange)
	m.emit(t)
}

func (m *machine) standard(op uint8, c *cursor, t *table) {
	switch op {
	case opCopy:
		m.emit(t)
	case opAdvancePC:
		m.addr += c.uleb() * m.minLength
	case opAdvanceLine:
		m.line += uint32(c.sleb())
	case opSetFile:
		m.file = uint32(c.uleb())
	case opConstAddPC:
		m.addr += uint64(255-m.opcodeBase) / m.lineRange * m.minLength
	case opFixedAdvancePC:
		m.addr += c.uint(2)
	default:
		for range m.lengths[op-1] {
			c.uleb()
		}
	}
}

func (m *machine) extended(c *cursor, t *table) {
	b := c.take(c.uleb())
	if len(b) == 0 {
		return
	}
	in := cursor{b: b[1:]}
	switch b[0] {
	case opEndSequence:
		m.endSequence(t)
	case opSetAddress:
		if in.addrSize = len(b) - 1; in.addrSize <= 8 {
			m.addr = in.addr()
		}
	case opDefineFile:
		if name := in.text(); len(t.files) < maxFiles {
			t.files = append(t.files, fileEntry{inPlace(name), in.uleb()})
		}
	}
}

// endSequence ends one before m.addr.
func (m *machine) endSequence(t *table) {
	rows := t.rows[m.first:]
	if byAddr := func(a, b row) int { return cmp.Compare(a.addr, b.addr) }; !slices.IsSortedFunc(rows, byAddr) {
		slices.SortStableFunc(rows, byAddr)
	}
	if len(rows) > 0 && rows[0].addr < m.addr {
		t.sequences = append(t.sequences, sequence{rows[0].addr, m.addr, m.first, len(t.rows)})
	} else {
		t.rows = t.rows[:m.first]
	}
	m.first = len(t.rows)
	m.reset()
}
