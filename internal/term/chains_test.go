package term

import (
	"bytes"
	"testing"

	"github.com/procmem/procmem"
)

func chains(t *testing.T, wordSize int, color bool, ps ...piece) string {
	t.Helper()
	var b bytes.Buffer
	c := NewChains(&b, wordSize, color, func(at procmem.Addr, v uint64) []Part {
		switch v {
		case 0x1111:
			return []Part{{KindHeap, "[heap]+0x1"}, {KindCode, "0x2222 prog\x1b+0x2"}, {KindString, `"text"`}}
		case 0x10:
			return []Part{{KindNumber, at.String() + " (loop)"}}
		}
		return []Part{{}}
	})
	dump(t, c, ps)
	return b.String()
}

func TestChains(t *testing.T) {
	for _, c := range []struct {
		name  string
		word  int
		color bool
		in    []piece
		want  string
	}{
		{"words", 8, false, []piece{{0x10, "\x11\x11\x00\x00\x00\x00\x00\x00\x10\x00\x00"}, {0x1b, "\x00\x00\x00\x00\x00"}}, `
0000000000000010  0x0000000000001111  [heap]+0x1 -> 0x2222 prog\x1b+0x2 -> "text"
0000000000000018  0x0000000000000010  0x18 (loop)
0000000000000020
`},
		{"32 bits", 4, false, []piece{{0x13, "\x11\x11\x00\x00\x05\x00\x00\x00"}}, `
0000000000000013  0x00001111  [heap]+0x1 -> 0x2222 prog\x1b+0x2 -> "text"
0000000000000017  0x00000005
000000000000001b
`},
		{"squeezed, and a jump", 4, false, []piece{{0x10, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}, {0x40, "\x00\x00\x00\x00\x01\x02"}}, `
0000000000000010  0x00000000
*
000000000000001c  -- 36 B not shown --
0000000000000040  0x00000000
0000000000000044  01 02  (2 of the 4 bytes of a word)
0000000000000046
`},
		{"nothing", 8, false, nil, "\n"},
		{"colour", 4, true, []piece{{0x10, "\x11\x11\x00\x00\x00\x00\x00\x00"}}, `
0000000000000010  ` + "\x1b[36m0x00001111\x1b[0m  \x1b[36m[heap]+0x1\x1b[0m -> \x1b[31m0x2222 prog\\x1b+0x2\x1b[0m -> \x1b[32m\"text\"\x1b[0m" + `
0000000000000014  ` + "\x1b[90m0x00000000\x1b[0m" + `
0000000000000018
`},
	} {
		t.Setenv("LC_ALL", "C")
		if got := "\n" + chains(t, c.word, c.color, c.in...); got != c.want {
			t.Errorf("%s:\n%q\nwant\n%q", c.name, got, c.want)
		}
	}
	t.Setenv("LC_ALL", "C.UTF-8")
	if got := chains(t, 4, true, piece{0x10, "\x11\x11\x00\x00"}); !bytes.Contains([]byte(got), []byte(" → ")) {
		t.Errorf("%q", got)
	}
}
