package target

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/procmem/procmem"
)

func mapping(start, end procmem.Addr, path string) procmem.Mapping {
	m := procmem.Mapping{Range: procmem.Range{Start: start, End: end}, Path: path}
	if strings.HasPrefix(path, "/") {
		m.Inode = 1
	}
	return m
}

var testMappings = []procmem.Mapping{
	mapping(0x1000, 0x2000, "/usr/bin/prog"),
	mapping(0x2000, 0x3000, "/usr/bin/prog"),
	mapping(0x3000, 0x4000, ""),
	mapping(0x8000, 0x9000, "[heap]"),
	mapping(0x10000, 0x11000, "/usr/lib/libc.so.6"),
	mapping(0x11000, 0x12000, "/usr/lib/libc.so.6"),
	mapping(0x12000, 0x13000, ""),
	mapping(0x13000, 0x14000, "/usr/lib/libc.so.6"),
	mapping(0x20000, 0x21000, "/usr/lib/libstdc++.so.6"),
	mapping(0x22000, 0x23000, "/opt/a-b.so"),
	mapping(0x24000, 0x25000, "/opt/foo"),
	mapping(0x26000, 0x27000, "/opt/foo+0x10"),
	mapping(0x28000, 0x29000, "/opt/one/same.so"),
	mapping(0x2a000, 0x2b000, "/opt/two/same.so"),
	mapping(0x2c000, 0x2d000, "/opt/old.so (deleted)"),
	mapping(0x2e000, 0x2f000, "/opt/new.so (deleted)"),
	mapping(0x30000, 0x31000, "/opt/new.so"),
	mapping(0x32000, 0x33000, "/memfd:jit cache (deleted)"),
	mapping(0x34000, 0x35000, "[anon:glibc: malloc+arena]"),
	mapping(0x36000, 0x37000, "/usr/bin/["),
	mapping(0x38000, 0x39000, "/opt/12345678-12345678"),
	mapping(0x3a000, 0x3b000, "/opt/deadbeef-lib.so"),
	mapping(0x3c000, 0x3d000, "/opt/\x1b[31m.so"),
	mapping(0x3e000, 0x3f000, "/opt/12345678-12345679 x.so"),
	mapping(0x7ffe0000, 0x7fff0000, "[stack]"),
	mapping(0xffffffffff600000, 0xffffffffff601000, "[vsyscall]"),
}

func resolve(s string) ([]procmem.Range, error) {
	spec, err := ParseRange(s)
	if err != nil {
		return nil, err
	}
	return spec.Resolve(testMappings)
}

func TestResolve(t *testing.T) {
	r := func(addrs ...procmem.Addr) (rs []procmem.Range) {
		for i := 0; i < len(addrs); i += 2 {
			rs = append(rs, procmem.Range{Start: addrs[i], End: addrs[i+1]})
		}
		return rs
	}
	for _, c := range []struct {
		in   string
		want []procmem.Range
	}{
		{"0xA-0xB", r(0xa, 0xb)},
		{"0X1000-0Xffffffffffffffff", r(0x1000, math.MaxUint64)},
		{"7f12a000-7f12b000", r(0x7f12a000, 0x7f12b000)},
		{"00400000-00401000", r(0x400000, 0x401000)},
		{"ffffffffff600000-ffffffffff601000", r(0xffffffffff600000, 0xffffffffff601000)},
		{"0x7f12a000-7f12b000", r(0x7f12a000, 0x7f12b000)},
		{"7f12a000-0x7f12b000", r(0x7f12a000, 0x7f12b000)},
		{"0x1000+0x10", r(0x1000, 0x1010)},
		{"0x1000+4KiB", r(0x1000, 0x2000)},
		{"00001000+1kB", r(0x1000, 0x13e8)},
		{"0xfffffffffffffffe+1", r(0xfffffffffffffffe, math.MaxUint64)},
		{"0x1003-3+40", r(0x1000, 0x1028)},
		{"0x1010-0x10+1K", r(0x1000, 0x1400)},
		{"7f12a0001003-3+0x10", r(0x7f12a0001000, 0x7f12a0001010)},

		{"7f12a000-7f12b000 rw-p 00000000 00:00 0", r(0x7f12a000, 0x7f12b000)}, // lines
		{"0x7f12a000-0x7f12b000 rw-p       4       4  [anon@7f12a000]", r(0x7f12a000, 0x7f12b000)},
		{"0x7f12a000-0x7f12b000: not in the core file", r(0x7f12a000, 0x7f12b000)},
		{"0x8010  [heap]+0x10  <a+0x10>  text", r(0x8010, 0x8110)},
		{"0000000000008010  de ad be ef  |....|", r(0x8010, 0x8110)},
		{"000000008ff0 de ad be ef  |....|", r(0x8ff0, 0x9000)},
		{"│ 0000000000008010 │ de ad be ef", r(0x8010, 0x8110)},
		{"0000000000009000\tnothing is mapped", r(0x9000, 0x9100)},
		{"0x7f12a000-0x7f12b000  ---p  4", r(0x7f12a000, 0x7f12b000)},
		{"0000000000008010  -8 +3", r(0x8010, 0x8110)},
		{"  12ff0 -x", r(0x12ff0, 0x130f0)},
		{"  12ff0 a string", r(0x12ff0, 0x130f0)},
		{"12345678-12345679 x.so", r(0x3e000, 0x3f000)}, // a name comes first

		{"0x8010", r(0x8010, 0x8110)},
		{"00008010", r(0x8010, 0x8110)},
		{"0x1ff0", r(0x1ff0, 0x20f0)}, // the next mapping touches
		{"0x8ff0", r(0x8ff0, 0x9000)}, // the memory ends
		{"0x9000", r(0x9000, 0x9100)}, // nothing is mapped
		{"0xfffffffffffffff0", r(0xfffffffffffffff0, math.MaxUint64)},

		{"[heap]", r(0x8000, 0x9000)},
		{"[heap]+0x10", r(0x8010, 0x8110)},
		{"[heap]+0xff0", r(0x8ff0, 0x9000)},
		{"[heap]+0x10+64", r(0x8010, 0x8050)},
		{"[heap]+0+1M", r(0x8000, 0x108000)},
		{"[stack]", r(0x7ffe0000, 0x7fff0000)},
		{"stack", r(0x7ffe0000, 0x7fff0000)},
		{"stack+0x10+64", r(0x7ffe0010, 0x7ffe0050)},
		{"0", r(0, 0x100)},
		{"0+16", r(0, 16)},
		{"0-0x20", r(0, 0x20)},
		{"[anon@3000]", r(0x3000, 0x4000)},
		{"[anon@3000]+0x10+64", r(0x3010, 0x3050)},
		{"[anon@12800]", r(0x12800, 0x13000)}, // it started there once
		{"[anon:glibc: malloc+arena]", r(0x34000, 0x35000)},
		{"[anon:glibc: malloc+arena]+0x10+64", r(0x34010, 0x34050)},
		{"[", r(0x36000, 0x37000)},
		{"[+1+2", r(0x36001, 0x36003)},

		{"libc.so.6", r(0x10000, 0x12000, 0x13000, 0x14000)},
		{"/usr/lib/libc.so.6", r(0x10000, 0x12000, 0x13000, 0x14000)},
		{"libc.so.6+0x10+64", r(0x10010, 0x10050)},
		{"libc.so.6+0x2000", r(0x12000, 0x12100)},
		{"/usr/lib/libc.so.6+1K+1", r(0x10400, 0x10401)},
		{"prog", r(0x1000, 0x3000)},
		{"libstdc++.so.6", r(0x20000, 0x21000)},
		{"libstdc++.so.6+0x10+64", r(0x20010, 0x20050)},
		{"a-b.so", r(0x22000, 0x23000)},
		{"a-b.so+1+1", r(0x22001, 0x22002)},
		{"foo", r(0x24000, 0x25000)},
		{"foo+0x10", r(0x26000, 0x27000)}, // the longest name
		{"foo+0x10+64", r(0x26040, 0x26140)},
		{"foo+0x11+64", r(0x24011, 0x24051)},
		{"/opt/one/same.so", r(0x28000, 0x29000)},
		{"old.so", r(0x2c000, 0x2d000)},
		{"old.so (deleted)", r(0x2c000, 0x2d000)},
		{"/opt/old.so", r(0x2c000, 0x2d000)},
		{"new.so", r(0x30000, 0x31000)}, // the one that has a name still
		{"new.so (deleted)", r(0x2e000, 0x2f000)},
		{"memfd:jit cache", r(0x32000, 0x33000)},
		{"/memfd:jit cache+1+1", r(0x32001, 0x32002)},
		{"/opt/12345678-12345678", r(0x38000, 0x39000)},
		{"deadbeef-lib.so", r(0x3a000, 0x3b000)},
		{`\x1b[31m.so+1+1`, r(0x3c001, 0x3c002)}, // as it is printed
		{"[vsyscall]+0+0x1000", r(0xffffffffff600000, 0xffffffffff601000)},
	} {
		got, err := resolve(c.in)
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%q (-want +got):\n%s", c.in, d)
		}
	}
}

func TestRangeErrors(t *testing.T) {
	for _, c := range []struct {
		in, want string
		is       error
	}{
		{"", `parse range "": at character 1: a range is missing`, ErrSyntax},
		{"0x", `parse range "0x": at character 1: "0x" is not an address: want hexadecimal digits after 0x`, ErrSyntax},
		{"0xA-", `parse range "0xA-": at character 5: an address is missing`, ErrSyntax},
		{"0xA+", `parse range "0xA+": at character 5: length: a number is missing`, ErrSyntax},
		{"0xA-zz", `parse range "0xA-zz": at character 5: "zz" is not an address: want hexadecimal digits after 0x`, ErrSyntax},
		{"0xA-B", `parse range "0xA-B": at character 5: "B" is not an address: want hexadecimal digits after 0x`, ErrSyntax},
		{"0xAg", `parse range "0xAg": at character 4: "g" follows the address: want -END, +LENGTH or nothing`, ErrSyntax},
		{"0xB-0xA", `parse range "0xB-0xA": at character 5: the end 0xa is below the start 0xb`, ErrSyntax},
		{"7f12b000-7f12a000", `parse range "7f12b000-7f12a000": at character 10: the end 0x7f12a000 is below the start 0x7f12b000`, ErrSyntax},
		{"0xA-0xA", `parse range "0xA-0xA": at character 5: the range is empty: it ends where it begins`, ErrSyntax},
		{"0xA+0", `parse range "0xA+0": at character 5: the range is empty: its length is 0`, ErrSyntax},
		{"0xA-0xB+1", `parse range "0xA-0xB+1": at character 8: "+1" follows the range`, ErrSyntax},
		{"0x1000-2000", `parse range "0x1000-2000": at character 8: "2000" is not an address: want hexadecimal digits after 0x`, ErrSyntax},
		{"0x10-0x20+8", `parse range "0x10-0x20+8": at character 10: "+8" follows the range`, ErrSyntax},
		{"0x1000 - 0x2000", `parse range "0x1000 - 0x2000": at character 7: " - 0x2000" follows the address: want -END, +LENGTH or nothing`, ErrSyntax},
		{"0x1000+4 KiB", `parse range "0x1000+4 KiB": at character 9: length: unknown unit " KiB": want K, M, G, T (1024), kB, MB, GB, TB (1000) or none`, ErrSyntax},
		{"  0x1000-0x1000 rw-p", `parse range "  0x1000-0x1000 rw-p": at character 10: the range is empty: it ends where it begins`, ErrSyntax},
		{"[anon@4000]", `resolve range "[anon@4000]": no such mapping: none is named [anon@4000]; memory without a name is called [anon@START], as procmem maps prints it`, ErrNoMapping},
		{"[anon@8000]+1", `resolve range "[anon@8000]+1": no such mapping: none is named [anon@8000]; memory without a name is called [anon@START], as procmem maps prints it`, ErrNoMapping},
		{"0xA+1+1", `parse range "0xA+1+1": at character 6: "+1" follows the length`, ErrSyntax},
		{"0x10+0xffffffffffffffff", `parse range "0x10+0xffffffffffffffff": at character 6: 0x10+0xffffffffffffffff: address out of range`, procmem.ErrOverflow},
		{"0x10000000000000000", `parse range "0x10000000000000000": at character 1: address out of range: 0x10000000000000000 has more than 64 bits`, procmem.ErrOverflow},
		{"0xffffffffffffffff", `parse range "0xffffffffffffffff": at character 1: address out of range`, procmem.ErrOverflow},
		{"+0x10", `parse range "+0x10": at character 1: nothing is in front of "+": want an address or a name`, ErrSyntax},
		{"[heap]x", `parse range "[heap]x": at character 7: "x" follows the name: want +OFFSET+LENGTH or nothing`, ErrSyntax},
		{"[heap]+", `parse range "[heap]+": at character 8: offset: a number is missing`, ErrSyntax},
		{"[heap]+1+2+3", `parse range "[heap]+1+2+3": at character 11: "+3" follows the length`, ErrSyntax},
		{"[heap]+1+0", `parse range "[heap]+1+0": at character 10: the range is empty: its length is 0`, ErrSyntax},
		{"[heap]+0xffffffffffffffff+2", `parse range "[heap]+0xffffffffffffffff+2": at character 27: 0xffffffffffffffff+0x2: address out of range`, ErrSyntax},

		{"[heap]+0xffffffffffffffff", `parse range "[heap]+0xffffffffffffffff": at character 8: offset: 0x8000+0xffffffffffffffff: address out of range`, procmem.ErrOverflow},
		{"[vsyscall]+0x9fffff", `parse range "[vsyscall]+0x9fffff": at character 12: the range is empty: its length is 0`, ErrSyntax},
		{"libc.so.6+1a0", `parse range "libc.so.6+1a0": at character 12: offset: "a" is not a decimal digit: a hexadecimal number is written 0x1a0`, ErrSyntax},
		{"libc.so.6+1+", `parse range "libc.so.6+1+": at character 13: length: a number is missing`, ErrSyntax},
		{"libc.so.6+1+2+3", `parse range "libc.so.6+1+2+3": at character 14: "+3" follows the length`, ErrSyntax},
		{"libc.so.6+1+0", `parse range "libc.so.6+1+0": at character 13: the range is empty: its length is 0`, ErrSyntax},

		{"heap", `resolve range "heap": no such mapping: none is named heap; there is [heap]`, ErrNoMapping},
		{"libc", `resolve range "libc": no such mapping: none is named libc; there is libc.so.6, "[anon:glibc: malloc+arena]"`, ErrNoMapping},
		{"libc-2.31.so+0x10+64", `resolve range "libc-2.31.so+0x10+64": no such mapping: none is named libc-2.31.so; there is libc.so.6, "[anon:glibc: malloc+arena]"`, ErrNoMapping},
		{"libc.so.6.1", `resolve range "libc.so.6.1": no such mapping: none is named libc.so.6.1; there is libc.so.6`, ErrNoMapping},
		{"/lib64/libc.so.6", `resolve range "/lib64/libc.so.6": no such mapping: none is named /lib64/libc.so.6; there is libc.so.6`, ErrNoMapping},
		{"31m", `resolve range "31m": no such mapping: none is named 31m; there is "\x1b[31m.so"`, ErrNoMapping},
		{"zzz", `resolve range "zzz": no such mapping: none is named zzz; there are prog, [heap], libc.so.6, libstdc++.so.6, a-b.so, foo, foo+0x10, same.so and 11 more`, ErrNoMapping},
		{"400000-401000", `resolve range "400000-401000": no such mapping: none is named 400000-401000; there are prog, [heap], libc.so.6, libstdc++.so.6, a-b.so, foo, foo+0x10, same.so and 11 more (an address is written 0x400000)`, ErrNoMapping},
		{"same.so+1+1", `resolve range "same.so+1+1": ambiguous name: same.so may be /opt/one/same.so or /opt/two/same.so; give the full path`, ErrAmbiguousName},
	} {
		got, err := resolve(c.in)
		if err == nil || err.Error() != c.want || !errors.Is(err, c.is) {
			t.Errorf("%q:\n got %v, %v\nwant %s", c.in, got, err, c.want)
		}
		if strings.HasPrefix(c.want, "parse") {
			checkSyntaxError(t, c.in, err)
		} else if errors.Is(err, ErrSyntax) {
			t.Errorf("%q: %v is a syntax error", c.in, err)
		}
	}
}

func TestResolveNothing(t *testing.T) {
	if rs, err := (Spec{}).Resolve(testMappings); err == nil {
		t.Errorf("the zero Spec resolves to %v", rs)
	}
	spec, err := ParseRange("libc.so.6")
	if err != nil {
		t.Fatal(err)
	}
	if spec.String() != "libc.so.6" {
		t.Errorf("String() = %q", spec)
	}
	_, err = spec.Resolve(nil)
	if want := `resolve range "libc.so.6": no such mapping: none is named libc.so.6; none has a name`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func FuzzParseRange(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string, start, size uint64, name string) {
		ms := testMappings
		if end := start + size; end > start {
			ms = append(ms[:len(ms):len(ms)], mapping(procmem.Addr(start), procmem.Addr(end), name))
		}
		spec, err := ParseRange(s)
		if err != nil {
			checkSyntaxError(t, s, err)
			if !cmp.Equal(spec, Spec{}, cmp.AllowUnexported(Spec{}, reading{})) {
				t.Errorf("%q: both %v and %v", s, spec, err)
			}
			return
		}
		if spec.String() != s {
			t.Errorf("%q: String() = %q", s, spec)
		}
		rs, err := spec.Resolve(ms)
		if err != nil {
			if len(rs) > 0 {
				t.Errorf("%q: both %v and %v", s, rs, err)
			}
			if errors.Is(err, ErrSyntax) {
				checkSyntaxError(t, s, err)
			} else if !errors.Is(err, ErrNoMapping) && !errors.Is(err, ErrAmbiguousName) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if len(rs) == 0 {
			t.Errorf("%q: neither a range nor an error", s)
		}
		for i, r := range rs {
			if r.Empty() || i > 0 && r.Start <= rs[i-1].End {
				t.Errorf("%q: %v", s, rs)
			}
		}
	})
}

// Symbols are found by name, the longest first, and take offsets and lengths.
func TestResolveSymbols(t *testing.T) {
	known := map[string]procmem.Range{
		"arena":   {Start: 0x2010, End: 0x2030},
		"label":   {Start: 0x3ff0, End: 0x3ff0},
		"op+0x10": {Start: 0x8000, End: 0x8008},
		"op":      {Start: 0x9000, End: 0x9008},
	}
	symbols := func(name string) (procmem.Range, error) {
		if name == "twice" {
			return procmem.Range{}, ErrAmbiguousName
		}
		if r, ok := known[name]; ok {
			return r, nil
		}
		return procmem.Range{}, ErrNoSymbol
	}
	for _, c := range []struct {
		text       string
		start, end procmem.Addr
		err        error
	}{
		{"sym:arena", 0x2010, 0x2030, nil},
		{"sym:arena+0x40", 0x2050, 0x2150, nil},
		{"sym:arena+8+16", 0x2018, 0x2028, nil},
		{"sym:label", 0x3ff0, 0x4000, nil}, // no size: to the end of what is mapped
		{"sym:label+0+64", 0x3ff0, 0x4030, nil},
		{"sym:op+0x10", 0x8000, 0x8008, nil},
		{"sym:op+0x10+4", 0x8004, 0x8104, nil}, // the longer name
		{"sym:op+0x10+4+2", 0x8004, 0x8006, nil},
		{"sym:nothing", 0, 0, ErrNoSymbol},
		{"sym:nothing+4", 0, 0, ErrNoSymbol},
		{"sym:", 0, 0, ErrNoSymbol},
		{"sym:twice", 0, 0, ErrAmbiguousName},
		{"sym:twice+4", 0, 0, ErrAmbiguousName},
		{"sym:arena+0+0", 0, 0, ErrSyntax},
		{"sym:arena+0xffffffffffffffff+8", 0, 0, ErrSyntax},
	} {
		spec, err := ParseRange(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		got, err := spec.ResolveWith(testMappings, symbols)
		if !errors.Is(err, c.err) || err == nil && (len(got) != 1 || got[0] != procmem.Range{Start: c.start, End: c.end}) {
			t.Errorf("%s: %v, %v; want %v-%v, %v", c.text, got, err, c.start, c.end, c.err)
		}
		if _, err := spec.Resolve(testMappings); !errors.Is(err, ErrNoSymbol) {
			t.Errorf("%s without symbols: %v", c.text, err)
		}
	}
}

func TestDefaultTo(t *testing.T) {
	symbols := func(string) (procmem.Range, error) { return procmem.Range{Start: 0x2010, End: 0x2010}, nil }
	for text, want := range map[string]procmem.Range{
		"0x1000":             {Start: 0x1000, End: 0x1040},
		"0x1000+8":           {Start: 0x1000, End: 0x1008},
		"0xffffffffffffffff": {},
		"0xfffffffffffffff0": {Start: 0xfffffffffffffff0, End: 0xffffffffffffffff},
		"[heap]+16":          {Start: 0x8010, End: 0x8050},
		"[heap]+16+4":        {Start: 0x8010, End: 0x8014},
		"[heap]":             {Start: 0x8000, End: 0x9000},
		"sym:label":          {Start: 0x2010, End: 0x2050},
	} {
		spec, err := ParseRange(text)
		if err != nil {
			if !want.Empty() {
				t.Errorf("%s: %v", text, err)
			}
			continue
		}
		got, err := spec.DefaultTo(64).ResolveWith(testMappings, symbols)
		if err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("%s: %v, %v; want %v", text, got, err, want)
		}
		// The range itself has not changed.
		if again, err := spec.ResolveWith(testMappings, symbols); err == nil && strings.HasSuffix(text, "+16") && again[0].Size() != DefaultLength {
			t.Errorf("%s: %v after DefaultTo", text, again)
		}
	}
}
