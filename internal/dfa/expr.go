package dfa

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The parser knows runes and no bytes. A byte that is written as \xHH, from 80 up, is handed to
// it as a surrogate. A surrogate has no encoding, so it cannot be meant otherwise.
const (
	byteRunes    = 0xd800 // plus the byte
	notAByte     = 0xdfff // a surrogate that stands for nothing: who has it has been negated
	firstOfBytes = byteRunes + 0x80
	lastOfBytes  = byteRunes + 0xff
)

// parse parses an expression in the syntax of package regexp, with lines.
func parse(expr string, fold bool) (*syntax.Regexp, error) {
	flags := syntax.Perl &^ syntax.OneLine
	if fold {
		flags |= syntax.FoldCase
	}
	w := rewriter{in: expr}
	if err := w.rewrite(); err != nil {
		return nil, err
	}
	re, err := syntax.Parse(w.out.String(), flags)
	if err == nil {
		return re, nil
	}
	if _, plain := syntax.Parse(expr, flags); plain != nil {
		err = plain // in the words of the user, if it can be had so
	}
	if e, ok := errors.AsType[*syntax.Error](err); ok {
		return nil, fmt.Errorf("%s: %q", e.Code, e.Expr)
	}
	return nil, err
}

// rewriter goes through an expression and replaces what the parser does not have: bytes, and
// \C.
type rewriter struct {
	in  string
	at  int
	out strings.Builder
}

func (w *rewriter) rewrite() error {
	for w.at < len(w.in) {
		rest := w.in[w.at:]
		switch {
		case rest[0] == '[':
			if err := w.class(); err != nil {
				return err
			}
		case strings.HasPrefix(rest, `\C`):
			w.out.WriteString(`(?s:.)`)
			w.at += len(`\C`)
		case strings.HasPrefix(rest, `\Q`):
			quoted, _, _ := strings.Cut(rest, `\E`)
			w.keep(len(quoted))
		default:
			if err := w.char(); err != nil {
				return err
			}
		}
	}
	return nil
}

// keep takes over the next n bytes as they are.
func (w *rewriter) keep(n int) {
	end := min(w.at+n, len(w.in))
	w.out.WriteString(w.in[w.at:end])
	w.at = end
}

// next reports whether s is what comes next.
func (w *rewriter) next(s string) bool { return strings.HasPrefix(w.in[w.at:], s) }

// byteAt returns the byte that is written at an offset as \xHH, if it is one beyond ASCII, and
// -1 otherwise.
func (w *rewriter) byteAt(at int) int {
	if at+4 > len(w.in) || w.in[at] != '\\' || w.in[at+1] != 'x' {
		return -1
	}
	if v, err := strconv.ParseUint(w.in[at+2:at+4], 16, 8); err == nil && v >= 0x80 {
		return int(v)
	}
	return -1
}

// char takes over a character, however it is written, and any other thing after a backslash.
func (w *rewriter) char() error {
	if v := w.byteAt(w.at); v >= 0 {
		fmt.Fprintf(&w.out, `\x{%X}`, byteRunes+v)
		w.at += len(`\xHH`)
		return nil
	}
	n := 2
	switch rest := w.in[w.at:]; {
	case rest[0] != '\\':
		_, n = utf8.DecodeRuneInString(rest)
	case strings.HasPrefix(rest, `\x{`):
		n = strings.IndexByte(rest, '}') + 1
		if n == 0 {
			n = len(rest) // an error for the parser
			break
		}
		if v, err := strconv.ParseUint(rest[len(`\x{`):n-1], 16, 32); err == nil && v >= byteRunes && v <= notAByte {
			return fmt.Errorf("a surrogate has no encoding: %q", rest[:n])
		}
	case strings.HasPrefix(rest, `\x`):
		n = len(`\xHH`)
	case strings.HasPrefix(rest, `\p{`), strings.HasPrefix(rest, `\P{`):
		n = strings.IndexByte(rest, '}') + 1
		if n == 0 {
			n = len(rest)
		}
	case strings.HasPrefix(rest, `\p`), strings.HasPrefix(rest, `\P`):
		n = len(`\pN`)
	}
	w.keep(n)
	return nil
}

// class is what is in brackets, the first of which may stand for itself.
func (w *rewriter) class() error {
	w.keep(1)
	if w.next("^") {
		w.keep(1)
	}
	for first := true; w.at < len(w.in) && (first || !w.next("]")); first = false {
		if err := w.item(); err != nil {
			return err
		}
	}
	w.keep(1)
	return nil
}

// item is a character in a class, a range, or another class by name. A range from ASCII to a
// byte beyond has two parts, between which there are all runes.
func (w *rewriter) item() error {
	if end := strings.Index(w.in[w.at:], ":]"); w.next("[:") && end >= 0 {
		w.keep(end + 2)
		return nil
	}
	named := w.next(`\`) && w.at+1 < len(w.in) && strings.IndexByte("dswDSWpP", w.in[w.at+1]) >= 0
	from := w.byteAt(w.at)
	if err := w.char(); err != nil || named || !w.next("-") || strings.HasPrefix(w.in[w.at:], "-]") {
		return err
	}
	w.keep(1)
	if w.at == len(w.in) {
		return nil
	}
	if from < 0 && w.byteAt(w.at) >= 0 {
		fmt.Fprintf(&w.out, `\x7f\x{%X}-`, firstOfBytes)
	}
	return w.char()
}

// runeClass is a class of runes as the parser has it: pairs of first and last.
type runeClass []rune

func (c runeClass) has(r rune) bool { return c.covers(r, r) }

// covers reports whether all runes from lo to hi are in the class; ranges that touch have been
// merged by the parser.
func (c runeClass) covers(lo, hi rune) bool {
	for i := 0; i+1 < len(c); i += 2 {
		if c[i] <= lo && hi <= c[i+1] {
			return true
		}
	}
	return false
}

// every reports whether all runes beyond ASCII are in the class. A parser that folds cases has
// taken two out with letters of ASCII.
func (c runeClass) every(fold bool) bool {
	if !fold || c.has(longS) && c.has(kelvin) {
		return c.covers(0x80, byteRunes-1) && c.covers(notAByte+1, 0x10ffff)
	}
	return c.covers(0x80, longS-1) && c.covers(longS+1, kelvin-1) && c.covers(kelvin+1, byteRunes-1) && c.covers(notAByte+1, 0x10ffff)
}

// node makes a node of the class.
func (c runeClass) node(fold bool) *node {
	var s set
	var wide [][]byteRange
	every := c.every(fold)
	for i := 0; i+1 < len(c); i += 2 {
		lo, hi := c[i], c[i+1]
		for r := lo; r <= min(hi, 0x7f); r++ {
			s.add(byte(r))
		}
		if every || !c.has(notAByte) {
			for r := max(lo, firstOfBytes); r <= min(hi, lastOfBytes); r++ {
				s.add(byte(r - byteRunes))
			}
		}
		if lo = max(lo, 0x80); !every && lo <= hi {
			wide = c.appendWide(wide, lo, hi, fold)
		}
	}
	switch {
	case len(wide) == 0:
		return setNode(s)
	case s == set{}:
		return runesNode(wide)
	}
	return altNode([]*node{setNode(s), runesNode(wide)})
}

// appendWide appends the encodings of runes beyond ASCII, without those that a parser that
// folds cases has added for letters of ASCII.
func (c runeClass) appendWide(wide [][]byteRange, lo, hi rune, fold bool) [][]byteRange {
	if fold && lo == hi {
		switch {
		case lo == longS && c.has('s') && c.has('S'), lo == kelvin && c.has('k') && c.has('K'):
			return wide
		}
	}
	return appendSequences(wide, lo, hi)
}

const (
	longS  = '\u017f' // which Unicode folds to s
	kelvin = '\u212a' // and this to k
)
