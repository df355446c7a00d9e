package unwind

import (
	"bytes"
	"compress/zlib"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/cfi"
)

// Bounds of what is read of one file, whatever it claims.
const (
	maxSegments     = 128
	maxSectionNames = 1 << 20
)

var errNotELF = errors.New("no ELF file that makes sense")

// header is what an ELF header says of the rest.
type header struct {
	word                int // bytes of a word
	phoff, shoff        uint64
	phnum, shnum, names int
}

// headerSize is the bytes of an ELF header, of which those of 32 bits have fewer.
const headerSize = 64

func parseHeader(b []byte) (h header, err error) {
	if !bytes.HasPrefix(b, []byte(elf.ELFMAG)) || elf.Data(b[elf.EI_DATA]) != elf.ELFDATA2LSB {
		return h, errNotELF
	}
	h.word = 4
	if elf.Class(b[elf.EI_CLASS]) == elf.ELFCLASS64 {
		h.word = 8
	}
	half := func(i int) int { return int(binary.LittleEndian.Uint16(b[24+3*h.word+6+2*i:])) }
	h.phoff, h.phnum = h.wordAt(b, 24, 1), min(half(1), maxSegments)
	h.shoff, h.shnum, h.names = h.wordAt(b, 24, 2), half(3), half(4)
	if h.phnum > 0 && half(0) != h.segmentSize() || h.shnum > 0 && half(2) != h.sectionSize() {
		return h, errNotELF
	}
	return h, nil
}

func (h header) segmentSize() int { return 8 + 6*h.word }
func (h header) sectionSize() int { return 16 + 6*h.word }

// wordAt returns word i behind the first skip bytes.
func (h header) wordAt(b []byte, skip, i int) uint64 {
	if h.word == 8 {
		return binary.LittleEndian.Uint64(b[skip+8*i:])
	}
	return uint64(binary.LittleEndian.Uint32(b[skip+4*i:]))
}

// segment is a program header.
type segment struct {
	typ                       elf.ProgType
	off, addr, fileSize, size uint64
}

func (h header) segments(b []byte) (all []segment) {
	for ; len(b) >= h.segmentSize(); b = b[h.segmentSize():] {
		all = append(all, segment{elf.ProgType(binary.LittleEndian.Uint32(b)),
			h.wordAt(b, 0, 1), h.wordAt(b, 0, 2), h.wordAt(b, 0, 4), h.wordAt(b, 0, 5)})
	}
	return all
}

// section is a section header.
type section struct {
	addr, off, size uint64
	compressed      bool
}

// sections returns those of a file that have a name.
func (t *text) sections(first int, names ...string) (map[string]section, error) {
	b := make([]byte, headerSize)
	if err := t.section(first, b, 0); err != nil {
		return nil, err
	}
	h, err := parseHeader(b)
	if err != nil {
		return nil, err
	}
	all := make([]byte, h.shnum*h.sectionSize())
	if err := t.section(first, all, h.shoff); err != nil || h.names >= h.shnum {
		return nil, errors.Join(errNotELF, err)
	}
	header := func(i int) section {
		b := all[i*h.sectionSize():]
		return section{h.wordAt(b, 8, 1), h.wordAt(b, 8, 2), h.wordAt(b, 8, 3),
			elf.SectionFlag(h.wordAt(b, 8, 0))&elf.SHF_COMPRESSED != 0}
	}
	text := make([]byte, min(header(h.names).size, maxSectionNames))
	if err := t.section(first, text, header(h.names).off); err != nil {
		return nil, err
	}
	found := map[string]section{}
	for i := range h.shnum {
		name := uint64(binary.LittleEndian.Uint32(all[i*h.sectionSize():]))
		for _, want := range names {
			if name < uint64(len(text)) && bytes.HasPrefix(text[name:], []byte(want+"\x00")) {
				found[want] = header(i)
			}
		}
	}
	return found, nil
}

// contents reads a section that may be compressed. Its bytes are taken from room.
func (t *text) contents(first int, s section, word int, room *cfi.Budget) ([]byte, error) {
	if s.size > maxRoom {
		return nil, errNotELF
	}
	if err := room.Spend(int(s.size)); err != nil {
		return nil, err
	}
	b := make([]byte, s.size)
	if err := t.section(first, b, s.off); err != nil || !s.compressed {
		return b, err
	}
	head := 3 * word // ch_type, with padding, ch_size, ch_addralign
	if len(b) < head || elf.CompressionType(binary.LittleEndian.Uint32(b)) != elf.COMPRESS_ZLIB {
		return nil, errNotELF
	}
	size := header{word: word}.wordAt(b, 0, 1)
	if size > maxRoom {
		return nil, errNotELF
	}
	if err := room.Spend(int(size)); err != nil {
		return nil, err
	}
	r, err := zlib.NewReader(bytes.NewReader(b[head:]))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	out := make([]byte, size)
	_, err = io.ReadFull(r, out)
	return out, err
}

// base returns the address of the file's address 0, for a file whose first page is at start.
func base(segs []segment, start procmem.Addr) (uint64, bool) {
	for _, s := range segs {
		if s.typ == elf.PT_LOAD && s.off < procmem.PageSize {
			return uint64(start) - s.addr&^(procmem.PageSize-1), true
		}
	}
	return 0, false
}
