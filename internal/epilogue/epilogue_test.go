package epilogue

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"testing"

	"golang.org/x/arch/x86/x86asm"

	"github.com/procmem/procmem/internal/cfi"
)

// contents is memory that begins at an address.
type contents struct {
	base uint64
	b    []byte
}

func (c contents) ReadAt(p []byte, addr uint64) error {
	if addr < c.base || addr-c.base > uint64(len(c.b)) || uint64(len(p)) > uint64(len(c.b))-(addr-c.base) {
		return errors.New("not there")
	}
	copy(p, c.b[addr-c.base:])
	return nil
}

func (c contents) code(addr uint64, size int) []byte {
	if addr < c.base || addr-c.base >= uint64(len(c.b)) {
		return nil
	}
	b := c.b[addr-c.base:]
	return b[:min(len(b), size)]
}

func section(t *testing.T, f *elf.File, name string) contents {
	t.Helper()
	s := f.Section(name)
	if s == nil {
		t.Skip("no " + name)
	}
	b, err := s.Data()
	if err != nil {
		t.Fatal(err)
	}
	return contents{s.Addr, b}
}

// atMost returns true so many times.
func atMost(n int) func() bool { return func() bool { n--; return n >= 0 } }

// Behind each call in a library, what is found by following the code is what the compiler
// says, where it says that the frame is at a distance from the stack pointer.
func TestCompiler(t *testing.T) {
	for path, mode := range map[string]int{"/lib/x86_64-linux-gnu/libc.so.6": 64, "/lib32/libc.so.6": 32} {
		t.Run(path, func(t *testing.T) {
			f, err := elf.Open(path)
			if err != nil {
				if os.Getenv("PROCMEM_TEST_ALL") == "1" {
					t.Fatal(err)
				}
				t.Skip(err)
			}
			defer f.Close()
			text, eh := section(t, f, ".text"), section(t, f, ".eh_frame")
			table := cfi.Section(eh, eh.base, eh.base+uint64(len(eh.b)), mode/8, false, nil)
			right, wrong, none := 0, 0, 0
			for at := 0; at < len(text.b); {
				in, err := x86asm.Decode(text.b[at:], mode)
				if err != nil {
					at++
					continue
				}
				at += in.Len
				pc := text.base + uint64(at)
				if in.Op != x86asm.CALL {
					continue
				}
				row, err := table.Find(pc-1, nil)
				if err != nil || row.CFA.Kind != cfi.Register || int(row.CFA.Reg) != map[int]int{64: 7, 32: 4}[mode] {
					continue
				}
				got, ok := Follow(text.code, Start{PC: pc, Called: true}, mode, atMost(1000))
				switch {
				case !ok:
					none++
				case got.At+int64(mode/8) == row.CFA.Off:
					right++
				default:
					wrong++
				}
			}
			t.Logf("%d calls: %d right, %d wrong, %d unknown", right+wrong+none, right, wrong, none)
			if right < 1000 || wrong*20 > right {
				t.Errorf("%d right, and %d wrong", right, wrong)
			}
		})
	}
}

// A function with a frame pointer, and one that takes its arguments off the stack.
func TestForms(t *testing.T) {
	for _, c := range []struct {
		name, code string
		fp         int64
		mode       int
		at, drop   int64
	}{
		{"leave", "\xc9\xc3", 32, 64, 40, 0},
		{"ret n", "\x83\xc4\x08\xc2\x0c\x00", 0, 32, 8, 12},
		{"jump", "\xeb\x02\x0f\x0b\x5d\xc3", 0, 64, 8, 0},
		{"either", "\x74\x01\xf4\x58\xc3", 0, 64, 8, 0},
		{"lea", "\x48\x8d\x65\xf8\x5b\x5d\xc3", 16, 64, 24, 0},
	} {
		got, ok := Follow(contents{0x1000, []byte(c.code)}.code, Start{PC: 0x1000, FP: c.fp, FPKnown: true}, c.mode, atMost(1000))
		if !ok || got.At != c.at || got.Drop != c.drop {
			t.Errorf("%s: %+v, %v", c.name, got, ok)
		}
	}
}

func FuzzFollow(f *testing.F) {
	f.Add([]byte("\x74\x01\xf4\x58\x5d\xc3"), int64(16), true)
	f.Add([]byte("\xeb\xfe"), int64(0), false)
	f.Fuzz(func(t *testing.T, code []byte, fp int64, wide bool) {
		mode := 32
		if wide {
			mode = 64
		}
		text := contents{binary.LittleEndian.Uint64(append(code, make([]byte, 8)...)), code}
		Follow(text.code, Start{PC: text.base, FP: fp, FPKnown: true}, mode, atMost(1000))
	})
}
