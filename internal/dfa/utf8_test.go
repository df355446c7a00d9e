package dfa

import (
	"testing"
	"unicode"
	"unicode/utf8"
)

// TestRunes takes runes through classes of all kinds: all of the first ones, and
// then some, with the first and last of each block of 256.
func TestRunes(t *testing.T) {
	for _, x := range []struct {
		expr string
		in   func(r rune) bool
	}{
		{`\pL`, unicode.IsLetter},
		{`\p{Greek}`, func(r rune) bool { return unicode.Is(unicode.Greek, r) }},
		{`[^é]`, func(r rune) bool { return r != 'é' }},
		{`[\x{7f0}-\x{811}\x{fff0}-\x{10011}]`, func(r rune) bool { return r >= 0x7f0 && r <= 0x811 || r >= 0xfff0 && r <= 0x10011 }},
		{`[\x{d000}-\x{e001}]`, func(r rune) bool { return r >= 0xd000 && r <= 0xe001 }},
	} {
		m := mustCompile(t, x.expr).Clone()
		var b []byte
		for r := rune(0); r <= utf8.MaxRune; r++ {
			if !utf8.ValidRune(r) || r > 0x3200 && (r+1)&0xff > 1 && r%61 != 0 {
				continue
			}
			b = utf8.AppendRune(b[:0], r)
			start, end, ok := m.Find(b, 0)
			if ok != x.in(r) || ok && (start != 0 || end != len(b)) {
				t.Fatalf("%s on %U: %v, %d to %d", x.expr, r, ok, start, end)
			}
		}
	}
}

// TestSmall holds how large programs of Unicode classes are, since
// repetitions multiply them.
func TestSmall(t *testing.T) {
	re := mustCompile(t, `\pL`)
	if n := max(len(re.forward.insts), len(re.backward.insts)); n > 1200 {
		t.Errorf("%d and %d instructions", len(re.forward.insts), len(re.backward.insts))
	}
}
