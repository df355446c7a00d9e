package symbols

import (
	"bytes"
	"slices"
)

// WithPrefix returns the names of symbols that begin with prefix, ascending, each once, and at
// most most of them. It reads the symbols of all files.
func (t *Table) WithPrefix(prefix string, most int) []string {
	seen := map[string]bool{}
	for _, r := range t.runs {
		if r.last < r.first {
			continue
		}
		r.once.Do(func() { t.load(r) })
		if r.file == nil {
			continue
		}
		for _, s := range r.file.symbols {
			if len(seen) >= most {
				break
			}
			if name := r.file.text(s); bytes.HasPrefix(name, []byte(prefix)) {
				seen[string(name)] = true
			}
		}
	}
	names := make([]string, 0, len(seen))
	for name := range seen {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
