package core

import (
	"cmp"
	"debug/elf"
	"fmt"
	"math"
	"slices"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/elfcore"
)

// maxHeaders bounds the number of program headers. A process can have a few million mappings at
// most, and a sparse file can claim any number.
const maxHeaders = 1 << 24

// readHeader reads the ELF header. Its error says what the file is if it is no core.
func (f *File) readHeader() (elfcore.Header, error) {
	if f.size == 0 {
		return elfcore.Header{}, &FormatError{0, "not a core file: the file is empty"}
	}
	var b [64]byte
	n, err := f.r.ReadAt(b[:min(int64(len(b)), f.size)], 0)
	if n == 0 && err != nil {
		return elfcore.Header{}, fmt.Errorf("read ELF header: %w", err)
	}
	h, err := elfcore.DecodeHeader(b[:n])
	if err != nil {
		return h, formatError(err)
	}
	if h.Type != elf.ET_CORE {
		what := map[elf.Type]string{elf.ET_EXEC: "executable", elf.ET_DYN: "shared object or executable", elf.ET_REL: "object file"}[h.Type]
		return h, &FormatError{16, "not a core file: ELF " + cmp.Or(what, h.Type.String())}
	}
	if f.img.Arch, err = procmem.ArchOf(h.Class, h.Machine); err != nil {
		return h, &FormatError{18, err.Error()}
	}
	if want := elfcore.ProgHeaderSize(h.Class); int(h.Phsize) != want {
		return h, &FormatError{int64(elfcore.HeaderSize(h.Class)) - 10, fmt.Sprintf("program headers of %d bytes, want %d", h.Phsize, want)}
	}
	if h.Phnum == elfcore.MaxPlainHeaders {
		if err := f.readHeaderCount(&h); err != nil {
			return h, err
		}
	}
	return h, nil
}

// readHeaderCount finds the number of program headers where e_phnum cannot hold it.
func (f *File) readHeaderCount(h *elfcore.Header) error {
	step := elfcore.SectionHeaderSize(h.Class)
	if h.Shoff == 0 || h.Shoff > uint64(f.size) || uint64(f.size)-h.Shoff < uint64(step) {
		return &FormatError{int64(min(h.Shoff, math.MaxInt64)), "the section header with the number of program headers is not in the file"}
	}
	b := make([]byte, step)
	if err := f.readFull(b, int64(h.Shoff)); err != nil {
		return fmt.Errorf("read section header: %w", err)
	}
	h.Phnum = elfcore.DecodeCountHeader(h.Class, b)
	return nil
}

// readProgramHeaders keeps the segments and the places of the notes.
func (f *File) readProgramHeaders(h elfcore.Header) error {
	step := elfcore.ProgHeaderSize(h.Class)
	if h.Phnum == 0 {
		return &FormatError{int64(elfcore.HeaderSize(h.Class)) - 8, "no program headers"}
	}
	if h.Phnum > maxHeaders {
		return &FormatError{int64(elfcore.HeaderSize(h.Class)) - 8, fmt.Sprintf("%d program headers are more than a process can have mappings", h.Phnum)}
	}
	if table := uint64(h.Phnum) * uint64(step); h.Phoff > uint64(f.size) || table > uint64(f.size)-h.Phoff {
		return &FormatError{int64(min(h.Phoff, math.MaxInt64)), fmt.Sprintf("%d program headers do not fit the file of %d bytes", h.Phnum, f.size)}
	}
	chunk := make([]byte, min(int(h.Phnum), 4096)*step)
	off := int64(h.Phoff)
	var noteBytes int64
	for left := int(h.Phnum); left > 0; {
		b := chunk[:min(left*step, len(chunk))]
		if err := f.readFull(b, off); err != nil {
			return fmt.Errorf("read program headers at offset %#x: %w", off, err)
		}
		for ; len(b) > 0; b, off, left = b[step:], off+int64(step), left-1 {
			p := elfcore.DecodeProgHeader(h.Class, b)
			switch p.Type {
			case elf.PT_LOAD:
				if err := f.addSegment(p, off); err != nil {
					return err
				}
			case elf.PT_NOTE:
				if p.Off > math.MaxInt64 || p.Filesz > math.MaxInt64-p.Off {
					return &FormatError{off, fmt.Sprintf("notes at %#x+%#x: out of range", p.Off, p.Filesz)}
				}
				s := fileRange{int64(p.Off), int64(p.Off + p.Filesz)}
				// Many headers for the same notes would make a small file cost a lot.
				if noteBytes += max(0, min(s.end, f.size)-s.off); noteBytes > f.size {
					return &FormatError{off, "note segments overlap"}
				}
				f.notes = append(f.notes, s)
			}
		}
	}
	return nil
}

// addSegment keeps a PT_LOAD, whose header lies at off.
func (f *File) addSegment(p elf.ProgHeader, off int64) error {
	switch {
	case p.Filesz > p.Memsz:
		return &FormatError{off, fmt.Sprintf("segment at address %#x: %#x bytes in the file for %#x in memory", p.Vaddr, p.Filesz, p.Memsz)}
	case p.Vaddr > math.MaxUint64-p.Memsz:
		return &FormatError{off, fmt.Sprintf("segment at address %#x: %#x bytes leave the address space", p.Vaddr, p.Memsz)}
	case p.Off > math.MaxInt64 || p.Filesz > math.MaxInt64-p.Off:
		return &FormatError{off, fmt.Sprintf("segment at address %#x: file offset %#x+%#x is out of range", p.Vaddr, p.Off, p.Filesz)}
	case p.Memsz == 0:
		return nil
	}
	start := procmem.Addr(p.Vaddr)
	f.segs = append(f.segs, segment{
		Range:  procmem.Range{Start: start, End: start + procmem.Addr(p.Memsz)},
		dumped: start + procmem.Addr(p.Filesz),
		off:    int64(p.Off), perm: elfcore.FlagsPerm(p.Flags),
	})
	return nil
}

// sortSegments sorts the segments and makes them disjoint.
func (f *File) sortSegments() {
	slices.SortStableFunc(f.segs, func(a, b segment) int { return cmp.Compare(a.Start, b.Start) })
	kept := f.segs[:0]
	var end procmem.Addr
	for _, s := range f.segs {
		if s.End <= end {
			continue
		}
		if s.Start < end {
			s.off += int64(min(end, s.dumped) - min(s.Start, s.dumped))
			s.Start, s.dumped = end, max(end, s.dumped)
		}
		end = s.End
		kept = append(kept, s)
	}
	f.segs = kept
}
