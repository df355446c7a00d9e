package target

import (
	"slices"
	"strings"
	"testing"

	"github.com/procmem/procmem"
)

// Every address has a name that is a RANGE which begins at that address.
func TestLocator(t *testing.T) {
	ms := slices.Insert(slices.Clone(testMappings), len(testMappings)-2,
		mapping(0x51000, 0x52000, "/opt/heap"),
		mapping(0x53000, 0x54000, "/opt/sym:main"),
		mapping(0x55000, 0x56000, "/opt/[heap]x"),
		mapping(0x57000, 0x58000, "/opt/-x"),
		mapping(0x59000, 0x5a000, "/opt/0x10"),
		mapping(0x5b000, 0x5c000, "/opt/deadbeef"),
		mapping(0x5d000, 0x5e000, "/opt/deadbeefdead-3"))
	names := map[string]bool{}
	locate := Locator(ms)
	for i := range ms {
		for _, a := range []procmem.Addr{ms[i].Start, ms[i].Start + 0x123, ms[i].End - 1} {
			name := locate(a)
			if names[name] {
				t.Errorf("%s is the name of two addresses", name)
			}
			names[name] = true
			spec, err := ParseRange(name)
			if err != nil {
				t.Errorf("%v: %v", a, err)
				continue
			}
			if rs, err := spec.Resolve(ms); err != nil || rs[0].Start != a {
				t.Errorf("%v is %s, which means %v, %v", a, name, rs, err)
			}
		}
		if name := Name(&ms[i]); (ms[i].Path == "") != strings.HasPrefix(name, "[anon@") {
			t.Errorf("%v is called %s", ms[i].Range, name)
		}
	}
	for a, want := range map[procmem.Addr]string{
		0x1010: "prog+0x10", 0x13001: "libc.so.6+0x3001", 0x3001: "[anon@3000]+0x1", 0x34001: "[anon:glibc: malloc+arena]+0x1",
		0x28000: "/opt/one/same.so+0x0", 0x4000: "", 0x51001: "/opt/heap+0x1",
	} {
		if got := locate(a); got != want {
			t.Errorf("%v is %q, want %q", a, got, want)
		}
	}
}

func TestHeap(t *testing.T) {
	const rw = procmem.PermRead | procmem.PermWrite
	with := func(m procmem.Mapping, p procmem.Perm) procmem.Mapping {
		m.Perm = p
		return m
	}
	ms := []procmem.Mapping{
		with(mapping(0x1000, 0x2000, "/bin/prog"), rw),
		with(mapping(0x2000, 0x3000, ""), rw),
		with(mapping(0x3000, 0x4000, "[anon: Go: heap]"), rw),
		with(mapping(0x5000, 0x6000, ""), procmem.PermRead),
		with(mapping(0x6000, 0x7000, ""), rw|procmem.PermShared),
		with(mapping(0x8000, 0x9000, ""), rw),
		with(mapping(0xa000, 0xb000, "[stack]"), rw),
	}
	brk := append(ms[:len(ms):len(ms)], with(mapping(0xc000, 0xd000, "[heap]"), rw))
	for _, c := range []struct {
		text string
		ms   []procmem.Mapping
		want string
	}{
		{"heap", ms, "[0x2000-0x4000 0x8000-0x9000]"},
		{"[heap]", ms, "[0x2000-0x4000 0x8000-0x9000]"},
		{"heap", brk, "[0x2000-0x4000 0x8000-0x9000 0xc000-0xd000]"},
		{"[heap]", brk, "[0xc000-0xd000]"},
		{"[heap]+1+1", brk, "[0xc001-0xc002]"},
		{"[heap]+1+1", ms, "none is named [heap]"},
		{"heap+1+1", brk, "none is named heap"},
	} {
		spec, err := ParseRange(c.text)
		if err != nil {
			t.Fatal(err)
		}
		rs, err := spec.Resolve(c.ms)
		if got := textOf(rs, err); !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %s", c.text, got, c.want)
		}
	}
}

func textOf(rs []procmem.Range, err error) string {
	if err != nil {
		return err.Error()
	}
	texts := make([]string, len(rs))
	for i, r := range rs {
		texts[i] = r.String()
	}
	return "[" + strings.Join(texts, " ") + "]"
}
