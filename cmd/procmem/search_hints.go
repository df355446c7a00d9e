package main

import (
	"strings"

	"github.com/procmem/procmem/search"
)

// tellRegexp says, of patterns that were not found as text, that they look like regular
// expressions.
func (o *searchFlags) tellRegexp(words []string) {
	if o.found || o.regexp || o.hex || o.typ != "" || o.pointer || o.from != "" {
		return
	}
	for _, w := range words {
		if looksRegexp(w) {
			notice("%q was looked for as it is written: with --regexp (-E) it is a regular expression", w)
			return
		}
	}
}

// regexpSigns are what hardly any text has in it, and many regular expressions have.
var regexpSigns = []string{".*", ".+", ".?", `\d`, `\w`, `\s`, `\b`, `\.`, "[^", "-9]", "-z]", "-Z]", "]+", "]*", "]{", ")+", ")*", "|"}

// looksRegexp reports whether a pattern looks like a regular expression, and is one.
func looksRegexp(word string) bool {
	looks := len(word) > 1 && (word[0] == '^' || strings.HasSuffix(word, "$"))
	for _, sign := range regexpSigns {
		looks = looks || strings.Contains(word, sign)
	}
	if !looks {
		return false
	}
	_, err := search.ParseRegexp(word, false)
	return err == nil
}
