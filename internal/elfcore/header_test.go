package elfcore

import (
	"bytes"
	"debug/elf"
	"slices"
	"testing"

	"github.com/procmem/procmem"
)

// debug/elf reads what is encoded, and so do we.
func TestHeaders(t *testing.T) {
	for _, a := range []procmem.Arch{procmem.AMD64, procmem.I386, procmem.ARM64} {
		c := ClassOf(a)
		m, err := MachineOf(a)
		if err != nil {
			t.Fatal(err)
		}
		want := []elf.ProgHeader{
			{Type: elf.PT_NOTE, Off: 0x200, Filesz: 12, Align: 4},
			{Type: elf.PT_LOAD, Flags: PermFlags(procmem.PermRead | procmem.PermExec), Off: 0x1000, Vaddr: 0x400000, Filesz: 0x1000, Memsz: 0x3000, Align: 0x1000},
			{Type: elf.PT_NOTE, Off: 0x300, Filesz: 24, Align: 4},
		}
		b := AppendHeader(nil, c, m, len(want), uint64(HeaderSize(c)))
		for _, p := range want {
			b = AppendProgHeader(b, c, p)
		}
		if len(b) != HeaderSize(c)+len(want)*ProgHeaderSize(c) {
			t.Errorf("%v: %d bytes", a, len(b))
		}
		f, err := elf.NewFile(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("%v: %v", a, err)
		}
		h, err := DecodeHeader(b)
		if err != nil || h.Class != f.Class || h.Type != elf.ET_CORE || f.Type != elf.ET_CORE || h.Machine != f.Machine || f.Machine != m ||
			h.Phoff != uint64(HeaderSize(c)) || h.Phnum != 3 || int(h.Phsize) != ProgHeaderSize(c) || h.Shoff != 0 {
			t.Errorf("%v: %+v, %v", a, h, err)
		}
		for i, p := range want {
			ours := DecodeProgHeader(c, b[int(h.Phoff)+i*ProgHeaderSize(c):])
			if ours != p || f.Progs[i].ProgHeader != p {
				t.Errorf("%v: program header %d: %+v; debug/elf has %+v", a, i, ours, f.Progs[i].ProgHeader)
			}
		}
		if got := slices.Collect(NotesOfPage(b)); !slices.Equal(got, []elf.ProgHeader{want[0], want[2]}) {
			t.Errorf("%v: notes %+v", a, got)
		}
		if got := slices.Collect(NotesOfPage(b[:len(b)-1])); len(got) != 1 {
			t.Errorf("%v: notes of a page that is cut off: %+v", a, got)
		}
	}
}

// More program headers than e_phnum can hold.
func TestCountHeader(t *testing.T) {
	const n = 70000
	for _, c := range []elf.Class{elf.ELFCLASS32, elf.ELFCLASS64} {
		h, err := DecodeHeader(AppendHeader(nil, c, elf.EM_386, n, 100))
		if err != nil || h.Phnum != MaxPlainHeaders || h.Shoff != uint64(100+n*ProgHeaderSize(c)) {
			t.Errorf("%v: %+v, %v", c, h, err)
		}
		b := AppendCountHeader(nil, c, n)
		if got := DecodeCountHeader(c, b); len(b) != SectionHeaderSize(c) || got != n {
			t.Errorf("%v: %d in %d bytes", c, got, len(b))
		}
	}
}

func TestPermFlags(t *testing.T) {
	for p := range procmem.PermRead | procmem.PermWrite | procmem.PermExec {
		if got := FlagsPerm(PermFlags(p)); got != p {
			t.Errorf("%v became %v", p, got)
		}
	}
}
