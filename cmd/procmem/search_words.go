package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/search"
	"github.com/procmem/procmem/symbols"
	"github.com/procmem/procmem/target"
)

// check refuses flags that do not go together.
func (o *searchFlags) check(cmd *cobra.Command, args []string) error {
	if err := o.checkCounts(); err != nil {
		return err
	}
	var err error
	if o.typ, err = typeName(o.typ); err != nil {
		return err
	}
	err = cmp.Or(one(o.set, "string", "regexp", "hex", "type", "pointer-to"),
		one(o.set, "string", "regexp", "hex", "pointer-to", "from"))
	if err != nil {
		return err
	}
	if err := one(o.set, "changed", "unchanged", "increased", "decreased"); err != nil {
		return err
	}
	number := (o.typ != "" || o.pointer) && o.from == ""
	text := !number && !o.hex && o.from == ""
	for _, c := range []struct {
		flag string
		fits bool
		with string
	}{
		{"utf16", text && !o.regexp, "--string"},
		{"ignore-case", text, "--string and --regexp"},
		{"align", number, "--type and --pointer-to"},
		{"big-endian", number, "--type and --pointer-to"},
		{"tolerance", number && strings.HasPrefix(o.typ, "f") || o.value != "", "--type f32 and f64, and --value"},
		{"file", o.from == "", "patterns, and not with --from"},
		{"pattern", o.from == "", "other patterns, and not with --from"},
		{"save", number || o.from != "", "--type, --pointer-to and --from: candidates are numbers"},
		{"changed", o.from != "", "--from"},
		{"unchanged", o.from != "", "--from"},
		{"increased", o.from != "", "--from"},
		{"decreased", o.from != "", "--from"},
		{"value", o.from != "", "--from"},
		{"watch", o.from != "" && o.save == "" && !o.count, "--from, and not with --save and --count; procmem read --watch shows a RANGE"},
	} {
		if o.set(c.flag) && !c.fits {
			return usagef("--%s goes with %s", c.flag, c.with)
		}
	}
	return o.checkPatterns(cmd, args)
}

// one refuses more than one of these flags.
func one(set func(string) bool, names ...string) error {
	first := ""
	for _, name := range names {
		switch {
		case !set(name):
		case first == "":
			first = name
		default:
			return usagef("--%s and --%s do not go together", first, name)
		}
	}
	return nil
}

// patternWords returns the patterns as written: those of the command line, then those of the
// file.
func (o *searchFlags) patternWords(words []string) ([]string, error) {
	words = slices.Concat(words, o.also)
	if o.file == "" {
		return words, nil
	}
	f, err := os.Open(o.file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 4*search.MaxLength)
	for lines.Scan() {
		if line := lines.Text(); line != "" {
			words = append(words, line)
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("%s: a line is longer than any pattern may be", o.file)
	case err != nil:
		return nil, err
	case len(words) == 0:
		return nil, fmt.Errorf("%s: no pattern is in it", o.file)
	}
	return words, nil
}

// patterns parses words as patterns of the chosen kind.
func (o *searchFlags) patterns(words []string, s *searched) ([]search.Pattern, error) {
	parse, err := o.parser(s)
	if err != nil {
		return nil, usageError{err}
	}
	patterns := make([]search.Pattern, 0, len(words))
	for _, w := range words {
		p, err := parse(w)
		if err != nil {
			return nil, usageError{err}
		}
		patterns = append(patterns, p...)
	}
	return patterns, nil
}

// parser returns the parser of a word.
func (o *searchFlags) parser(s *searched) (func(word string) ([]search.Pattern, error), error) {
	vo := o.valueOptions(s)
	parse := func(w string) (search.Pattern, error) { return search.Literal([]byte(w), o.fold) }
	switch {
	case o.pointer:
		return func(w string) ([]search.Pattern, error) { return s.pointersTo(w, vo) }, nil
	case o.regexp:
		parse = func(w string) (search.Pattern, error) { return search.ParseRegexp(w, o.fold) }
	case o.hex:
		parse = search.ParseHex
	case o.typ != "":
		typ, err := search.ParseType(o.typ)
		if err != nil {
			return nil, err
		}
		parse = func(w string) (search.Pattern, error) { return search.ParseValue(typ, w, vo) }
	case o.utf16:
		parse = func(w string) (search.Pattern, error) { return search.LiteralUTF16(w, o.fold) }
	}
	return func(w string) ([]search.Pattern, error) {
		p, err := parse(w)
		return []search.Pattern{p}, err
	}, nil
}

func (o *searchFlags) valueOptions(s *searched) search.ValueOptions {
	return search.ValueOptions{Align: o.align, BigEndian: o.bigEndian, Tolerance: o.tolerance, Word: s.word}
}

// pointersTo returns patterns of pointers to a RANGE, which may be several pieces of memory.
func (s *searched) pointersTo(word string, vo search.ValueOptions) ([]search.Pattern, error) {
	specs, err := parseRanges([]string{word})
	if err != nil {
		return nil, err
	}
	ranges, err := resolveRanges(specs, s.maps, s.places.symbols)
	if err != nil {
		return nil, err
	}
	var patterns []search.Pattern
	for _, r := range ranges {
		p, err := search.PointerTo(r, vo)
		if err != nil {
			return nil, err
		}
		patterns = append(patterns, p)
	}
	return patterns, nil
}

// permMask says which permissions are wanted, and which of them matter.
type permMask struct{ want, matter procmem.Perm }

// parsePermMask parses permissions as /proc/PID/maps prints them. The last may be left out. "."
// and "?" match either.
func parsePermMask(s string) (permMask, error) {
	var m permMask
	if s == "" {
		return m, nil
	}
	if len(s) != 3 && len(s) != 4 {
		return m, usagef("--perm %q: want three or four characters, such as rw- or r-xp", s)
	}
	for i, letter := range []byte("rwxs")[:len(s)] {
		bit := procmem.Perm(1) << i
		none := byte('-')
		if i == 3 {
			none = 'p'
		}
		switch s[i] {
		case letter:
			m.want |= bit
			m.matter |= bit
		case none:
			m.matter |= bit
		case '.', '?':
		default:
			return m, usagef("--perm %q: character %d is none of %c, %c and .", s, i+1, letter, none)
		}
	}
	return m, nil
}

// writable is where candidates are looked for: what cannot be written does not change.
var writable = permMask{want: procmem.PermWrite, matter: procmem.PermWrite}

// errNoPerm reports that no mapping has the permissions that are wanted.
var errNoPerm = errors.New("no mapping has these permissions")

func (m permMask) fits(p procmem.Perm) bool { return (p^m.want)&m.matter == 0 }

// whereToLook returns the memory that is asked for.
func whereToLook(specs []target.Spec, perm permMask, ms []procmem.Mapping, tab *symbols.Table) ([]procmem.Range, error) {
	in, err := resolveRanges(specs, ms, tab)
	if err != nil {
		return nil, err
	}
	if len(specs) == 0 {
		in = ordinary(ms)
	}
	in = pageset.Merge(in)
	out := []procmem.Range{} // not nil, which would mean everywhere
	for _, r := range in {
		mapped := false
		for i := procmem.FindMapping(ms, r.Start); i < len(ms) && ms[i].Start < r.End; i++ {
			mapped = true
			if perm.fits(ms[i].Perm) {
				out = append(out, ms[i].Intersect(r))
			}
		}
		if !mapped {
			return nil, fmt.Errorf("nothing is mapped in %v", r)
		}
	}
	if len(out) == 0 {
		return nil, errNoPerm
	}
	return pageset.Merge(out), nil
}
