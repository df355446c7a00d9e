package debugfile

import (
	"bytes"
	"encoding/binary"
	"os/exec"
	"strings"
	"testing"

	"github.com/procmem/procmem/internal/elffile"
)

// file makes an ELF file with one section.
func file(name string, b []byte) *elffile.File {
	le := binary.LittleEndian
	names := "\x00" + name + "\x00"
	out := make([]byte, 64, 64+len(b)+len(names)+3*64)
	copy(out, "\x7fELF\x02\x01\x01")
	out = append(append(out, b...), names...)
	le.PutUint64(out[40:], uint64(len(out)))
	le.PutUint16(out[58:], 64)
	le.PutUint16(out[60:], 3)
	le.PutUint16(out[62:], 2)
	headers := make([]byte, 3*64)
	header := func(i int, name, typ uint32, off, size int) {
		h := headers[64*i:]
		le.PutUint32(h, name)
		le.PutUint32(h[4:], typ)
		le.PutUint64(h[24:], uint64(off))
		le.PutUint64(h[32:], uint64(size))
	}
	header(1, 1, 1, 64, len(b))
	header(2, 0, 3, 64+len(b), len(names))
	out = append(out, headers...)
	f, err := elffile.Open(bytes.NewReader(out), int64(len(out)))
	if err != nil {
		panic(err)
	}
	return f
}

// What a program says of its debug file leads to no folder of its choice.
func TestLink(t *testing.T) {
	link := func(name string) []byte {
		b := append([]byte(name), 0)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
		return append(b, 1, 2, 3, 4)
	}
	for name, want := range map[string]string{"a.debug": "a.debug", "abc": "abc", "../../etc/shadow": "", "/etc/shadow": "", "..": "", ".": "", "": ""} {
		w := Of(file(".gnu_debuglink", link(name)))
		if w.Link != want || want != "" && w.CRC != 0x04030201 {
			t.Errorf("%q: %+v", name, w)
		}
	}
	if w := Of(file(".gnu_debuglink", []byte("short\x00"))); w.Link != "" {
		t.Errorf("%+v", w)
	}
	got := Wanted{Link: "a.debug"}.ByLink("/usr/bin/a")
	if want := "/usr/bin/a.debug /usr/bin/.debug/a.debug /usr/lib/debug/usr/bin/a.debug"; strings.Join(got, " ") != want {
		t.Error(got)
	}
	if got := (Wanted{Link: "a"}).ByLink("/usr/bin/a"); len(got) != 2 {
		t.Errorf("the program is its own debug file: %v", got)
	}
	if got := (Wanted{BuildID: []byte{1, 2, 3}}).ByBuildID(); got != "/usr/lib/debug/.build-id/01/0203.debug" {
		t.Error(got)
	}
}

// packed is what xz(1) makes of b.
func packed(t testing.TB, b []byte, args ...string) []byte {
	cmd := exec.Command("xz", append(args, "--stdout")...)
	cmd.Stdin = bytes.NewReader(b)
	out, err := cmd.Output()
	if err != nil {
		t.Skip(err)
	}
	return out
}

// A few bytes that become many, or want much memory, are refused.
func TestDebugdataIsBounded(t *testing.T) {
	if b, err := Debugdata(file(".gnu_debugdata", packed(t, []byte("names")))); err != nil || string(b) != "names" {
		t.Errorf("%q, %v", b, err)
	}
	if b, err := Debugdata(file(".other", nil)); b != nil || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if b, err := Debugdata(file(".gnu_debugdata", packed(t, make([]byte, maxUnpacked+1)))); err == nil || b != nil {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if b, err := Debugdata(file(".gnu_debugdata", packed(t, []byte("names"), "--lzma2=dict=64MiB"))); err == nil {
		t.Errorf("a dictionary of 64 MiB gives %q", b)
	}
}

func FuzzDebugdata(f *testing.F) {
	f.Add(packed(f, bytes.Repeat([]byte("names of functions"), 100)))
	f.Add(packed(f, []byte("x86"), "--x86", "--lzma2=dict=1MiB"))
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := Debugdata(file(".gnu_debugdata", b))
		if err != nil && out != nil || len(out) > maxUnpacked {
			t.Errorf("%d bytes, %v", len(out), err)
		}
		Of(file(".gnu_debuglink", b))
		Alt(file(".gnu_debugaltlink", b))
	})
}
