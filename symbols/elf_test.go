package symbols

import (
	"bytes"
	"encoding/binary"

	"github.com/procmem/procmem"
)

// elfSpec makes an ELF file: text at offset 0x1000 and address 0x1000, data at
// offset 0x2000 and address 0x3000, with .bss to 0x5000, and a symbol table.
type elfSpec struct {
	wide                     bool
	buildID                  []byte
	symbols                  []testSymbol
	hugeStrings, hugeSymbols uint64 // what the sections claim, if not 0
}

type testSymbol struct {
	name        string
	value, size uint64
	section     uint16 // 1 is text, 2 is data
	info        byte
}

// elfWriter appends fields of half words, words and addresses.
type elfWriter struct {
	bytes.Buffer
	wide bool
}

func (w *elfWriter) u16(vs ...uint16) { _ = binary.Write(w, binary.LittleEndian, vs) }
func (w *elfWriter) u32(vs ...uint32) { _ = binary.Write(w, binary.LittleEndian, vs) }
func (w *elfWriter) addr(vs ...uint64) {
	for _, v := range vs {
		if w.wide {
			_ = binary.Write(w, binary.LittleEndian, v)
		} else {
			w.u32(uint32(v))
		}
	}
}

func (w *elfWriter) pad(n int) { w.Write(make([]byte, n-w.Len())) }

func (w *elfWriter) segment(typ, flags uint32, off, addr, fileSize, size uint64) {
	w.u32(typ)
	if w.wide {
		w.u32(flags)
	}
	w.addr(off, addr, addr, fileSize, size)
	if !w.wide {
		w.u32(flags)
	}
	w.addr(procmem.PageSize)
}

func (w *elfWriter) section(typ uint32, flags, addr, off, size uint64, link uint32, entry uint64) {
	w.u32(0, typ)
	w.addr(flags, addr, off, size)
	w.u32(link, 0)
	w.addr(1, entry)
}

func (w *elfWriter) symbol(name uint32, s testSymbol) {
	w.u32(name)
	if !w.wide {
		w.addr(s.value, s.size)
	}
	w.Write([]byte{s.info, 0})
	w.u16(s.section)
	if w.wide {
		w.addr(s.value, s.size)
	}
}

func (e elfSpec) bytes() []byte {
	const symbolsAt = 0x3000
	w := &elfWriter{wide: e.wide}
	class, machine, word := byte(1), uint16(3), 4
	if e.wide {
		class, machine, word = 2, 62, 8
	}
	strtab := []byte{0}
	table := &elfWriter{wide: e.wide}
	table.symbol(0, testSymbol{})
	for _, s := range e.symbols {
		table.symbol(uint32(len(strtab)), s)
		strtab = append(append(strtab, s.name...), 0)
	}
	sectionsAt := symbolsAt + table.Len() + len(strtab)
	if e.hugeStrings != 0 {
		sectionsAt = 0x800
	}

	w.Write([]byte{0x7f, 'E', 'L', 'F', class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	w.u16(3, machine)
	w.u32(1)
	w.addr(0x1000, 0x100, uint64(sectionsAt))
	w.u32(0)
	w.u16(uint16(40+3*word), uint16(8+6*word), 3, uint16(16+6*word), 5, 0)
	w.pad(0x100)
	w.segment(1, 5, 0, 0, 0x2000, 0x2000)
	w.segment(1, 6, 0x2000, 0x3000, 0x1000, 0x2000)
	notes := &elfWriter{}
	if e.buildID != nil {
		notes.u32(4, 3, 3) // another one is first
		notes.WriteString("XYZ\x00abc\x00")
		notes.u32(4, uint32(len(e.buildID)), 3)
		notes.WriteString("GNU\x00")
		notes.Write(e.buildID)
	}
	w.segment(4, 4, 0x400, 0x400, uint64(notes.Len()), uint64(notes.Len()))
	w.pad(0x400)
	w.Write(notes.Bytes())
	strings, symbols := uint64(len(strtab)), uint64(table.Len())
	sections := &elfWriter{wide: e.wide}
	if e.hugeStrings != 0 {
		strings, symbols = e.hugeStrings, e.hugeSymbols
	}
	sections.section(0, 0, 0, 0, 0, 0, 0)
	sections.section(1, 6, 0x1000, 0x1000, 0x1000, 0, 0)
	sections.section(1, 3, 0x3000, 0x2000, 0x1000, 0, 0)
	sections.section(2, 0, 0, symbolsAt, symbols, 4, uint64(8+2*word))
	sections.section(3, 0, 0, uint64(symbolsAt+table.Len()), strings, 0, 0)
	if e.hugeStrings != 0 {
		w.pad(sectionsAt)
		w.Write(sections.Bytes())
	}
	w.pad(symbolsAt)
	w.Write(table.Bytes())
	w.Write(strtab)
	if e.hugeStrings == 0 {
		w.Write(sections.Bytes())
	}
	return w.Bytes()
}

type bytesFile struct{ *bytes.Reader }

func newBytesFile(b []byte) File { return bytesFile{bytes.NewReader(b)} }

func (bytesFile) Close() error { return nil }

// fakeMemory holds bytes at addresses.
type fakeMemory map[procmem.Addr][]byte

func (m fakeMemory) Mappings() ([]procmem.Mapping, error) { return nil, nil }

func (m fakeMemory) ReadAt(p []byte, a procmem.Addr) (int, error) {
	for start, b := range m {
		if a < start || uint64(a-start) >= uint64(len(b)) {
			continue
		}
		n := copy(p, b[a-start:])
		if n < len(p) {
			return n, &procmem.FaultError{Addr: a + procmem.Addr(n), Err: procmem.ErrNotMapped}
		}
		return n, nil
	}
	return 0, &procmem.FaultError{Addr: a, Err: procmem.ErrNotMapped}
}
