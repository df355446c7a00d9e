package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/procmem/procmem/search"
)

// tellBefore warns of words that are more likely something else, before the search: it may be long.
func (o *searchFlags) tellBefore(words []string) {
	text := ""
	switch {
	case o.hex:
		text = tellBytes(words)
	case o.asText():
		text = o.tellTarget(words)
		if text == "" && len(words) == 1 && words[0] != "" && strings.Trim(words[0], "*?") == "" {
			text = fmt.Sprintf("%q is looked for as it is written; procmem strings %s prints all text", words[0], shellWord(o.several.list.Word))
		}
	}
	if text != "" {
		o.told = true
		notice("%s", text)
	}
}

// tellNothing says why nothing may have been found: one reason, unless something was told before.
// words are the patterns of the command line, and patterns are all of them.
func (o *searchFlags) tellNothing(words, patterns []string) {
	if o.found || o.told || o.from != "" {
		return
	}
	for _, reason := range []func() string{
		func() string { return o.nameReason(words) },
		func() string { return firstReason(patterns, o.patternReason) },
		o.left.text,
	} {
		if text := reason(); text != "" {
			notice("%s", text)
			return
		}
	}
}

// tellCut says that there may be more than --max-results has let through.
func (o *searchFlags) tellCut() {
	if o.cut && o.most > 0 {
		notice("stopped after %s, as --max-results says: there may be more", matches(uint64(o.most)))
	}
}

// asText reports whether patterns are text.
func (o *searchFlags) asText() bool {
	return !o.regexp && !o.hex && o.typ == "" && !o.pointer && o.from == ""
}

// tellTarget tells of a pattern that is more likely a target.
func (o *searchFlags) tellTarget(words []string) string {
	for _, w := range words {
		if what := otherTarget(w); what != "" {
			return o.patternOrTarget(w, what, len(words) == 1)
		}
	}
	if len(words) > 1 {
		if what := anyTarget(words[0]); what != "" { // of the first alone: names take a while
			return o.patternOrTarget(words[0], what, false)
		}
	}
	return ""
}

// nameReason tells of the only pattern that it is the name of a process.
func (o *searchFlags) nameReason(words []string) string {
	if len(words) != 1 || !o.asText() || anyTarget(words[0]) != aName {
		return ""
	}
	return o.patternOrTarget(words[0], aName, true)
}

func (o *searchFlags) patternOrTarget(word, what string, only bool) string {
	text := fmt.Sprintf("%s is a pattern here, and the %s, too: several targets are written %s,%[1]s", word, what, o.several.list.Word)
	if only {
		text += ", and the PATTERN comes behind them"
	}
	return text
}

// patternReason says why a pattern may not have been found, or returns "".
func (o *searchFlags) patternReason(w string) string {
	const written = "%q was looked for as it is written: "
	if digits, ok := strings.CutPrefix(w, "0x"); ok && o.hex {
		if typ := typeFor(w); typ != "" {
			return fmt.Sprintf("%q was looked for as the bytes %s in this order: with --type %s it is a number", w, digits, typ)
		}
	}
	if !o.asText() {
		return ""
	}
	if looksRegexp(w) {
		return fmt.Sprintf(written+"with --regexp (-E) it is a regular expression", w)
	}
	if glob.MatchString(w) {
		expr := strings.NewReplacer("*", `\w*`, "?", `\w`, ".", `\.`).Replace(w)
		return fmt.Sprintf(written+"wildcards are regular expressions, such as --regexp %s", w, shellWord(expr))
	}
	if typ := typeFor(w); typ != "" {
		return fmt.Sprintf(written+"with --type %s it is a number", w, typ)
	}
	return ""
}

// glob is text with wildcards of shells.
var glob = regexp.MustCompile(`^[\w./@: -]*[*?][\w./@: *?-]*$`)

// typeFor returns the usual type of a number, or "" where a word is none.
func typeFor(word string) string {
	if digits := strings.TrimLeft(word, "+-<>=."); digits == "" || digits[0] < '0' || digits[0] > '9' {
		return "" // also nan and inf
	}
	for _, typ := range []search.Type{search.I32, search.I64, search.U64, search.F64} {
		if _, err := search.ParseValue(typ, word, search.ValueOptions{}); err == nil {
			return typ.String()
		}
	}
	return ""
}

// tellBytes tells of bytes that were meant to be in a row.
func tellBytes(words []string) string {
	long := func(w string) bool { return len(strings.TrimPrefix(w, "0x")) > 2 }
	if len(words) < 2 || slices.ContainsFunc(words, long) {
		return ""
	}
	return fmt.Sprintf("these are %d patterns: bytes in a row are quoted, --hex '%s'", len(words), strings.Join(words, " "))
}

// firstReason returns the first text that there is for a word.
func firstReason(words []string, text func(word string) string) string {
	for _, w := range words {
		if t := text(w); t != "" {
			return t
		}
	}
	return ""
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
