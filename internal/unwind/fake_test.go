package unwind

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"testing"

	"github.com/procmem/procmem"
)

// fake is a process of one thread, made by hand: a page of code with call frame information,
// and a stack.
type fake struct {
	img   procmem.Image
	pages map[procmem.Addr][]byte
	regs  map[string]uint64
}

const (
	fakeText  = procmem.Addr(0x400000) // one page: the ELF headers, then code from fakeCode on
	fakeCode  = fakeText + 0x800
	fakeHdr   = 0x200 // offsets of .eh_frame_hdr, .eh_frame and their end
	fakeEH    = 0x220
	fakeJIT   = procmem.Addr(0x700000) // a page that may be executed and is of no file
	fakeStack = procmem.Addr(0x7ff000) // four pages; what is behind is not mapped
	stackEnd  = fakeStack + 4*procmem.PageSize
)

func newFake(arch procmem.Arch) *fake {
	f := &fake{pages: map[procmem.Addr][]byte{}, regs: map[string]uint64{}}
	f.img.Arch = arch
	f.add(procmem.Mapping{Range: procmem.Range{Start: fakeText, End: fakeText + procmem.PageSize},
		Perm: procmem.PermRead | procmem.PermExec, Path: "/fake", Inode: 1})
	f.add(procmem.Mapping{Range: procmem.Range{Start: fakeJIT, End: fakeJIT + procmem.PageSize},
		Perm: procmem.PermRead | procmem.PermExec})
	f.add(procmem.Mapping{Range: procmem.Range{Start: fakeStack, End: stackEnd}, Perm: procmem.PermRead | procmem.PermWrite})
	return f
}

func (f *fake) add(m procmem.Mapping) {
	f.img.Mappings = append(f.img.Mappings, m)
	for a := m.Start; a < m.End; a += procmem.PageSize {
		f.pages[a] = make([]byte, procmem.PageSize)
	}
}

func (f *fake) Mappings() ([]procmem.Mapping, error) { return f.img.Mappings, nil }

func (f *fake) ReadAt(p []byte, addr procmem.Addr) (n int, err error) {
	for n < len(p) {
		a := addr + procmem.Addr(n)
		page := f.pages[a.PageDown()]
		if page == nil {
			return n, &procmem.FaultError{Addr: a, Err: procmem.ErrNotMapped}
		}
		n += copy(p[n:], page[a-a.PageDown():])
	}
	return n, nil
}

func (f *fake) put(a procmem.Addr, b ...byte) {
	for i, c := range b {
		at := a + procmem.Addr(i)
		f.pages[at.PageDown()][at-at.PageDown()] = c
	}
}

// words puts words of the machine's size.
func (f *fake) words(a procmem.Addr, ws ...uint64) {
	size := f.img.Arch.WordSize()
	for i, w := range ws {
		f.put(a+procmem.Addr(i*size), binary.LittleEndian.AppendUint64(nil, w)[:size]...)
	}
}

// cfi gives all code the rules of a program for call frames.
func (f *fake) cfi(augmentation string, ra byte, program ...byte) {
	wide := f.img.Arch.WordSize() == 8
	head := elf.Header64{Phoff: 64, Phentsize: 56, Phnum: 2}
	copy(head.Ident[:], "\x7fELF\x02\x01\x01")
	size := uint64(procmem.PageSize)
	progs := any([]elf.Prog64{
		{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: uint64(fakeText), Filesz: size, Memsz: size},
		{Type: uint32(elf.PT_GNU_EH_FRAME), Off: fakeHdr, Vaddr: uint64(fakeText) + fakeHdr, Filesz: 20, Memsz: 20}})
	ehdr := any(head)
	if !wide {
		head32 := elf.Header32{Phoff: 64, Phentsize: 32, Phnum: 2}
		copy(head32.Ident[:], "\x7fELF\x01\x01\x01")
		ehdr = head32
		progs = []elf.Prog32{
			{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: uint32(fakeText), Filesz: uint32(size), Memsz: uint32(size)},
			{Type: uint32(elf.PT_GNU_EH_FRAME), Off: fakeHdr, Vaddr: uint32(fakeText) + fakeHdr, Filesz: 20, Memsz: 20}}
	}
	le := binary.LittleEndian
	b, _ := binary.Append(nil, le, ehdr)
	f.put(fakeText, b...)
	b, _ = binary.Append(nil, le, progs)
	f.put(fakeText+64, b...)

	at := uint32(fakeText) + fakeEH
	entry := func(id uint32, body []byte) []byte {
		for len(body)%4 != 0 {
			body = append(body, 0)
		}
		e := le.AppendUint32(nil, uint32(4+len(body)))
		return append(le.AppendUint32(e, id), body...)
	}
	cie := append([]byte{1}, augmentation...)
	cie = append(cie, 0, 1, 0x78, ra, 1, 0x03) // code by 1, data by -8; addresses of four bytes
	cie = entry(0, append(cie, program...))
	begin := uint32(fakeCode)
	fde := entry(uint32(len(cie))+4, append(le.AppendUint32(le.AppendUint32(nil, begin), 0x400), 0))
	f.put(procmem.Addr(at), append(append(cie, fde...), 0, 0, 0, 0)...)
	hdr := []byte{1, 0x03, 0x03, 0x03}
	for _, v := range []uint32{at, 1, begin, at + uint32(len(cie))} {
		hdr = le.AppendUint32(hdr, v)
	}
	f.put(fakeText+fakeHdr, hdr...)
}

// thread returns the thread with its registers.
func (f *fake) thread() *procmem.Thread {
	var b []byte
	for _, name := range f.img.Arch.RegisterNames() {
		b = append(b, binary.LittleEndian.AppendUint64(nil, f.regs[name])[:f.img.Arch.WordSize()]...)
	}
	return &procmem.Thread{TID: 1, Regsets: []procmem.Regset{{Type: procmem.NTPRStatus, Data: b}}}
}

// walk walks the stack, with at most a hundred frames.
func (f *fake) walk(t testing.TB, o Options) ([]Frame, Stop) {
	t.Helper()
	u, err := New(f, &f.img, o)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	var frames []Frame
	stop := u.Walk(context.Background(), f.thread(), 100, func(fr Frame) bool {
		frames = append(frames, fr)
		return true
	})
	return frames, stop
}

// fakeFile is a file that is held.
type fakeFile []byte

func (f fakeFile) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(f).ReadAt(p, off)
}

func (f fakeFile) Size() int64 { return int64(len(f)) }
func (fakeFile) Close() error  { return nil }
