package dfa

// memo remembers of one text where an automaton has been without coming to a match, so that it
// need not go there again. Searches that begin one after the other mostly become one soon, and
// each may go on for Limit bytes in vain.
type memo struct {
	every int           // bytes from place to place
	at    map[place]int // index of the walk that was there
	walk  []walk
	cur   int  // index of the walk that goes on
	used  bool // it has been at a place
	from  int  // how many times the automaton had been flushed
}

// place is a state at an offset of the text, for some offsets.
type place struct {
	pos   int
	state uint32
}

// walk ends at pos in a state, and had no match since its places.
type walk struct {
	pos   int
	state uint32
}

const (
	memoStep  = 128     // bytes from place to place
	memoLimit = 1 << 14 // places
)

// reset forgets all, for another text.
func (m *memo) reset() {
	if len(m.at) > 0 {
		clear(m.at)
	}
	m.walk, m.used = append(m.walk[:0], walk{pos: -1}), false
	m.cur = 0
}

// begin starts a walk.
func (m *memo) begin(d *lazy) {
	if m.from != d.flushes || len(m.at) > memoLimit {
		m.reset()
		m.from = d.flushes
	}
	if m.used {
		m.cur, m.used = len(m.walk), false
		m.walk = append(m.walk, walk{})
	}
	m.walk[m.cur].pos = -1 // not known: it may go on with another one before its end
}

// end notes how far the walk has come, in a state of the automaton.
func (m *memo) end(d *lazy, pos int, s uint32) {
	if m.from == d.flushes && d.kept(s) {
		m.walk[m.cur] = walk{pos, s}
	}
}

// visit notes that the walk is at a place. If another one was there before, it returns where
// that has ended, and goes on with it.
func (m *memo) visit(d *lazy, i int, s uint32) (pos int, state uint32) {
	if m.from != d.flushes {
		m.begin(d)
	}
	if !d.kept(s) {
		return i, s
	}
	m.used = true
	p := place{i, s}
	k, ok := m.at[p]
	if !ok || m.walk[k].pos < i {
		if m.at == nil {
			m.at = map[place]int{}
		}
		m.at[p] = m.cur
		return i, s
	}
	m.cur = k
	return m.walk[k].pos, m.walk[k].state
}
