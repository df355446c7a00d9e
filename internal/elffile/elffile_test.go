package elffile

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// program compiles a small one, linked with the given arguments.
func program(t testing.TB, args ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	source, out := filepath.Join(dir, "a.c"), filepath.Join(dir, "a")
	if err := os.WriteFile(source, []byte("#include <stdio.h>\n#include <stdlib.h>\nint main(void) { return puts(\"\"); }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("gcc", append(args, "-g", "-o", out, source)...)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("%v: %v\n%s", cmd.Args, err, text)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Sections are unpacked, whatever packed them, and the bytes are those that the standard
// library unpacks.
func TestContents(t *testing.T) {
	for name, args := range map[string][]string{"not": nil, "zlib": {"-Wl,--compress-debug-sections=zlib"}, "zstd": {"-Wl,--compress-debug-sections=zstd"}} {
		t.Run(name, func(t *testing.T) {
			b := program(t, args...)
			std, err := elf.NewFile(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			f, err := Open(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			found, err := f.Named(".debug_str", ".debug_info", ".nothing")
			if err != nil || len(found) != 2 {
				t.Fatalf("%v, %v", found, err)
			}
			compressed := 0
			for name, s := range found {
				want, err := std.Section(name).Data()
				if err != nil {
					t.Fatal(err)
				}
				got, err := f.Contents(s, 1<<20)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(want))
				}
				if _, err := f.Contents(s, uint64(len(want)-1)); !errorsAsTooLarge(err) {
					t.Errorf("%s: %v", name, err)
				}
				if s.Compressed {
					compressed++
				}
			}
			if (compressed > 0) != (args != nil) {
				t.Errorf("%d sections are compressed", compressed)
			}
			if id := f.BuildID(); args == nil && len(id) != 0 && len(id) != 20 {
				t.Errorf("build id %x", id)
			}
		})
	}
}

func errorsAsTooLarge(err error) bool {
	_, ok := errors.AsType[*TooLargeError](err)
	return ok
}

// A section that claims to become terabytes is made no room for.
func TestClaims(t *testing.T) {
	b := program(t, "-Wl,--compress-debug-sections=zlib")
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	found, err := f.Named(".debug_str")
	if err != nil {
		t.Fatal(err)
	}
	s := found[".debug_str"]
	for _, claim := range []uint64{1 << 62, 1 << 40, 1 << 33} {
		binary.LittleEndian.PutUint64(b[s.Off+8:], claim)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := f.Contents(s, 1<<63); err == nil {
			t.Error("it was unpacked")
		}
		runtime.ReadMemStats(&after)
		allocated := after.TotalAlloc - before.TotalAlloc
		if allocated > 1<<20 {
			t.Errorf("%d bytes were allocated", allocated)
		}
	}
}

// Whatever a file is, it is read within its bounds.
func FuzzFile(f *testing.F) {
	f.Add(program(f)[:4096])
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		_, _ = e.Segments()
		e.BuildID()
		sections, err := e.Sections()
		if err != nil {
			return
		}
		_, _ = e.Named(".debug_info")
		for _, s := range sections {
			if c, err := e.Contents(s, 1<<20); err == nil && len(c) > 1<<20 {
				t.Errorf("%d bytes", len(c))
			}
			_ = e.Entries(s, func(Entry) bool { return true })
		}
	})
}
