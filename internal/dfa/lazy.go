package dfa

import (
	"encoding/binary"
	"slices"
)

// A state is named by where its row of transitions begins. A transition has tags beside the
// name, so that the inner loop has one comparison for all that is not plain.
const (
	tagUnknown = 1 << 31 // not yet computed
	tagDead    = 1 << 30 // no match any more
	tagMatch   = 1 << 29 // a match has ended before the byte that led here
	tagStart   = 1 << 28 // nothing has begun yet
	plain      = tagStart - 1
)

// scratch is how many states come first that are not kept: where there would be too many of
// them, each is computed for one step.
const scratch = 2

// slowSteps is for how many bytes no state is kept after keeping them was of no use.
const slowSteps = 64 << 10

// state is what the threads of the program are at, the first ones rather, and what they have to
// know of the byte before.
type state struct {
	list    []uint32 // instructions that take a byte, match, or look at the byte that follows
	before  look     // only if pending
	pending bool     // there are instructions that look
	match   bool     // a match has ended before the last byte
}

// lazy is a deterministic automaton whose states are computed when they are first come to.
// Matches are told one byte late, when it is known what follows them.
type lazy struct {
	prog    *prog
	entry   uint32 // where it begins
	longest bool   // rather than first
	skips   bool   // its starts have tagStart
	stride  uint32
	limit   int // bytes that states may take

	trans  []uint32
	states []state
	index  map[string]uint32 // of transitions to states that are kept, by state
	starts [4]uint32         // likewise, by startsAfter
	size   int               // bytes that states take

	cur, next queue
	work      state // made by step
	key       []byte
	stack     []uint32
	slow      int // steps to go without keeping any state
	from      int // where the scan was when bytes were counted last
	bytes     int // since there were no states
	row       []uint32
	flushes   int
	memo      memo
}

func newLazy(p *prog, entry uint32, longest, skips bool, limit int) *lazy {
	d := &lazy{prog: p, entry: entry, longest: longest, skips: skips, limit: limit,
		stride: uint32(len(p.reps) + 1), index: map[string]uint32{}, memo: memo{every: memoStep}}
	d.cur.sparse, d.next.sparse = make([]uint32, len(p.insts)), make([]uint32, len(p.insts))
	d.row = slices.Repeat([]uint32{tagUnknown}, int(d.stride))
	d.states, d.trans = make([]state, scratch), slices.Repeat(d.row, scratch)
	d.flush()
	return d
}

// flush forgets all states.
func (d *lazy) flush() {
	clear(d.index)
	clear(d.states[scratch:])
	d.states = d.states[:scratch]
	d.trans = d.trans[:scratch*int(d.stride)]
	d.size, d.bytes = 0, 0
	d.flushes++
	for k, before := range startsAfter {
		if d.prog.looks != 0 || k == len(startsAfter)-1 {
			d.next.clear()
			d.follow(&d.next, d.entry, before)
			d.finish(before, false)
			d.starts[k] = d.keep(true)
		}
	}
}

// startsAfter is what can be before a start, and nothing of it.
var startsAfter = [...]look{lookBeginText | lookBeginLine, lookBeginLine, afterWord, 0}

// kept reports whether a state is good for more than one step.
func (d *lazy) kept(s uint32) bool { return s >= scratch*d.stride }

// edge is the class of what is before the first byte and behind the last.
func (d *lazy) edge() int { return len(d.prog.reps) }

// begin returns the transition to the state where nothing has been read, when there is a byte
// of class c before.
func (d *lazy) begin(c int) uint32 {
	if d.prog.looks == 0 {
		return d.starts[len(startsAfter)-1]
	}
	return d.starts[slices.Index(startsAfter[:], d.before(c))]
}

// before is what a byte of class c decides for the position behind it.
func (d *lazy) before(c int) look {
	switch {
	case d.prog.looks == 0:
		return 0
	case c == d.edge():
		return lookBeginText | lookBeginLine
	case d.prog.reps[c] == '\n':
		return lookBeginLine
	case words.has(d.prog.reps[c]):
		return afterWord
	}
	return 0
}

// around adds what a byte of class c decides for the position in front of it.
func (d *lazy) around(before look, c int) look {
	word := false
	switch {
	case c == d.edge():
		before |= lookEndText | lookEndLine
	case d.prog.reps[c] == '\n':
		before |= lookEndLine
	default:
		word = words.has(d.prog.reps[c])
	}
	if word != (before&afterWord != 0) {
		return before | lookWord
	}
	return before | lookNoWord
}

// step computes what state s becomes with a byte of class c: d.work.
func (d *lazy) step(s *state, c int) {
	list := s.list
	if s.pending {
		have := d.around(s.before, c)
		d.cur.clear()
		for _, at := range list {
			d.follow(&d.cur, at, have)
		}
		list = d.cur.dense
	}
	before := d.before(c)
	match := false
	d.next.clear()
	for _, at := range list {
		i := &d.prog.insts[at]
		if i.op == opMatch {
			match = true
			if !d.longest {
				break // who comes later is of less worth
			}
		}
		if i.op == opSet && c < d.edge() && d.prog.sets[i.set].has(d.prog.reps[c]) {
			d.follow(&d.next, i.out, before)
		}
	}
	d.finish(before, match)
}

// follow adds an instruction and all that can be reached from it without a byte, under the
// conditions that are known to hold.
func (d *lazy) follow(q *queue, at uint32, have look) {
	d.stack = append(d.stack[:0], at)
	for len(d.stack) > 0 {
		at := d.stack[len(d.stack)-1]
		d.stack = d.stack[:len(d.stack)-1]
		if !q.insert(at) {
			continue
		}
		switch i := &d.prog.insts[at]; i.op {
		case opAlt:
			d.stack = append(d.stack, i.arg, i.out)
		case opLook:
			if i.look&have != 0 {
				d.stack = append(d.stack, i.out)
			}
		}
	}
}

// finish makes a state of what is in the queue: d.work.
func (d *lazy) finish(before look, match bool) {
	w := &d.work
	w.list, w.match, w.before = w.list[:0], match, 0
	w.pending = slices.ContainsFunc(d.next.dense, d.looksAhead)
	if w.pending {
		w.before = before
	}
	for _, at := range d.next.dense {
		i := &d.prog.insts[at]
		switch {
		case i.op == opSet, i.op == opMatch, d.looksAhead(at):
			w.list = append(w.list, at)
		case i.op == opAlt && w.pending && !d.longest:
			// What is found later may come back to it, and must not go there before its turn.
			w.list = append(w.list, at)
		}
		if i.op == opMatch && !d.longest {
			break
		}
	}
	if d.longest {
		slices.Sort(w.list)
	}
}

// looksAhead reports whether an instruction needs the byte that follows.
func (d *lazy) looksAhead(at uint32) bool {
	i := &d.prog.insts[at]
	return i.op == opLook && i.look&lookBefore == 0
}

// keep returns the transition to d.work, which is kept from now on.
func (d *lazy) keep(start bool) uint32 {
	if len(d.work.list) == 0 && !d.work.match {
		return tagDead
	}
	d.key = append(d.key[:0], byte(d.work.before))
	if d.work.match {
		d.key[0] |= 1 << 7
	}
	for _, at := range d.work.list {
		d.key = binary.LittleEndian.AppendUint32(d.key, at)
	}
	if t, ok := d.index[string(d.key)]; ok {
		return t
	}
	t := uint32(len(d.trans))
	if d.work.match {
		t |= tagMatch
	} else if start && d.skips {
		t |= tagStart
	}
	kept := d.work
	kept.list = slices.Clone(d.work.list)
	d.states = append(d.states, kept)
	d.trans = append(d.trans, d.row...)
	d.index[string(d.key)] = t
	d.size += 8*len(d.key) + int(4*d.stride) + 128
	return t
}

// fill computes the transition from state s by class c, at offset i of the scan.
func (d *lazy) fill(s uint32, c, i int) uint32 {
	from := s / d.stride
	d.step(&d.states[from], c)
	if d.slow > 0 {
		d.slow--
		return d.once(from)
	}
	if d.size > d.limit {
		d.count(i)
		// A state must be of use for some bytes, or it is dear.
		if d.bytes < 16*len(d.states) {
			d.slow = slowSteps
		}
		work := d.work
		d.work = state{} // flush makes others in it
		d.flush()
		d.work = work
		return d.keep(false)
	}
	t := d.keep(false)
	if from >= scratch {
		d.trans[s+uint32(c)] = t
	}
	return t
}

// once returns the transition to d.work, which is good for one step.
func (d *lazy) once(from uint32) uint32 {
	if len(d.work.list) == 0 && !d.work.match {
		return tagDead
	}
	to := uint32(0)
	if from == 0 {
		to = 1
	}
	d.states[to], d.work = d.work, d.states[to]
	t := to * d.stride
	if d.states[to].match {
		t |= tagMatch
	}
	return t
}

// count notes how far a scan has come.
func (d *lazy) count(i int) {
	if i > d.from {
		d.bytes += i - d.from
	} else {
		d.bytes += d.from - i
	}
	d.from = i
}

// run goes on from state s until a transition that is not plain, or the end of b. It returns
// where it is, the state before the last transition and that.
func run(trans []uint32, class *[256]uint8, b []byte, i int, s uint32) (int, uint32, uint32) {
	for i < len(b) {
		t := trans[s+uint32(class[b[i]])]
		i++
		if t > plain {
			return i, s, t
		}
		s = t
	}
	return i, s, s
}

// runBack is run in the other direction, from i down to the start of b.
func runBack(trans []uint32, class *[256]uint8, b []byte, i int, s uint32) (int, uint32, uint32) {
	for i > 0 {
		i--
		t := trans[s+uint32(class[b[i]])]
		if t > plain {
			return i, s, t
		}
		s = t
	}
	return i, s, s
}

// classAt is the class of a byte, or of the edge.
func (d *lazy) classAt(b []byte, i int) int {
	if i < 0 || i >= len(b) {
		return d.edge()
	}
	return int(d.prog.class[b[i]])
}

// last takes the byte of class c that tells what follows, and reports whether there is a match
// in front of it.
func (d *lazy) last(s uint32, c, i int) bool {
	t := d.trans[s+uint32(c)]
	if t == tagUnknown {
		t = d.fill(s, c, i)
	}
	return t&tagMatch != 0
}

// found is what a walk has found.
type found struct {
	first, end int  // where the first match has ended, and the one that counts; -1: none
	cut        bool // there was more to be read
}

// forward looks for a match in b[i:], which has an end at most limit behind the first end that
// is seen.
func (d *lazy) forward(b []byte, i, limit int, sk *skipper) found {
	d.from = i
	t := d.begin(d.classAt(b, i-1))
	for {
		if t&tagStart != 0 && sk != nil {
			j := sk.next(b, i)
			if j < 0 {
				d.count(i)
				return found{first: -1, end: -1}
			}
			if j > i {
				i = j
				t = d.begin(d.classAt(b, i-1))
			}
		}
		if t&(tagDead|tagMatch) != 0 || i == len(b) {
			break
		}
		var s uint32
		if i, s, t = run(d.trans, &d.prog.class, b, i, t&plain); t == tagUnknown {
			t = d.fill(s, int(d.prog.class[b[i-1]]), i)
		}
	}
	d.count(i)
	f := found{first: -1, end: -1}
	if t == tagDead {
		return f
	}
	hi := len(b)
	if t&tagMatch != 0 {
		f.see(i - 1)
		hi = min(hi, i-1+limit)
	}
	d.walk(b, i, hi, t&plain, &f)
	return f
}

// anchoredAt looks for a match in b[i:hi] that begins at i.
func (d *lazy) anchoredAt(b []byte, i, hi int) found {
	f := found{first: -1, end: -1}
	if t := d.begin(d.classAt(b, i-1)); t != tagDead {
		d.walk(b, i, hi, t&plain, &f)
	}
	return f
}

// walk goes on in b[i:hi] until there can be no match that counts for more. It looks into the
// memo of the text now and then.
func (d *lazy) walk(b []byte, i, hi int, s uint32, f *found) {
	d.from = i
	d.memo.begin(d)
	for {
		if i >= hi {
			f.cut = hi < len(b)
			if i > hi {
				break // there is none up to there
			}
			d.memo.end(d, i, s)
			if d.last(s, d.classAt(b, hi), i) {
				f.see(hi)
			}
			break
		}
		stop := min(hi, (i/d.memo.every+1)*d.memo.every)
		at, before, t := run(d.trans, &d.prog.class, b[:stop], i, s)
		d.count(at)
		if t <= plain { // all of it
			i, s = at, t
			if i%d.memo.every == 0 {
				i, s = d.memo.visit(d, i, s)
				d.from = i
			}
			continue
		}
		if t == tagUnknown {
			// The state may be forgotten by that.
			d.memo.end(d, at-1, before)
			t = d.fill(before, int(d.prog.class[b[at-1]]), at)
		}
		if t&(tagDead|tagMatch) != 0 {
			d.memo.end(d, at-1, before)
		}
		if t == tagDead {
			break
		}
		if i, s = at, t&plain; t&tagMatch != 0 {
			f.see(i - 1)
			d.memo.begin(d)
		}
	}
}

// see notes the end of a match.
func (f *found) see(end int) {
	if f.end = end; f.first < 0 {
		f.first = end
	}
}

// backward returns the lowest offset, not below lo, from which a match goes up to end, or -1.
func (d *lazy) backward(b []byte, end, lo int) int {
	start := -1
	d.from = end
	i, t := end, d.begin(d.classAt(b, end))
	for t != tagDead {
		s := t & plain
		if i <= lo {
			if d.last(s, d.classAt(b, lo-1), i) {
				start = lo
			}
			break
		}
		i, s, t = runBack(d.trans, &d.prog.class, b[lo:], i-lo, s)
		i += lo
		if t == tagUnknown {
			t = d.fill(s, int(d.prog.class[b[i]]), i)
		}
		if t&tagMatch != 0 {
			start = i + 1
		}
	}
	d.count(i)
	return start
}

// queue is an ordered set of instructions.
type queue struct {
	dense, sparse []uint32
}

func (q *queue) clear() { q.dense = q.dense[:0] }

func (q *queue) insert(at uint32) bool {
	if k := q.sparse[at]; int(k) < len(q.dense) && q.dense[k] == at {
		return false
	}
	q.sparse[at] = uint32(len(q.dense))
	q.dense = append(q.dense, at)
	return true
}
