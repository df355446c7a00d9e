package cfi

// search is the sorted list of functions in an .eh_frame_hdr.
type search struct {
	hdr    uint64 // address of the .eh_frame_hdr
	first  uint64 // address of the first pair
	pairs  uint64
	format byte // of each number of a pair
	size   int  // of each number, in bytes
	word   int
}

// Header returns the table of which the .eh_frame_hdr is at an address of src. It has size
// bytes. Entries are not known to end before limit. room is that of Section, for a header without
// a list.
func Header(src Source, at, size, limit uint64, word int, room *Budget) (*Table, error) {
	const longest = 4 + 2*9
	c := cursor{b: make([]byte, min(size, longest)), base: at, word: word}
	if err := src.ReadAt(c.b, at); err != nil {
		return nil, err
	}
	version, frameEnc, countEnc, tableEnc := c.byte(), c.byte(), c.byte(), c.byte()
	if c.err == nil && version != 1 {
		return nil, formatError("an .eh_frame_hdr of version %d", version)
	}
	frame := c.pointer(frameEnc, at)
	if c.err != nil {
		return nil, c.err
	}
	t := &Table{src: src, start: min(frame, limit), end: limit, word: word, room: room}
	if countEnc == encOmit || tableEnc == encOmit {
		return t, nil
	}
	pairs := c.pointer(countEnc, at)
	s := &search{hdr: at, first: c.addr(), pairs: pairs, format: tableEnc, size: sizeOf(tableEnc, word), word: word}
	switch {
	case c.err != nil:
		return nil, c.err
	case s.size == 0 || pairs > (size-(s.first-at))/uint64(2*s.size):
		return nil, formatError("an .eh_frame_hdr of %d bytes with %d functions", size, pairs)
	}
	// Entries may be in front of the first one that it names.
	t.start, t.search = 0, s
	return t, nil
}

// sizeOf returns the bytes of a pointer, 0 where they differ from one to the next.
func sizeOf(enc byte, word int) int {
	switch enc & 0x0f &^ encSigned {
	case encAbs:
		return word
	case encU2, encU4, encU8:
		return 1 << (enc&0x0f&^encSigned - 1)
	}
	return 0
}

// entry returns the address of the entry of the last function that does not begin behind pc.
func (s *search) entry(src Source, pc uint64, left *Budget) (uint64, error) {
	lo, hi := uint64(0), s.pairs // functions below lo begin at pc or before
	var found uint64
	for lo < hi {
		if err := left.Spend(10); err != nil {
			return 0, err
		}
		mid := (lo + hi) / 2
		begin, at, err := s.pair(src, mid)
		if err != nil {
			return 0, err
		}
		if begin <= pc {
			lo, found = mid+1, at
		} else {
			hi = mid
		}
	}
	if lo == 0 {
		return 0, ErrNone
	}
	return found, nil
}

func (s *search) pair(src Source, i uint64) (begin, at uint64, err error) {
	var b [16]byte
	c := cursor{b: b[:2*s.size], base: s.first + i*uint64(2*s.size), word: s.word}
	if err := src.ReadAt(c.b, c.base); err != nil {
		return 0, 0, err
	}
	begin, at = c.pointer(s.format, s.hdr), c.pointer(s.format, s.hdr)
	return begin, at, c.err
}
