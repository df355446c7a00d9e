package dfa

import (
	"encoding/binary"
	"errors"
	"slices"
)

// maxInsts bounds a program: what a byte costs where no state can be kept.
const maxInsts = 1 << 15

var errTooLarge = errors.New("too large: repetitions and classes of Unicode take too many states")

type opcode uint8

const (
	opFail opcode = iota
	opMatch
	opSet  // a byte of set, then out
	opAlt  // out, or else arg
	opLook // out where look holds
)

type inst struct {
	op       opcode
	look     look
	out, arg uint32
	set      uint32 // index into prog.sets
}

// prog is a nondeterministic automaton. One that is for the other direction has everything the
// other way round.
type prog struct {
	insts []inst
	sets  []set
	start uint32 // where a match begins; the empty one is none
	loop  uint32 // where a search begins: a match here, or else further on
	looks look   // all that occur

	class [256]uint8 // bytes that no instruction tells apart have the same
	reps  []byte     // one byte of each class; the class after the last is the edge of the text
}

type compiler struct {
	*prog
	backward bool
	setIndex map[set]uint32
}

// compile makes a program of an expression.
func compile(n *node, backward bool) (*prog, error) {
	c := &compiler{prog: &prog{}, backward: backward, setIndex: map[set]uint32{}}
	fail := c.put(inst{op: opFail})
	start := c.node(n, c.put(inst{op: opMatch}))
	c.start = start
	if !backward {
		c.start = c.notEmpty(start, fail, map[uint32]uint32{})
		c.loop = c.put(inst{op: opAlt, out: c.start})
		c.insts[c.loop].arg = c.byteOf(anyByte, c.loop)
	}
	if c.full() {
		return nil, errTooLarge
	}
	c.classes()
	return c.prog, nil
}

func (c *compiler) full() bool { return len(c.insts) > maxInsts }

func (c *compiler) put(i inst) uint32 {
	if !c.full() {
		c.insts = append(c.insts, i)
	}
	return uint32(len(c.insts) - 1)
}

// byteOf puts an instruction for one byte.
func (c *compiler) byteOf(s set, out uint32) uint32 {
	k, ok := c.setIndex[s]
	if !ok {
		k = uint32(len(c.sets))
		c.setIndex[s] = k
		c.sets = append(c.sets, s)
	}
	return c.put(inst{op: opSet, set: k, out: out})
}

// node puts an expression that out follows, and returns where it begins.
func (c *compiler) node(n *node, out uint32) uint32 {
	if c.full() {
		return 0
	}
	switch n.kind {
	case kindEmpty:
		return out
	case kindSet:
		return c.byteOf(n.set, out)
	case kindRunes:
		return c.runes(n.seqs, out)
	case kindLook:
		l := n.look
		if c.backward {
			l = l.backward()
		}
		c.looks |= l
		return c.put(inst{op: opLook, look: l, out: out})
	case kindCat:
		for i := range n.subs {
			if !c.backward {
				i = len(n.subs) - 1 - i
			}
			out = c.node(n.subs[i], out)
		}
		return out
	case kindAlt:
		return c.alternatives(n.subs, out)
	case kindRepeat:
		return c.repeat(n, out)
	}
	return 0 // which fails
}

func (c *compiler) alternatives(subs []*node, out uint32) uint32 {
	at := c.node(subs[len(subs)-1], out)
	for i := len(subs) - 2; i >= 0; i-- {
		at = c.put(inst{op: opAlt, out: c.node(subs[i], out), arg: at})
	}
	return at
}

// either puts a choice between going on with more and with done.
func (c *compiler) either(more, done uint32, lazy bool) uint32 {
	if lazy {
		more, done = done, more
	}
	return c.put(inst{op: opAlt, out: more, arg: done})
}

// repeat has x{2,5} as xx(x(x(x)?)?)?, and x{2,} as xx+.
func (c *compiler) repeat(n *node, out uint32) uint32 {
	sub, least := n.subs[0], n.min
	switch {
	case n.max == unbounded && least > 0:
		out, _ = c.plus(n, out)
		least--
	case n.max == unbounded:
		// What can be empty is (x+)?, for the order of what is tried.
		plus, choice := c.plus(n, out)
		if out = choice; sub.minLen == 0 {
			out = c.either(plus, c.insts[choice].done(n.lazy), n.lazy)
		}
	default:
		done := out
		for range n.max - least {
			out = c.either(c.node(sub, out), done, n.lazy)
			if c.full() {
				return 0
			}
		}
	}
	for range least {
		if out = c.node(sub, out); c.full() {
			return 0
		}
	}
	return out
}

// plus puts a loop, and returns where it begins and where it goes on or ends.
func (c *compiler) plus(n *node, out uint32) (begin, choice uint32) {
	choice = c.either(0, out, n.lazy)
	begin = c.node(n.subs[0], choice)
	if n.lazy {
		c.insts[choice].arg = begin
	} else {
		c.insts[choice].out = begin
	}
	return begin, choice
}

// done is the way out of a choice that repeat has made.
func (i inst) done(lazy bool) uint32 {
	if lazy {
		return i.out
	}
	return i.arg
}

// branch is bytes and what follows them.
type branch struct {
	set set
	out uint32
}

// branches puts alternatives, or finds them where they have been put before.
func (c *compiler) branches(bs []branch, have map[string]uint32) uint32 {
	var key []byte
	for _, b := range bs {
		for _, w := range b.set {
			key = binary.LittleEndian.AppendUint64(key, w)
		}
		key = binary.LittleEndian.AppendUint32(key, b.out)
	}
	if at, ok := have[string(key)]; ok {
		return at
	}
	at := c.byteOf(bs[0].set, bs[0].out)
	for _, b := range bs[1:] {
		at = c.put(inst{op: opAlt, out: c.byteOf(b.set, b.out), arg: at})
	}
	have[string(key)] = at
	return at
}

// merge adds bytes to the branch that goes the same way.
func merge(bs []branch, x byteRange, out uint32) []branch {
	k := slices.IndexFunc(bs, func(b branch) bool { return b.out == out })
	if k < 0 {
		k = len(bs)
		bs = append(bs, branch{out: out})
	}
	bs[k].set.addRange(x)
	return bs
}

// tree puts sequences that are the same up to some bytes, from there on. They are ascending,
// and at each place the spans of two are the same or disjoint.
func (c *compiler) tree(seqs [][]byteRange, from int, out uint32, have map[string]uint32) uint32 {
	var bs []branch
	for i := 0; i < len(seqs); {
		x, next := seqs[i][from], i+1
		for next < len(seqs) && seqs[next][from] == x {
			next++
		}
		to := out
		if from+1 < len(seqs[i]) {
			to = c.tree(seqs[i:next], from+1, out, have)
		}
		bs = merge(bs, x, to)
		i = next
	}
	return c.branches(bs, have)
}

// runes puts sequences of bytes; what ends in the same way is put once.
func (c *compiler) runes(seqs [][]byteRange, out uint32) uint32 {
	have := map[string]uint32{}
	if !c.backward {
		return c.tree(seqs, 0, out, have)
	}
	var bs []branch
	for _, seq := range seqs {
		at := out
		for _, x := range seq[:len(seq)-1] {
			at = c.branches(merge(nil, x, at), have)
		}
		bs = merge(bs, seq[len(seq)-1], at)
	}
	return c.branches(bs, have)
}

// notEmpty copies what can be reached from an instruction without a byte, so that a match has
// one.
func (c *compiler) notEmpty(at, fail uint32, copies map[uint32]uint32) uint32 {
	i := c.insts[at]
	switch i.op {
	case opMatch:
		return fail
	case opAlt, opLook:
	default:
		return at
	}
	if to, ok := copies[at]; ok {
		return to
	}
	to := c.put(i)
	copies[at] = to
	out := c.notEmpty(i.out, fail, copies)
	c.insts[to].out = out
	if i.op == opAlt {
		arg := c.notEmpty(i.arg, fail, copies)
		c.insts[to].arg = arg
	}
	return to
}

// classes finds out which bytes the program tells apart.
func (c *compiler) classes() {
	sets := c.sets
	if c.looks&(lookBeginLine|lookEndLine) != 0 {
		var s set
		s.add('\n')
		sets = append(sets, s)
	}
	if c.looks&lookWords != 0 {
		sets = append(sets, words)
	}
	n := 1
	for _, s := range sets {
		moved := map[uint8]uint8{} // classes that the set cuts in two
		var size [256]int
		for b := range 256 {
			size[c.class[b]]++
		}
		var in [256]int
		for b := range 256 {
			if s.has(byte(b)) {
				in[c.class[b]]++
			}
		}
		for b := range 256 {
			from := c.class[b]
			if !s.has(byte(b)) || in[from] == size[from] {
				continue
			}
			to, ok := moved[from]
			if !ok {
				to = uint8(n)
				moved[from] = to
				n++
			}
			c.class[b] = to
		}
	}
	c.reps = make([]byte, n)
	for b := range 256 {
		c.reps[c.class[b]] = byte(b)
	}
}

var words = func() (s set) {
	for _, x := range []byteRange{{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}} {
		s.addRange(x)
	}
	return s
}()
