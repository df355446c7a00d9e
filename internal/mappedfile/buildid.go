package mappedfile

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
)

// Bounds of what is read of an ELF file to find its build id. A linker writes a dozen program
// headers, and notes of some hundred bytes.
const (
	maxPHdrs    = 256
	maxNoteSize = 64 << 10
	maxBuildID  = 64
)

// buildID returns the build id of an ELF file of this machine's byte order, or nil if it has
// none. It reads little, whatever the file claims.
func buildID(r io.ReaderAt) []byte {
	head := make([]byte, 64)
	if n, _ := r.ReadAt(head, 0); n < len(head) || !bytes.HasPrefix(head, []byte(elf.ELFMAG)) ||
		elf.Data(head[elf.EI_DATA]) != elf.ELFDATA2LSB {
		return nil
	}
	le := binary.LittleEndian
	var phoff uint64
	var size, count, offset, length int // of program headers, and offsets in one
	word := le.Uint64
	if elf.Class(head[elf.EI_CLASS]) == elf.ELFCLASS64 {
		phoff, size, count, offset, length = le.Uint64(head[32:]), 56, int(le.Uint16(head[56:])), 8, 32
	} else {
		phoff, size, count, offset, length = uint64(le.Uint32(head[28:])), 32, int(le.Uint16(head[44:])), 4, 16
		word = func(b []byte) uint64 { return uint64(le.Uint32(b)) }
	}
	table := readPart(r, phoff, uint64(size*min(count, maxPHdrs)))
	for ; len(table) >= size; table = table[size:] {
		if elf.ProgType(le.Uint32(table)) != elf.PT_NOTE {
			continue
		}
		if id := buildIDOf(readPart(r, word(table[offset:]), min(word(table[length:]), maxNoteSize))); id != nil {
			return id
		}
	}
	return nil
}

// readPart reads up to n bytes at off.
func readPart(r io.ReaderAt, off, n uint64) []byte {
	if off > 1<<62 {
		return nil
	}
	b := make([]byte, n)
	got, _ := r.ReadAt(b, int64(off))
	return b[:got]
}

// buildIDOf returns the contents of the NT_GNU_BUILD_ID note.
func buildIDOf(notes []byte) []byte {
	const head, ntGNUBuildID = 12, 3
	le := binary.LittleEndian
	pad := func(n uint32) uint64 { return (uint64(n) + 3) &^ 3 }
	for len(notes) >= head {
		name, desc := pad(le.Uint32(notes)), pad(le.Uint32(notes[4:]))
		typ, size := le.Uint32(notes[8:]), le.Uint32(notes[4:])
		if notes = notes[head:]; name+desc > uint64(len(notes)) {
			return nil
		}
		if typ == ntGNUBuildID && bytes.Equal(notes[:name], []byte("GNU\x00")) && size > 0 && size <= maxBuildID {
			return bytes.Clone(notes[name : name+uint64(size)])
		}
		notes = notes[name+desc:]
	}
	return nil
}
