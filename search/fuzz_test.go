package search

import (
	"bytes"
	"slices"
	"testing"
)

func FuzzParseHex(f *testing.F) {
	for _, s := range []string{"de ad ?? ef", "d? ?f", "deadbeef", "", "?", "?? ??", "0x41", "a b", "é?", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParseHex(s)
		if (err == nil) == (len(p.value) == 0) || len(p.value) != len(p.mask) {
			t.Fatalf("%q: %x %x, %v", s, p.value, p.mask, err)
		}
		for i, v := range p.value {
			if v&^p.mask[i] != 0 {
				t.Fatalf("%q: %x %x can never match", s, p.value, p.mask)
			}
		}
		if err == nil && !p.at(p.value, 0) {
			t.Fatalf("%q does not match %x", s, p.value)
		}
	})
}

func FuzzParseValue(f *testing.F) {
	for _, s := range []string{"42", "0x2a", "-3", "10..20", "-3..5", "3.14", "1e9..2e9", "inf", "nan", "..", "1...5", "0x1p-2", "1e999999999999"} {
		for _, t := range []Type{U8, I64, F32, F64, Ptr} {
			f.Add(uint8(t), s, 0, 0.0, false)
		}
	}
	f.Fuzz(func(t *testing.T, typ uint8, s string, align int, tolerance float64, big bool) {
		kind := Type(typ % uint8(len(typeNames)))
		p, err := ParseValue(kind, s, ValueOptions{Align: align, BigEndian: big, Tolerance: tolerance})
		if (err == nil) == (p.number == nil) {
			t.Fatalf("%q: %v, %v", s, p.number, err)
		}
		if err != nil {
			return
		}
		if n := p.number; n.size != kind.Size(8) || len(n.spans) == 0 || len(n.spans) > 2 {
			t.Fatalf("%q: %+v", s, n)
		}
		for _, x := range p.number.spans {
			first := &number{size: p.number.size, bigEndian: big, spans: []valueRange{{x.first, 0}}}
			last := &number{size: p.number.size, bigEndian: big, spans: []valueRange{{(x.first + x.more) & first.keep(), 0}}}
			for _, b := range [][]byte{must(first.bytes()), must(last.bytes())} {
				if x.first&^first.keep() != 0 || x.more&^first.keep() != 0 || !p.at(b, 0) || !p.Holds(b) {
					t.Fatalf("%q: %x is not in %+v", s, b, p.number)
				}
			}
		}
	})
}

// However memory is cut into blocks, the same is found.
func FuzzSeams(f *testing.F) {
	f.Add([]byte("abcabcab\x00cab"), "abc", "ca", "a[bc]+", uint16(4090), byte(3), byte(0))
	f.Add([]byte("aaaa"), "aa", "??61", "a+", uint16(8190), byte(1), byte(2))
	f.Add([]byte{0, 1, 0, 0}, "\x00\x01", "00 0?", `\bab\b|c`, uint16(1), byte(7), byte(5))
	f.Fuzz(func(t *testing.T, fill []byte, text, hex, expr string, at uint16, repeat, lost byte) {
		b := make([]byte, 6*page)
		for i := int(at); len(fill) > 0 && repeat > 0 && i < len(b); repeat-- {
			i += copy(b[i:], fill)
		}
		for i := len(b) / 2; len(fill) > 0 && i < len(b); {
			i += copy(b[i:], fill)
		}
		m := solid(page, b)
		if int(lost) < len(m.pages) {
			m.pages[lost] = nil
		}
		var patterns []Pattern
		for _, p := range []func() (Pattern, error){
			func() (Pattern, error) { return Literal([]byte(text), lost%2 == 0) },
			func() (Pattern, error) { return ParseHex(hex) },
			func() (Pattern, error) { return ParseRegexp(expr, false) },
			func() (Pattern, error) { return ParseValue(U16, "1..300", ValueOptions{Align: 1}) },
		} {
			if x, err := p(); err == nil {
				patterns = append(patterns, x)
			}
		}
		look := func(s *Searcher, size int) (all []found) {
			s.blockSize = size
			for x, err := range s.Matches(t.Context(), m) {
				if err != nil {
					t.Fatal(err)
				}
				first := m.pages[(x.Start-m.base)/page][(x.Start-m.base)%page:]
				if n := min(len(first), len(x.Bytes)); !bytes.Equal(x.Bytes[:n], first[:n]) {
					t.Fatalf("%v: not what is there", x.Range)
				}
				all = append(all, found{x.Range, x.Pattern})
			}
			return all
		}
		for _, s := range []*Searcher{must(New(patterns, Options{})), must(NewStrings(StringsOptions{Min: 1 + int(at%9)}, Options{}))} {
			whole, cut := look(s, len(b)), look(s, page)
			if !slices.Equal(whole, cut) {
				t.Fatalf("in one block %v; in pages %v", whole, cut)
			}
		}
	})
}
