package cfi

import "strings"

// Bounds of the bytes of one entry, and of a CIE, which is kept. Functions of Chromium have up
// to some 40,000, and CIEs some 30.
const (
	maxEntry = 1 << 20
	maxCIE   = 1 << 10
)

// cie is what the entries of many functions have in common.
type cie struct {
	codeAlign uint64
	dataAlign int64
	ra        uint64
	word      int  // bytes of an address
	enc       byte // of the addresses of functions
	augmented bool // functions have data of an augmentation
	signal    bool
	program   []byte
}

// fde is the entry of one function, which has the addresses [begin, end).
type fde struct {
	cie        *cie
	begin, end uint64
	program    []byte
}

// raw is the part of an entry that all kinds have in common.
type raw struct {
	cursor
	first uint64 // address of the entry
	next  uint64 // address of the next one
	id    uint64 // refers to the CIE
	idAt  uint64 // address of id
	isCIE bool
	final bool // not an entry, but the end of all
}

// raw reads the entry at an address.
func (t *Table) raw(at uint64, left *Budget) (r raw, err error) {
	head := cursor{b: make([]byte, 12), base: at, word: t.word}
	n := min(uint64(len(head.b)), t.end-at)
	if at < t.start || at >= t.end || n < 4 {
		return r, formatError("an entry at %#x, outside of the table", at)
	}
	head.b = head.b[:n]
	if err := t.src.ReadAt(head.b, at); err != nil {
		return r, err
	}
	wide := false
	size := head.fixed(4)
	if size == 0 {
		return raw{final: true, first: at, next: at + 4}, nil
	}
	if size == 0xffffffff {
		size, wide = head.fixed(8), true
	}
	body := head.addr()
	switch {
	case head.err != nil:
		return r, head.err
	case size > maxEntry:
		return r, formatError("an entry of %d bytes at %#x", size, at)
	case size > t.end-body:
		return r, formatError("an entry at %#x goes beyond the table", at)
	}
	if err := left.Spend(10 + int(size/64)); err != nil { // to read it
		return r, err
	}
	r = raw{cursor: cursor{b: make([]byte, size), base: body, word: t.word}, first: at, next: body + size, idAt: body}
	if err := t.src.ReadAt(r.b, body); err != nil {
		return r, err
	}
	if wide {
		r.id = r.fixed(8)
	} else {
		r.id = r.fixed(4)
	}
	switch {
	case !t.debug:
		r.isCIE = r.id == 0
	case wide:
		r.isCIE = r.id == 1<<64-1
	default:
		r.isCIE = r.id == 1<<32-1
	}
	return r, r.err
}

// cie reads the CIE at an address, or has it.
func (t *Table) cie(at uint64, left *Budget) (*cie, error) {
	if c := t.lastCIE; c != nil && t.lastCIEAt == at {
		return c, nil
	}
	r, err := t.raw(at, left)
	if err != nil {
		return nil, err
	}
	if r.final || !r.isCIE || len(r.b) > maxCIE {
		return nil, formatError("no CIE at %#x", at)
	}
	c, err := parseCIE(&r.cursor)
	if err != nil {
		return nil, err
	}
	t.lastCIE, t.lastCIEAt = c, at
	return c, nil
}

func parseCIE(r *cursor) (*cie, error) {
	c := &cie{word: r.word}
	version := r.byte()
	aug := r.text()
	if version != 1 && version != 3 && version != 4 {
		return nil, formatError("a CIE of version %d", version)
	}
	if aug == "eh" { // of gcc 2
		r.take(uint64(r.word))
		aug = ""
	}
	if version == 4 {
		c.word = int(r.byte())
		if segment := r.byte(); segment != 0 || c.word != 4 && c.word != 8 {
			return nil, formatError("addresses of %d bytes in segments of %d", c.word, segment)
		}
		r.word = c.word
	}
	c.codeAlign, c.dataAlign = r.uleb(), r.sleb()
	if version == 1 {
		c.ra = uint64(r.byte())
	} else {
		c.ra = r.uleb()
	}
	if err := c.augment(r, aug); err != nil {
		return nil, err
	}
	c.program = r.b[r.at:]
	if c.ra >= Registers {
		return nil, formatError("return addresses in register %d", c.ra)
	}
	return c, r.err
}

// augment reads the data of an augmentation.
func (c *cie) augment(r *cursor, aug string) error {
	letters, augmented := strings.CutPrefix(aug, "z")
	if !augmented {
		if aug != "" {
			return formatError("the augmentation %.10q", aug)
		}
		return nil
	}
	c.augmented = true
	data := r.sub(r.uleb())
	for _, letter := range letters {
		switch letter {
		case 'R':
			c.enc = data.byte()
		case 'P':
			data.pointer(data.byte()&^encIndirect, 0)
		case 'L':
			data.byte()
		case 'S':
			c.signal = true
		case 'B', 'G': // arm64: the other key signs return addresses; memory is tagged
		default: // the rest is unknown, and ends where its length says
			return data.err
		}
	}
	return data.err
}
