package dfa

import (
	"bytes"
	"strings"
)

// finder finds a literal by its rarest byte.
type finder struct {
	text []byte
	rare int // offset of that byte
}

// dense is how many bytes there should be for each one that looks like the literal. With fewer,
// it is better to look for the whole literal.
const dense = 32

// find returns the offset of the first literal in b at or after i, or -1.
func (f *finder) find(b []byte, i int) int {
	n := len(f.text)
	c := f.text[f.rare]
	from := i
	for tries := 0; i+n <= len(b); tries++ {
		if tries > 16 && tries*dense > i-from {
			k := bytes.Index(b[i:], f.text)
			if k < 0 {
				return -1
			}
			return i + k
		}
		k := bytes.IndexByte(b[i+f.rare:len(b)-n+f.rare+1], c)
		if k < 0 {
			return -1
		}
		i += k
		if bytes.Equal(b[i:i+n], f.text) {
			return i
		}
		i++
	}
	return -1
}

// common lists bytes by how much of memory they are, as guessed from memory that holds
// pointers, small numbers and text. All others are rarer.
const common = "\x00\xff et\x01aoinsr\x02lhdc\x7fum\x04p\x03\x08\x10f\x80_g./y,bw0\n1v-2k\"x=:3EST456789AIRCNOLDMPU()<>;'FBGHVW/zjqKXYZJQ"

// rarity is how rare a byte is, from 0 for the commonest.
func rarity(c byte) int {
	if k := strings.IndexByte(common, c); k >= 0 {
		return k
	}
	return len(common)
}

// required is a literal that each match has, with what stands before it.
type required struct {
	finder
	before   *node
	disjoint bool // what stands before cannot hold the first byte of the literal
	score    int  // the more, the faster it is found and the rarer it should be
}

// leads reports whether matches can be found from the literal on: what stands before is short,
// or can be in one place only.
func (r *required) leads() bool { return r.before.maxLen <= maxBefore || r.disjoint }

// literals returns the best literal that matches can be found from, and the best of all, or
// nil.
func literals(n *node) (leads, any *required) {
	parts := flatten(nil, n)
	for i := 0; i < len(parts); {
		text := leading(parts[i:])
		for k := range text[:min(len(text), 16)] {
			r := requirement(parts[:i+k], text[k:])
			if any == nil || r.score > any.score {
				any = r
			}
			if r.leads() && (leads == nil || r.score > leads.score) {
				leads = r
			}
			if r.leads() {
				break // all of it can be used
			}
		}
		i += max(1, len(text))
	}
	return leads, any
}

// maxBefore is how many bytes may stand before a literal for the search to begin so many
// earlier.
const maxBefore = 256

func requirement(before []*node, text []byte) *required {
	r := &required{finder: finder{text: text}, before: catNode(before)}
	for i := range text {
		if rarity(text[i]) > rarity(text[r.rare]) {
			r.rare = i
		}
	}
	var has set
	r.before.alphabet(&has)
	r.disjoint = !has.has(text[0])
	r.score = rarity(text[r.rare]) + 24*min(len(text), 8)
	return r
}

// flatten appends the parts of an expression, one after the other.
func flatten(parts []*node, n *node) []*node {
	switch {
	case n.kind == kindCat:
		for _, s := range n.subs {
			parts = flatten(parts, s)
		}
	case n.kind == kindEmpty:
	case n.kind == kindRepeat && n.min > 0 && n.subs[0].maxLen <= 16:
		// x{3,5} is xxx and x{0,2}.
		least := min(n.min, 64)
		for range least {
			parts = flatten(parts, n.subs[0])
		}
		if n.max > least {
			most := n.max
			if most != unbounded {
				most -= least
			}
			parts = append(parts, repeatNode(n.subs[0], n.min-least, most, n.lazy))
		}
	default:
		parts = append(parts, n)
	}
	return parts
}

// leading returns the bytes that parts begin with, one by one.
func leading(parts []*node) (text []byte) {
	for _, n := range parts {
		c, ok := n.set.only()
		if n.kind != kindSet || !ok {
			break
		}
		text = append(text, c)
	}
	return text
}

// alphabet adds all bytes that can occur in a match.
func (n *node) alphabet(s *set) {
	switch n.kind {
	case kindSet:
		s.union(&n.set)
	case kindRunes:
		for _, seq := range n.seqs {
			for _, x := range seq {
				s.addRange(x)
			}
		}
	}
	for _, sub := range n.subs {
		sub.alphabet(s)
	}
}
