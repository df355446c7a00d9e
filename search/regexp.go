package search

import (
	"fmt"

	"github.com/procmem/procmem/internal/dfa"
)

// MaxRegexpLength is the longest match of a regular expression, in bytes.
const MaxRegexpLength = dfa.Limit

// expression is a regular expression that was compiled.
type expression struct{ *dfa.Regexp }

// ParseRegexp parses a regular expression over bytes, in the syntax of package regexp. With
// fold, letters match either case.
//
// A character matches its encoding in UTF-8, \xHH a byte, and a dot any byte but a newline. ^
// and $ are the edges of lines and of runs of memory; \A and \z are those of runs. If a greedy
// expression has several matches at a place, those longer than MaxRegexpLength do not count.
func ParseRegexp(expr string, fold bool) (Pattern, error) {
	re, err := dfa.Compile(expr, dfa.Options{Fold: fold})
	if err != nil {
		return Pattern{}, fmt.Errorf("parse regexp %q: %w", expr, err)
	}
	return Pattern{text: expr, expr: &expression{re}}, nil
}

// longest returns how long a match can be, in bytes.
func (x *expression) longest() int {
	n, _ := x.MaxLen()
	return n
}

func (x *expression) seeker() seeker { return matcher{x.Clone()} }

type matcher struct{ *dfa.Matcher }

func (m matcher) seek(b []byte, from int, _ bool) (start, end int, ok bool) { return m.Find(b, from) }

func (matcher) forget() {}
