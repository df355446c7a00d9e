package perfmap

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestLookup(t *testing.T) {
	m := Read(strings.NewReader("7f00 100 first\n7f10 10 inside, later\n0x8000 0x10 Lorg/Foo;::bar\n9000 0 empty\n9000 zz bad\nffffffffffffffff 10 wraps\n7f80 8 gone\n7f80 10 stays\nno end 7"))
	for a, want := range map[uint64]string{0x7eff: "", 0x7f00: "first+0", 0x7f10: "inside, later+0", 0x7f1f: "inside, later+15", 0x7f20: "first+32",
		0x7f84: "stays+4", 0x7f90: "first+144", 0x7fff: "first+255", 0x8000: "Lorg/Foo;::bar+0", 0x8010: "", 0x9000: "", 1<<64 - 1: ""} {
		got := ""
		if name, off, ok := m.Lookup(a); ok {
			got = fmt.Sprintf("%s+%d", name, off)
		}
		if got != want {
			t.Errorf("%#x is %q, want %q", a, got, want)
		}
	}
}

// Whatever a process writes, a lookup has bounds, and is of a line of the file.
func FuzzMap(f *testing.F) {
	f.Add([]byte("7f00 100 first\n7f10 10 second\n"), uint64(0x7f12))
	f.Add([]byte("0 ffffffffffffffff all\n1 1 x\n"), uint64(1))
	f.Fuzz(func(t *testing.T, b []byte, a uint64) {
		m := Read(bytes.NewReader(b))
		if name, off, ok := m.Lookup(a); ok && (off > a || len(name) > maxName || !bytes.Contains(b, []byte(name))) {
			t.Errorf("%q+%d", name, off)
		}
	})
}

// endless is a file that goes on for ever, with lines that all claim one address.
type endless struct{ n int }

func (e *endless) Read(p []byte) (int, error) {
	n := 0
	for n+32 < len(p) {
		e.n++
		n += copy(p[n:], fmt.Sprintf("10 ffff%04x f\n", e.n%0x10000))
	}
	return n, nil
}

func TestEndless(t *testing.T) {
	m := Read(&endless{})
	if len(m.entries) > maxEntries {
		t.Errorf("%d entries", len(m.entries))
	}
	if name, _, ok := m.Lookup(0x11); !ok || name != "f" {
		t.Error(name)
	}
	long := Read(strings.NewReader("10 10 " + strings.Repeat("x", 1<<19) + "\n30 10 next\n"))
	if name, _, ok := long.Lookup(0x10); !ok || len(name) != maxName {
		t.Errorf("%d bytes", len(name))
	}
	if _, _, ok := long.Lookup(0x30); !ok {
		t.Error("what is behind a long name is lost")
	}
}
