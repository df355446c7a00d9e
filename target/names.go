package target

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/term"
)

const deletedSuffix = " (deleted)"

// The ways in which a name can mean a mapping, the most exact first.
var nameRules = []func(p, name string) bool{
	func(p, name string) bool { return p == name },
	func(p, name string) bool { return strings.TrimSuffix(p, deletedSuffix) == name },
	func(p, name string) bool { return strings.HasPrefix(p, "/") && path.Base(p) == name },
	func(p, name string) bool {
		return strings.HasPrefix(p, "/") && path.Base(strings.TrimSuffix(p, deletedSuffix)) == name
	},
	func(p, name string) bool { // as procmem prints it
		return strings.Contains(name, `\`) && (term.Printable(p) == name || strings.HasPrefix(p, "/") && term.Printable(path.Base(p)) == name)
	},
	func(p, name string) bool { // as /proc/PID/maps prints it
		return strings.Contains(name, `\012`) && strings.ReplaceAll(strings.TrimSuffix(p, deletedSuffix), "\n", `\012`) == strings.TrimSuffix(name, deletedSuffix)
	},
	func(p, name string) bool { return name != heapWord && p == "["+name+"]" },
}

// findName returns the ranges of all mappings of that name, ascending and merged; none where
// the name is not there.
func findName(ms []procmem.Mapping, name string) ([]procmem.Range, error) {
	if r, ok := findNameless(ms, name); ok {
		return []procmem.Range{r}, nil
	}
	for _, rule := range nameRules {
		var rs []procmem.Range
		var paths []string
		seen := map[string]bool{}
		for i := range ms {
			if p := ms[i].Path; p != "" && !ms[i].Empty() && rule(p, name) {
				rs = append(rs, ms[i].Range)
				if !seen[p] {
					seen[p] = true
					paths = append(paths, p)
				}
			}
		}
		if len(paths) > 1 {
			return nil, fmt.Errorf("%w: %s may be %s; give the full path", ErrAmbiguousName, show(name), list(paths, " or "))
		}
		if len(rs) > 0 {
			return pageset.Merge(rs), nil
		}
	}
	return nil, nil
}

// notFound explains why no reading of the text is the name of a mapping.
func (s Spec) notFound(ms []procmem.Mapping) error {
	// If the text goes on behind a name that is there, what follows is what is wrong.
	longest := 64 // of names that are made up
	for i := range ms {
		longest = max(longest, len(ms[i].Path))
	}
	for i := min(len(s.text), longest+1); ; {
		if i = strings.LastIndexByte(s.text[:i], '+'); i <= 0 {
			break
		}
		if rs, err := findName(ms, s.text[:i]); err != nil || len(rs) > 0 {
			if _, err := parseRest(s.text, i); err != nil {
				return err
			}
		}
	}
	// The shortest reading is the name most likely meant.
	name := s.readings[len(s.readings)-1].name
	msg := "none is named " + show(name)
	if name == "[anon]" || strings.HasPrefix(name, namelessPrefix) {
		return fmt.Errorf("resolve range %q: %w: %s; memory without a name is called [anon@START], as procmem maps prints it", s.text, ErrNoMapping, msg)
	}
	if close, all := closeNames(ms, name); len(close) > 0 {
		msg += "; there is " + list(close, ", ")
	} else if len(all) > 0 {
		msg += "; there are " + list(all, ", ")
	} else {
		msg += "; none has a name"
	}
	if n := digits(s.text, true); n > 0 && (n == len(s.text) || s.text[n] == '-' || s.text[n] == '+') {
		msg += " (an address is written 0x" + s.text[:n] + ")"
	}
	return fmt.Errorf("resolve range %q: %w: %s", s.text, ErrNoMapping, msg)
}

// closeNames returns the names that resemble name, and all names. Files are given by basename.
func closeNames(ms []procmem.Mapping, name string) (close, all []string) {
	seen := map[string]bool{"": true}
	for i := range ms {
		p := strings.TrimSuffix(ms[i].Path, deletedSuffix)
		if strings.HasPrefix(p, "/") {
			p = path.Base(p)
		}
		if !seen[p] {
			seen[p] = true
			all = append(all, p)
		}
	}
	want := strings.ToLower(path.Base(name))
	stem := strings.Trim(want, "[]")
	if i := strings.IndexAny(stem, "-._+:0123456789"); i > 0 {
		stem = stem[:i]
	}
	for _, like := range []string{want, stem} {
		if len(like) < 2 {
			continue
		}
		for _, n := range all {
			// The other way round is for a name with too much behind it.
			if l := strings.ToLower(n); strings.Contains(l, like) || len(l) > 3 && strings.HasPrefix(want, l) {
				close = append(close, n)
			}
		}
		if len(close) > 0 {
			break
		}
	}
	return close, all
}

// maxNames is how many names a message lists.
const maxNames = 8

func list(names []string, sep string) string {
	more := ""
	if len(names) > maxNames {
		more = fmt.Sprintf(" and %d more", len(names)-maxNames)
		names = names[:maxNames]
	}
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = show(n)
	}
	return strings.Join(out, sep) + more
}

// show quotes a name that would be misread, or could harm a terminal, as it is.
func show(name string) string {
	if q := strconv.Quote(name); q[1:len(q)-1] != name || strings.Contains(name, " ") || name == "" {
		return q
	}
	return name
}
