package lines

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/procmem/procmem/internal/elffile"
)

// sections makes an ELF file of 64 bits that has these sections.
func sections(parts map[string][]byte) []byte {
	names, body := []byte{0}, make([]byte, 64)
	headers := make([]byte, 64)
	le := binary.LittleEndian
	add := func(name string, typ uint32, b []byte) {
		h := make([]byte, 64)
		le.PutUint32(h, uint32(len(names)))
		le.PutUint32(h[4:], typ)
		le.PutUint64(h[24:], uint64(len(body)))
		le.PutUint64(h[32:], uint64(len(b)))
		headers, body, names = append(headers, h...), append(body, b...), append(append(names, name...), 0)
	}
	for name, b := range parts {
		add(name, 1, b)
	}
	add(".shstrtab", 3, nil)
	le.PutUint64(headers[len(headers)-64+32:], uint64(len(names)))
	body = append(body, names...)
	copy(body, "\x7fELF\x02\x01\x01")
	le.PutUint64(body[40:], uint64(len(body)))
	le.PutUint16(body[58:], 64)
	le.PutUint16(body[60:], uint16(len(headers)/64))
	le.PutUint16(body[62:], uint16(len(headers)/64-1))
	return append(body, headers...)
}

// partsOf compiles a small program, and returns its sections by name.
func partsOf(f *testing.F, args ...string) map[string][]byte {
	f.Helper()
	dir := f.TempDir()
	source, object := filepath.Join(dir, "a.c"), filepath.Join(dir, "a.o")
	text := "static inline __attribute__((always_inline)) int g(int x) { return x * 3; }\nint f(int x) {\n\treturn g(x) + 1;\n}\nint h(int x) { return f(g(x)); }\n"
	if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
		f.Fatal(err)
	}
	cmd := exec.Command("gcc", append(args, "-O1", "-shared", "-nostdlib", "-o", object, source)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		f.Skipf("%v: %v\n%s", cmd.Args, err, out)
	}
	b, err := os.ReadFile(object)
	if err != nil {
		f.Fatal(err)
	}
	e, err := elffile.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		f.Fatal(err)
	}
	found, err := e.Named(fuzzed...)
	if err != nil {
		f.Fatal(err)
	}
	parts := map[string][]byte{}
	for name, s := range found {
		if parts[name], err = e.Contents(s, 1<<20); err != nil {
			f.Fatal(err)
		}
	}
	return parts
}

var fuzzed = []string{".debug_info", ".debug_abbrev", ".debug_line", ".debug_str", ".debug_line_str", ".debug_ranges", ".debug_rnglists", ".debug_addr", ".debug_str_offsets"}

// Whatever the sections hold, an answer comes in bounded time and memory.
func FuzzProgram(f *testing.F) {
	for _, version := range []string{"2", "3", "4", "5"} {
		for _, wide := range []string{"32", "64"} {
			p := partsOf(f, "-g", "-gdwarf-"+version, "-gdwarf"+wide)
			f.Add(p[".debug_info"], p[".debug_abbrev"], p[".debug_line"], append(p[".debug_str"], p[".debug_line_str"]...),
				append(p[".debug_ranges"], p[".debug_rnglists"]...), []byte(nil), uint64(0x1003))
		}
	}
	f.Fuzz(func(t *testing.T, info, abbrev, line, text, ranges, addr []byte, v uint64) {
		b := sections(map[string][]byte{".debug_info": info, ".debug_abbrev": abbrev, ".debug_line": line, ".debug_str": text, ".debug_line_str": text,
			".debug_ranges": ranges, ".debug_rnglists": ranges, ".debug_addr": addr, ".debug_str_offsets": addr})
		e, err := elffile.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		p, err := Open(e, nil, NewCache(1<<20, 1<<26))
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range []uint64{v, 0x1000, 0x1009, 0x1010, 0} {
			frames, err := p.at(v)
			if err != nil && frames != nil {
				t.Errorf("%v and %v", frames, err)
			}
			for _, f := range frames {
				if len(f.Name) > maxText || len(f.File) > 4*maxText {
					t.Errorf("%+v", f)
				}
			}
		}
	})
}
