package term

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/procmem/procmem"
)

type piece struct {
	addr procmem.Addr
	p    string
}

type dumper interface {
	Write(addr procmem.Addr, p []byte) error
	Close() error
}

func dump(t *testing.T, d dumper, ps []piece) {
	t.Helper()
	for _, p := range ps {
		if err := d.Write(p.addr, []byte(p.p)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func hexdump(t *testing.T, color, unicode bool, columns int, ps ...piece) string {
	t.Helper()
	var b bytes.Buffer
	dump(t, newHexdump(&b, color, unicode, columns), ps)
	return b.String()
}

func TestHexdump(t *testing.T) {
	zeros := strings.Repeat("\x00", 64)
	for _, c := range []struct {
		name  string
		in    []piece
		plain string
	}{
		{"nothing", nil, ""},
		{"an empty piece", []piece{{0x1000, ""}}, ""},
		{"one byte", []piece{{0x7f12a0001007, "A"}}, `
00007f12a0001000                       41                           |       A        |
00007f12a0001008
`},
		{"kinds of bytes", []piece{{0x1000, "\x00a \n\x01\x7f\x80\xff~!"}}, `
0000000000001000  00 61 20 0a 01 7f 80 ff  7e 21                    |.a .....~!      |
000000000000100a
`},
		{"pieces of a row", []piece{{0x1002, "ab"}, {0x1004, "cdefghijkl"}, {0x100e, "mnop"}}, `
0000000000001000        61 62 63 64 65 66  67 68 69 6a 6b 6c 6d 6e  |  abcdefghijklmn|
0000000000001010  6f 70                                             |op              |
0000000000001012
`},
		{"repeats", []piece{{0x1000, zeros}, {0x1040, "\x00\x00"}, {0x1042, zeros[:14] + "x"}}, `
0000000000001000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
*
0000000000001050  78                                                |x               |
0000000000001051
`},
		{"a part of a row is no repeat", []piece{{0x1000, zeros[:40]}}, `
0000000000001000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
*
0000000000001020  00 00 00 00 00 00 00 00                           |........        |
0000000000001028
`},
		{"a jump", []piece{{0x1000, zeros[:32]}, {0x2000, zeros[:16]}, {0x2010, zeros[:16]}}, `
0000000000001000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
*
0000000000001020  -- 4.0 KiB not shown --
0000000000002000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
*
0000000000002020
`},
		{"a jump in a row, and back", []piece{{0x1000, "ab"}, {0x1005, "cd"}, {0x1000, "ef"}}, `
0000000000001000  61 62                                             |ab              |
0000000000001002  -- 3 B not shown --
0000000000001000                 63 64                              |     cd         |
0000000000001007  -- back to lower addresses --
0000000000001000  65 66                                             |ef              |
0000000000001002
`},
		{"the top of the address space", []piece{{0xfffffffffffffff0, "0123456789abcde"}}, `
fffffffffffffff0  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65     |0123456789abcde |
ffffffffffffffff
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			golden(t, "plain", hexdump(t, false, false, 0, c.in...), c.plain)
		})
	}
}

func TestHexdumpLayouts(t *testing.T) {
	in := []piece{
		{0x7f12a0000002, "\x7fELF\x02\x00 \n\xfe\xff" + strings.Repeat("\x00", 36) + "x"},
		{0x7f12a0001000, "y"},
	}
	golden(t, "box", hexdump(t, false, true, 90, in...), `
┌──────────────────┬─────────────────────────┬─────────────────────────┬────────┬────────┐
│ 00007f12a0000000 │       7f 45 4c 46 02 00 ┊ 20 0a fe ff 00 00 00 00 │  •ELF•⋄┊ _××⋄⋄⋄⋄│
│ 00007f12a0000010 │ 00 00 00 00 00 00 00 00 ┊ 00 00 00 00 00 00 00 00 │⋄⋄⋄⋄⋄⋄⋄⋄┊⋄⋄⋄⋄⋄⋄⋄⋄│
│ *                │                         ┊                         │        ┊        │
│ 00007f12a0000030 │ 78                      ┊                         │x       ┊        │
│ 00007f12a0000031 │ -- 4.0 KiB not shown --                           │        ┊        │
│ 00007f12a0001000 │ 79                      ┊                         │y       ┊        │
│ 00007f12a0001001 │                         ┊                         │        ┊        │
└──────────────────┴─────────────────────────┴─────────────────────────┴────────┴────────┘
`)
	golden(t, "narrow box", hexdump(t, false, true, 80, in...), `
7f12a0000000       7f 45 4c 46 02 00  20 0a fe ff 00 00 00 00 │  •ELF•⋄ _××⋄⋄⋄⋄│
7f12a0000010 00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00 │⋄⋄⋄⋄⋄⋄⋄⋄⋄⋄⋄⋄⋄⋄⋄⋄│
*
7f12a0000030 78                                               │x               │
7f12a0000031 -- 4.0 KiB not shown --
7f12a0001000 79                                               │y               │
7f12a0001001
`)
	golden(t, "narrow", hexdump(t, false, false, 80, in...), `
7f12a0000000       7f 45 4c 46 02 00  20 0a fe ff 00 00 00 00 |  .ELF.. .......|
7f12a0000010 00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00 |................|
*
7f12a0000030 78                                               |x               |
7f12a0000031 -- 4.0 KiB not shown --
7f12a0001000 79                                               |y               |
7f12a0001001
`)
	for _, l := range []hexLayout{boxLayout, barLayout, tinyBox, tinyBar} {
		out := hexdump(t, false, l.unicode, l.columns(), piece{0x7f12a0000000, strings.Repeat("a", 16)})
		for s := range strings.Lines(out) {
			if n := utf8.RuneCountInString(s) - 1; n > l.columns() {
				t.Errorf("%d columns instead of %d: %s", n, l.columns(), s)
			}
		}
	}
}

func TestHexdumpColor(t *testing.T) {
	golden(t, "colours", hexdump(t, true, false, 0, piece{0x1000, "\x00\x00ab\n\x01\x80\xff"}),
		"0000000000001000\x1b[90m  00 00 \x1b[36m61 62 \x1b[32m0a \x1b[35m01 \x1b[33m80 \x1b[31mff"+
			"\x1b[90m                           |..\x1b[36mab\x1b[32m.\x1b[35m.\x1b[33m.\x1b[31m.        \x1b[90m|\x1b[0m\n"+
			"0000000000001008\x1b[90m  \x1b[0m\n")
}

func TestHexdumpOverflow(t *testing.T) {
	h := NewHexdump(io.Discard, false)
	if err := h.Write(0xffffffffffffffff, []byte("ab")); !errors.Is(err, procmem.ErrOverflow) {
		t.Errorf("Write past the end: %v", err)
	}
}

// However memory is cut into pieces, the dump is the same.
func TestPieces(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 3000)
	for i := range data {
		// Repeats, text and strings of all lengths.
		if i/500%2 == 0 {
			data[i] = byte("\x00\x01az"[rng.IntN(4)])
		}
	}
	const base = 0x1003
	all := append([]string{"hexdump"}, Formats()...)
	for _, name := range all {
		open := func(w io.Writer) dumper {
			if name == "hexdump" {
				return newHexdump(w, true, true, 0)
			}
			f, err := ParseFormat(name)
			if err != nil {
				t.Fatal(err)
			}
			return newValues(w, f, 8, true, nil, 0)
		}
		var whole, cut bytes.Buffer
		dump(t, open(&whole), []piece{{base, string(data)}})
		var ps []piece
		for i := 0; i < len(data); {
			n := min(rng.IntN(40), len(data)-i)
			ps = append(ps, piece{base + procmem.Addr(i), string(data[i : i+n])})
			i += n
		}
		dump(t, open(&cut), ps)
		if whole.String() != cut.String() {
			t.Errorf("%s depends on how memory is cut", name)
		}
	}
}

func BenchmarkHexdump(b *testing.B) {
	data := make([]byte, 1<<20)
	rng := rand.New(rand.NewPCG(1, 2))
	for _, kind := range []string{"zero", "random"} {
		if kind == "random" {
			for i := range data {
				data[i] = byte(rng.Uint32())
			}
		}
		for _, color := range []bool{false, true} {
			b.Run(kind+map[bool]string{true: "/color", false: "/plain"}[color], func(b *testing.B) {
				h := newHexdump(io.Discard, color, color, 0)
				b.SetBytes(int64(len(data)))
				b.ReportAllocs()
				addr := procmem.Addr(0)
				for b.Loop() {
					if err := h.Write(addr, data); err != nil {
						b.Fatal(err)
					}
					addr += procmem.Addr(len(data))
				}
			})
		}
	}
}
