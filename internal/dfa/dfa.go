// Package dfa finds regular expressions in bytes, in time that is linear in their number. An
// expression becomes an automaton whose states are computed when they are first reached. While
// no match has begun, it looks for a literal that each match must hold, or for the bytes with
// which matches begin. Start with Compile.
//
// # Expressions
//
// The syntax is that of package regexp, and so is the match. Of those that begin first, it is
// the one that a backtracking engine would try first. The differences follow from memory being
// bytes, of which only some are text:
//
//   - A character matches its encoding in UTF-8.
//   - \xHH is the byte HH, also from 80 up, alone and in classes and their ranges. \x{HH} is a
//     character. \C is any byte.
//   - "." is any byte but a newline; (?s:.) and \C are any byte.
//   - A class that holds every character beyond ASCII, such as [^"], \S or \W, holds every byte
//     beyond ASCII. In any other class, as [é-ü], \pL or [^é], a character beyond ASCII is its
//     encoding in UTF-8.
//   - ^ and $ are the edges of lines, as with (?m). With (?-m) they are those of the text. \A
//     and \z always are those of the text.
//   - Letters of ASCII have no other case outside of it: (?i)k does not match the sign for
//     Kelvin.
//   - A match is never empty. If the one that is found first would be, the next in order that
//     is not takes its place.
//
// # Length
//
// No match is longer than Limit. The match at an offset is the first among those that are short
// enough. A greedy match that would go further ends at the last place that is allowed. An
// offset where each match would be longer has none.
//
// # Blocks
//
// Find(b, from) looks at no byte before b[from-1]. ^ and \b need that byte, and \A asks whether
// there is one. That byte and the Limit+1 bytes from an offset on decide whether the match
// begins there, and where it ends.
//
// So a text that is given in blocks has the same matches as the whole, if
//
//   - b begins one byte before the block, unless the block begins the text;
//   - b goes on for Limit bytes behind the block, unless the text ends;
//   - matches that begin behind the block are left to the next;
//   - the search goes on where the last match has ended, in whichever block.
package dfa

import (
	"errors"
	"fmt"
)

// Limit is the length of the longest match, in bytes.
const Limit = 64 << 10

// cacheBytes is what the states of one automaton may take. A matcher has up to four.
const cacheBytes = 4 << 20

// Options change what an expression means.
type Options struct {
	Fold bool // letters match either case, as with (?i)
}

// Regexp is a compiled expression. It is safe for concurrent use.
type Regexp struct {
	tree     *node
	forward  *prog
	backward *prog
	inner    *required // found first, in place of the start
	before   *prog     // what stands before inner, backward
	literal  *required
	gate     *required // without it there is no match
	window   *window

	limit, cache int // Limit and cacheBytes, but for tests
}

// Compile compiles an expression. It fails if the expression is wrong, cannot match a single
// byte, or would take too much memory.
func Compile(expr string, o Options) (*Regexp, error) {
	parsed, err := parse(expr, o.Fold)
	if err != nil {
		return nil, err
	}
	tree, err := fromSyntax(parsed)
	if err != nil {
		return nil, err
	}
	return compileTree(tree)
}

func compileTree(tree *node) (*Regexp, error) {
	switch {
	case tree.minLen == unbounded:
		return nil, errors.New("it can match nothing")
	case tree.maxLen == 0:
		return nil, errors.New("it can match the empty string alone")
	case tree.minLen > Limit:
		return nil, fmt.Errorf("its matches are longer than %d KiB", Limit>>10)
	}
	re := &Regexp{tree: tree, limit: Limit, cache: cacheBytes}
	var err error
	if re.forward, err = compile(tree, false); err != nil {
		return nil, err
	}
	if re.backward, err = compile(tree, true); err != nil {
		return nil, err
	}
	return re, re.choose()
}

// minScore is what a literal must be worth to be looked for: two letters that are not the
// commonest, or one rare byte.
const minScore = 90

// choose decides what is looked for where nothing has begun.
func (re *Regexp) choose() (err error) {
	r, any := literals(re.tree)
	switch {
	case r != nil && r.score >= minScore && r.before.maxLen <= maxBefore:
		re.literal = r
		return nil
	case r != nil && r.score >= minScore:
		re.inner = r
		re.before, err = compile(r.before, true)
		return err
	case any != nil && any.score >= minScore:
		re.gate = any
	}
	re.window = newWindow(re.forward, re.MinLen())
	return nil
}

// MinLen returns the length of the shortest match, in bytes, which is 1 at least.
func (re *Regexp) MinLen() int { return max(1, re.tree.minLen) }

// MaxLen returns the length of the longest match, in bytes, which is Limit at most. Bounded
// reports whether the expression itself bounds it.
func (re *Regexp) MaxLen() (n int, bounded bool) {
	return min(re.limit, re.tree.maxLen), re.tree.maxLen <= re.limit
}

// Clone returns a new Matcher, for one goroutine.
func (re *Regexp) Clone() *Matcher {
	return &Matcher{re: re,
		search:   newLazy(re.forward, re.forward.loop, false, re.literal != nil || re.window != nil, re.cache),
		anchored: newLazy(re.forward, re.forward.start, false, false, re.cache),
		back:     newLazy(re.backward, re.backward.start, true, false, re.cache),
		before:   re.matcherBefore(),
		skipper:  skipper{literal: re.literal, window: re.window},
	}
}

func (re *Regexp) matcherBefore() *lazy {
	if re.before == nil {
		return nil
	}
	return newLazy(re.before, re.before.start, true, false, re.cache)
}

// Matcher finds the matches of an expression. It is not safe for concurrent use.
type Matcher struct {
	re       *Regexp
	search   *lazy // for where the first match ends
	anchored *lazy // for where the match ends that begins somewhere
	back     *lazy // for where a match begins
	before   *lazy // likewise, from the literal on; nil without one
	skipper  skipper
}

// Find returns the first match in b that begins at or after from: b[start:end], which is not
// empty. Ok is false if there is none. It reads what lies before the match, and at most Limit
// bytes more.
func (m *Matcher) Find(b []byte, from int) (start, end int, ok bool) {
	m.search.memo.reset()
	m.anchored.memo.reset()
	m.skipper.rest = 0
	return m.Next(b, from)
}

// Next is Find, if the last call of either was for the same b, unchanged since. It need not
// read again what was read behind the last match, so all matches of b are found in linear time.
func (m *Matcher) Next(b []byte, from int) (start, end int, ok bool) {
	if m.re.inner != nil {
		return m.findInner(b, from)
	}
	return m.findFirst(b, from)
}

// findFirst looks for the first end, and then for the start of the match.
func (m *Matcher) findFirst(b []byte, from int) (start, end int, ok bool) {
	var sk *skipper
	if m.search.skips {
		sk = &m.skipper
	}
	limit := m.re.limit
	for from < len(b) {
		if g := m.re.gate; g != nil && g.find(b, from) < 0 {
			break
		}
		f := m.search.forward(b, from, limit, sk)
		if f.end < 0 {
			return 0, 0, false
		}
		start := m.start(b, f.end, from)
		if f.end-start <= limit {
			return start, f.end, true
		}
		if start, end, ok := m.findShort(b, start, f.first); ok {
			return start, end, true
		}
		// All others end behind the first end.
		from = max(start+1, f.first-limit+1)
	}
	return 0, 0, false
}

// findShort looks for a match where one that begins at from is too long, and none ends before
// first. It tries all that may begin before the one that ends at first.
func (m *Matcher) findShort(b []byte, from, first int) (start, end int, ok bool) {
	limit := m.re.limit
	if f := m.anchored.anchoredAt(b, from, min(len(b), from+limit)); f.end >= 0 {
		return from, f.end, true
	}
	from = max(from+1, first-limit)
	if from >= first {
		return 0, 0, false
	}
	last := m.back.backward(b, first, from)
	for from <= last {
		if f := m.anchored.anchoredAt(b, from, min(len(b), from+limit)); f.end >= 0 {
			return from, f.end, true
		}
		from++
	}
	return 0, 0, false
}

// start returns where the match begins that ends at end.
func (m *Matcher) start(b []byte, end, from int) int {
	if t := m.re.tree; t.minLen == t.maxLen {
		return end - t.minLen
	}
	return m.back.backward(b, end, from)
}

// findInner looks for the literal, then back for the start and on for the end. What stands
// before the literal cannot go over another one. So no two starts are looked for in the same
// place, and the first one is that of the match.
func (m *Matcher) findInner(b []byte, from int) (start, end int, ok bool) {
	r, limit := m.re.inner, m.re.limit
	rest := m.re.tree.minLen - r.before.minLen // of the match, from the literal on
	lo, waste := from, 0
	for at := from + r.before.minLen; ; {
		at = r.find(b, at)
		if at < 0 {
			return 0, 0, false
		}
		if start := m.before.backward(b, at, max(lo, at-(limit-rest))); start >= 0 {
			f := m.anchored.anchoredAt(b, start, min(len(b), start+limit))
			if f.end >= 0 {
				return start, f.end, true
			}
			if f.cut {
				return m.findFirst(b, start)
			}
			if waste += m.anchored.from - at; waste > 8*(at-from)+limit {
				return m.findFirst(b, at+1)
			}
		}
		at++
		lo = at
	}
}
