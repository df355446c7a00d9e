package term

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/procmem/procmem"
)

func values(t *testing.T, format string, wordSize int, color bool, columns int, ps ...piece) string {
	t.Helper()
	f, err := ParseFormat(format)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	note := func(a procmem.Addr) string {
		if a >= 0x1000 && a < 0x2000 {
			return fmt.Sprintf("lib\x1b.so+%#x", uint64(a-0x1000))
		}
		return ""
	}
	dump(t, newValues(&b, f, wordSize, color, note, columns), ps)
	return b.String()
}

func TestParseFormat(t *testing.T) {
	for _, s := range Formats() {
		if f, err := ParseFormat(s); err != nil || f.String() != s {
			t.Errorf("ParseFormat(%q) = %v, %v", s, f, err)
		}
	}
	_, err := ParseFormat("U8")
	if want := `unknown format "U8": want one of u8, u16, u32, u64, i8, i16, i32, i64, f32, f64, ptr, str`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if got := Format(0).String(); got != "Format(0)" {
		t.Errorf("zero Format: %q", got)
	}
}

func TestValues(t *testing.T) {
	bits := "\xff\x00\x80\x7f\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x80"
	for _, c := range []struct {
		format  string
		columns int
		in      []piece
		want    string
	}{
		{"u8", 0, []piece{{0x10, bits}}, `
0000000000000010  255   0 128 127 255 255 255 255 255 255 255 255   0   0   0 128
0000000000000020
`},
		{"i8", 0, []piece{{0x10, bits}}, `
0000000000000010    -1    0 -128  127   -1   -1   -1   -1   -1   -1   -1   -1    0    0    0 -128
0000000000000020
`},
		{"u16", 0, []piece{{0x10, bits}}, `
0000000000000010    255 32640 65535 65535 65535 65535     0 32768
0000000000000020
`},
		{"i16", 80, []piece{{0x10, bits}}, `
000000000010     255  32640     -1     -1     -1     -1      0 -32768
000000000020
`},
		{"u32", 0, []piece{{0x10, bits}}, `
0000000000000010  2139095295 4294967295 4294967295 2147483648
0000000000000020
`},
		{"i32", 0, []piece{{0x11, bits}}, `
0000000000000011   2139095295          -1          -1 -2147483648
0000000000000021
`},
		{"u64", 0, []piece{{0x10, bits}}, `
0000000000000010  18446744071553679615  9223372041149743103
0000000000000020
`},
		{"i64", 0, []piece{{0x10, bits}}, `
0000000000000010           -2155872001 -9223372032559808513
0000000000000020
`},
		{"i64", 30, []piece{{0x10, bits}}, `
000000000010           -2155872001
000000000018  -9223372032559808513
000000000020
`},
		{"f32", 0, []piece{{0x10, "\x00\x00\x80\x3f\x00\x00\xc0\x7f\x00\x00\x80\xff\x01\x00\x00\x00"}}, `
0000000000000010               1            NaN           -Inf          1e-45
0000000000000020
`},
		{"f64", 0, []piece{{0x10, "\x18\x2d\x44\x54\xfb\x21\x09\x40\x9a\x99\x99\x99\x99\x99\xb9\xbf"}}, `
0000000000000010         3.141592653589793                     -0.1
0000000000000020
`},
		{"u32", 0, []piece{{0x10, strings.Repeat("\x01\x00\x00\x00", 12)}, {0x40, "\x02\x00\x00"}, {0x43, "\x00\xff"}, {0x100, "\x03"}}, `
0000000000000010           1          1          1          1
*
0000000000000040           2
0000000000000044  ff  (1 of the 4 bytes of u32)
0000000000000045  -- 187 B not shown --
0000000000000100  03  (1 of the 4 bytes of u32)
0000000000000101
`},
	} {
		golden(t, c.format, values(t, c.format, 8, false, c.columns, c.in...), c.want)
	}
}

func TestValuesPointer(t *testing.T) {
	in := "\x10\x10\x00\x00\x00\x00\x00\x00" + strings.Repeat("\x00", 24) + "\x00\x00\xfe\x7f\x00\x00\x00\x00\x01"
	golden(t, "64 bits", values(t, "ptr", 8, false, 0, piece{0x7ffd00000000, in}), `
00007ffd00000000  0x0000000000001010  lib\x1b.so+0x10
00007ffd00000008  0x0000000000000000
*
00007ffd00000020  0x000000007ffe0000
00007ffd00000028  01  (1 of the 8 bytes of ptr)
00007ffd00000029
`)
	golden(t, "32 bits", values(t, "ptr", 4, false, 0, piece{0x8000, in[:12]}), `
0000000000008000  0x00001010  lib\x1b.so+0x10
0000000000008004  0x00000000
*
000000000000800c
`)
	golden(t, "colours", values(t, "ptr", 4, true, 0, piece{0x8000, in[:8]}),
		"0000000000008000  \x1b[36m0x00001010\x1b[0m  lib\\x1b.so+0x10\n"+
			"0000000000008004  \x1b[90m0x00000000\x1b[0m\n"+
			"0000000000008008\n")
}

func TestValuesString(t *testing.T) {
	long := strings.Repeat("a", maxString-1)
	for _, c := range []struct {
		in   []piece
		want string
	}{
		{nil, ""},
		{[]piece{{0x1000, "hello\x00wörld\x00\x1b[2J\n\xff\"\x00"}}, `
0000000000001000  "hello"
0000000000001006  "wörld"
000000000000100d  "\x1b[2J\n\xff\""
0000000000001015
`},
		{[]piece{{0x1000, "he"}, {0x1002, "llo"}, {0x1005, "\x00w"}, {0x1007, ""}, {0x1007, "\xc3"}, {0x1008, "\xb6\x00"}}, `
0000000000001000  "hello"
0000000000001006  "wö"
000000000000100a
`},
		{[]piece{{0x1000, "a\x00\x00\x00"}, {0x1004, "\x00\x00b\x00\x00c\x00\x00"}}, `
0000000000001000  "a"
0000000000001002  ""  (4 times)
0000000000001006  "b"
0000000000001008  ""
0000000000001009  "c"
000000000000100b  ""
000000000000100c
`},
		{[]piece{{0x1000, "\x00\x00abc"}, {0x2000, "\x00def"}}, `
0000000000001000  ""  (2 times)
0000000000001002  "abc"  (no NUL at the end)
0000000000001005  -- 4.0 KiB not shown --
0000000000002000  ""
0000000000002001  "def"  (no NUL at the end)
0000000000002004
`},
		// What is too long is cut, and not within a character.
		{[]piece{{0x1000, long + "ä" + "b\x00c\x00"}}, `
0000000000001000  "` + long + `"...
0000000000001fff  ..."äb"
0000000000002003  "c"
0000000000002005
`},
		{[]piece{{0x1000, long + "b\x00"}}, `
0000000000001000  "` + long + `b"
0000000000002001
`},
		{[]piece{{0x1000, long + "bc"}, {0x3000, "d\x00"}}, `
0000000000001000  "` + long + `b"...
0000000000002000  ..."c"  (no NUL at the end)
0000000000002001  -- 4.0 KiB not shown --
0000000000003000  "d"
0000000000003002
`},
	} {
		golden(t, "str", values(t, "str", 8, false, 0, c.in...), c.want)
	}
}
