package unwind

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/procmem/procmem"
)

// FuzzWalk walks stacks where all that is read is made up: tables, code, registers, the stack.
func FuzzWalk(f *testing.F) {
	for _, arch := range []procmem.Arch{procmem.AMD64, procmem.I386, procmem.ARM64} {
		p := newFake(arch)
		p.cfi("zRS", 16, 0x0c, 7, 16, 0x80|16, 1)
		p.put(fakeJIT, []byte("\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05\x58\xb8\x77\x00\x00\x00\xcd\x80")...)
		p.words(fakeStack+8, code+0x20, sp64+0x20, jit, 0, sp64+0x40, jit+9)
		text := slices.Concat(p.pages[fakeText][:0x300], p.pages[fakeJIT][:0x40])
		f.Add(byte(arch), text, p.pages[fakeStack][:0x100], code+0x10, sp64, sp64+0x20)
	}
	f.Fuzz(func(t *testing.T, arch byte, text, stack []byte, pc, sp, fp uint64) {
		p := newFake([]procmem.Arch{procmem.AMD64, procmem.I386, procmem.ARM64}[arch%3])
		n := copy(p.pages[fakeText], text[:min(len(text), 0x300)])
		copy(p.pages[fakeJIT], text[n:])
		for a := fakeStack; a < stackEnd; a += procmem.PageSize {
			stack = stack[copy(p.pages[a], stack):]
		}
		names := p.img.Arch.RegisterNames()
		m := machines[p.img.Arch]
		for _, name := range names {
			p.regs[name] = sp + uint64(len(name))*8
		}
		p.regs[m.names[m.pc]], p.regs[m.names[m.sp]], p.regs[m.names[m.fp]] = pc, sp, fp
		frames, stop := p.walk(t, Options{Work: 1e6})
		if len(frames) == 0 || len(frames) > 100 || len(frames) == 100 && stop.Reason != Limit {
			t.Fatalf("%d frames, %v", len(frames), stop)
		}
		for _, fr := range frames[1:] {
			if i := procmem.FindMapping(p.img.Mappings, fr.PC); i > 1 {
				t.Fatalf("a frame at %v", fr.PC)
			}
		}
	})
}

// FuzzELF reads the tables of a file that is made up, of which memory has nothing.
func FuzzELF(f *testing.F) {
	p := newFake(procmem.AMD64)
	p.cfi("zR", 16, 0x0c, 7, 16, 0x80|16, 1)
	header := slices.Clone(p.pages[fakeText][:0x300])
	binary.LittleEndian.PutUint64(header[40:], 0x200) // section headers
	binary.LittleEndian.PutUint16(header[58:], 64)
	binary.LittleEndian.PutUint16(header[60:], 2)
	f.Add(header, byte(0), code+0x10)
	f.Fuzz(func(t *testing.T, file []byte, arch byte, pc uint64) {
		p := newFake([]procmem.Arch{procmem.AMD64, procmem.I386, procmem.ARM64}[arch%3])
		delete(p.pages, fakeText)
		m := machines[p.img.Arch]
		p.regs[m.names[m.pc]], p.regs[m.names[m.sp]] = pc, sp64
		p.walk(t, Options{Work: 1e6, Open: func(*procmem.Mapping) (File, error) { return fakeFile(file), nil }})
	})
}
