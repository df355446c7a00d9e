package target

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/procmem/procmem"
)

// Locator returns a function that names an address as a RANGE, which Resolve takes back to that
// address: a Name with the offset from the lowest mapping that has it. A file goes by its
// basename unless another one has the same. Where nothing is mapped, the name is "".
func Locator(ms []procmem.Mapping) func(procmem.Addr) string {
	type origin struct {
		start procmem.Addr
		name  string
	}
	origins := make(map[string]*origin)
	owner := make(map[string]string) // path by basename; "" where several files have that
	for i := range ms {
		p := ms[i].Path
		if p == "" || origins[p] != nil {
			continue
		}
		origins[p] = &origin{ms[i].Start, p}
		if strings.HasPrefix(p, "/") {
			base := path.Base(p)
			if _, taken := owner[base]; taken {
				owner[base] = ""
			} else {
				owner[base] = p
			}
		}
	}
	for base, p := range owner {
		if p != "" && isName(base) {
			origins[p].name = base
		}
	}
	return func(a procmem.Addr) string {
		i := procmem.FindMapping(ms, a)
		if i == len(ms) || !ms[i].Contains(a) {
			return ""
		}
		o := origins[ms[i].Path]
		if o == nil {
			o = &origin{ms[i].Start, Name(&ms[i])}
		}
		return fmt.Sprintf("%s+%#x", o.name, uint64(a-o.start))
	}
}

// isName reports whether a basename with an offset behind it means a mapping.
func isName(base string) bool {
	return base != heapWord && !strings.HasPrefix(base, symbolPrefix) && !strings.ContainsAny(base[:1], "[+-") && !addrForm(base+"+0")
}

// Name returns what a mapping is called: its path or, where it has none, [anon@START] with the
// hexadecimal address at which it starts. The kernel gives no mapping a name of that form. It
// means the mapping without a path that holds START, so it remains right while that grows.
func Name(m *procmem.Mapping) string {
	if m.Path == "" {
		return namelessPrefix + strconv.FormatUint(uint64(m.Start), 16) + "]"
	}
	return m.Path
}

const namelessPrefix = "[anon@"

// findNameless returns the memory that [anon@START] means, from START to the end of the mapping.
func findNameless(ms []procmem.Mapping, name string) (procmem.Range, bool) {
	digits, ok := strings.CutPrefix(name, namelessPrefix)
	start, err := strconv.ParseUint(strings.TrimSuffix(digits, "]"), 16, 64)
	if !ok || err != nil {
		return procmem.Range{}, false
	}
	a := procmem.Addr(start)
	i := procmem.FindMapping(ms, a)
	if i == len(ms) || !ms[i].Contains(a) || ms[i].Path != "" {
		return procmem.Range{}, false
	}
	return procmem.Range{Start: a, End: ms[i].End}, true
}
