package dfa

import (
	"fmt"
	"math"
	"math/bits"
	"regexp/syntax"
	"unicode"
	"unicode/utf8"
)

// set is a set of bytes.
type set [4]uint64

func (s *set) add(c byte)      { s[c>>6] |= 1 << (c & 63) }
func (s *set) has(c byte) bool { return s[c>>6]&(1<<(c&63)) != 0 }

func (s *set) addRange(x byteRange) {
	for c := int(x.lo); c <= int(x.hi); c++ {
		s.add(byte(c))
	}
}

func (s *set) union(t *set) {
	for i := range s {
		s[i] |= t[i]
	}
}

func (s *set) len() (n int) {
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// only returns the byte of a set of one.
func (s *set) only() (byte, bool) {
	if s.len() != 1 {
		return 0, false
	}
	for i, w := range s {
		if w != 0 {
			return byte(i<<6 + bits.TrailingZeros64(w)), true
		}
	}
	return 0, false
}

// look is a set of conditions on the bytes around a position.
type look uint8

const (
	lookBeginText look = 1 << iota
	lookBeginLine
	lookEndText
	lookEndLine
	lookWord
	lookNoWord
	afterWord // no condition: there is a letter before the position

	lookBefore = lookBeginText | lookBeginLine // what the byte before decides alone
	lookWords  = lookWord | lookNoWord
)

// backward returns the same condition for who comes from the other side.
func (l look) backward() look {
	switch l {
	case lookBeginText:
		return lookEndText
	case lookBeginLine:
		return lookEndLine
	case lookEndText:
		return lookBeginText
	case lookEndLine:
		return lookBeginLine
	}
	return l
}

type kind uint8

const (
	kindNone   kind = iota // matches nothing
	kindEmpty              // the empty string
	kindSet                // a byte
	kindRunes              // one of some sequences of bytes, of which none begins another
	kindLook               // the empty string, where a condition holds
	kindCat                // subs, one after the other
	kindAlt                // one of subs, the first ones rather
	kindRepeat             // subs[0], min to max times
)

// node is an expression over bytes.
type node struct {
	kind     kind
	set      set
	seqs     [][]byteRange
	look     look
	subs     []*node
	min, max int  // of repetitions; max may be unbounded
	lazy     bool // rather few

	minLen, maxLen int // of what matches, in bytes; unbounded where it has no limit, or cannot match
}

const unbounded = math.MaxInt

func add(a, b int) int {
	if a > unbounded-b {
		return unbounded
	}
	return a + b
}

func times(a, n int) int {
	if a != 0 && n > unbounded/a {
		return unbounded
	}
	return a * n
}

func emptyNode() *node { return &node{kind: kindEmpty} }
func noneNode() *node  { return &node{kind: kindNone, minLen: unbounded} }

func setNode(s set) *node {
	if s == (set{}) {
		return noneNode()
	}
	return &node{kind: kindSet, set: s, minLen: 1, maxLen: 1}
}

func runesNode(seqs [][]byteRange) *node {
	n := &node{kind: kindRunes, seqs: seqs, minLen: unbounded}
	for _, s := range seqs {
		n.minLen, n.maxLen = min(n.minLen, len(s)), max(n.maxLen, len(s))
	}
	return n
}

func catNode(subs []*node) *node {
	n := &node{kind: kindCat, subs: subs}
	for _, s := range subs {
		n.minLen, n.maxLen = add(n.minLen, s.minLen), add(n.maxLen, s.maxLen)
	}
	return n
}

func altNode(subs []*node) *node {
	n := &node{kind: kindAlt, subs: subs, minLen: unbounded}
	for _, s := range subs {
		n.minLen, n.maxLen = min(n.minLen, s.minLen), max(n.maxLen, s.maxLen)
	}
	return n
}

func repeatNode(sub *node, least, most int, lazy bool) *node {
	if most == 0 {
		return emptyNode()
	}
	return &node{kind: kindRepeat, subs: []*node{sub}, min: least, max: most, lazy: lazy,
		minLen: times(sub.minLen, least), maxLen: times(sub.maxLen, most)}
}

// fromSyntax makes bytes of what the parser has returned.
func fromSyntax(re *syntax.Regexp) (*node, error) {
	lazy := re.Flags&syntax.NonGreedy != 0
	switch re.Op {
	case syntax.OpNoMatch:
		return noneNode(), nil
	case syntax.OpEmptyMatch:
		return emptyNode(), nil
	case syntax.OpLiteral:
		return literal(re.Rune, re.Flags&syntax.FoldCase != 0), nil
	case syntax.OpCharClass:
		return runeClass(re.Rune).node(re.Flags&syntax.FoldCase != 0), nil
	case syntax.OpAnyChar:
		return setNode(anyByte), nil
	case syntax.OpAnyCharNotNL:
		s := anyByte
		s['\n'>>6] &^= 1 << '\n'
		return setNode(s), nil
	case syntax.OpCapture:
		return fromSyntax(re.Sub[0])
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat:
		sub, err := fromSyntax(re.Sub[0])
		if err != nil {
			return nil, err
		}
		least, most := repetitions(re)
		return repeatNode(sub, least, most, lazy), nil
	case syntax.OpConcat, syntax.OpAlternate:
		return several(re)
	}
	if l, ok := looks[re.Op]; ok {
		return &node{kind: kindLook, look: l}, nil
	}
	return nil, fmt.Errorf("%v is not supported", re.Op)
}

var anyByte = set{math.MaxUint64, math.MaxUint64, math.MaxUint64, math.MaxUint64}

var looks = map[syntax.Op]look{
	syntax.OpBeginText: lookBeginText, syntax.OpBeginLine: lookBeginLine,
	syntax.OpEndText: lookEndText, syntax.OpEndLine: lookEndLine,
	syntax.OpWordBoundary: lookWord, syntax.OpNoWordBoundary: lookNoWord,
}

func repetitions(re *syntax.Regexp) (least, most int) {
	switch re.Op {
	case syntax.OpStar:
		return 0, unbounded
	case syntax.OpPlus:
		return 1, unbounded
	case syntax.OpQuest:
		return 0, 1
	}
	if re.Max < 0 {
		return re.Min, unbounded
	}
	return re.Min, re.Max
}

func several(re *syntax.Regexp) (*node, error) {
	subs := make([]*node, len(re.Sub))
	for i := range subs {
		var err error
		if subs[i], err = fromSyntax(re.Sub[i]); err != nil {
			return nil, err
		}
	}
	if re.Op == syntax.OpAlternate {
		return altNode(subs), nil
	}
	return catNode(subs), nil
}

// literal makes the bytes of runes, and of byteRunes.
func literal(runes []rune, fold bool) *node {
	var subs []*node
	for _, r := range runes {
		if r >= firstOfBytes && r <= lastOfBytes {
			subs = append(subs, byteNode(byte(r-byteRunes)))
			continue
		}
		if c := foldings(r); fold && len(c) > 2 {
			subs = append(subs, c.node(true))
			continue
		}
		for _, c := range utf8.AppendRune(nil, r) {
			subs = append(subs, byteNode(c))
		}
	}
	return catNode(subs)
}

func byteNode(c byte) *node {
	var s set
	s.add(c)
	return setNode(s)
}

// foldings returns a rune and what it is in the other case. ASCII stays ASCII.
func foldings(r rune) runeClass {
	c := runeClass{r, r}
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		if (f < utf8.RuneSelf) == (r < utf8.RuneSelf) {
			c = append(c, f, f)
		}
	}
	return c
}
