package core

import (
	"debug/elf"
	"fmt"
	"math"

	"github.com/procmem/procmem"
)

// noteSegments is the number of PT_NOTE segments of a core: the standard notes
// first, since some readers (elfutils, delve) take only the first, and those
// of procmem last.
const noteSegments = 2

// layout fixes where everything lies in a core: headers, then the memory page
// by page, then the notes of procmem. The standard notes are in front of the
// memory in a stream, where all must be known before the first byte of it, and
// behind it in a file, where they may become known while it is copied.
type layout struct {
	class   elf.Class
	machine elf.Machine
	segs    []Segment
	offs    []int64 // where each segment lies in the file

	headSize int64  // of what precedes notes and memory
	memEnd   int64  // where the memory ends in the file
	memory   uint64 // sum of the dumped segments, in bytes

	noteOff  int64 // of the standard notes
	noteSize int64
	ownOff   int64 // of the notes of procmem
}

// newLayout lays out the segments, which must be ascending and page-aligned,
// with room for so many bytes of notes in front of them.
func newLayout(arch procmem.Arch, segs []Segment, notesBefore int64) (*layout, error) {
	l := &layout{class: classOf(arch), segs: segs, offs: make([]int64, len(segs))}
	var err error
	if l.machine, err = machineOf(arch); err != nil {
		return nil, fmt.Errorf("lay out core: %w", err)
	}
	l.headSize = int64(ehdrSize(l.class)) + int64(l.phnum())*int64(phdrSize(l.class))
	if l.phnum() >= maxPlainHeaders {
		l.headSize += int64(shdrSize(l.class))
	}
	off := pageUp(l.headSize + notesBefore)
	var last procmem.Addr
	for i, s := range l.segs {
		if s.Empty() || s.Start != s.Start.PageDown() || s.End != s.End.PageDown() || s.Start < last {
			return nil, fmt.Errorf("lay out core: segment %v: not page-aligned, empty, or not behind the one before", s.Range)
		}
		if l.class == elf.ELFCLASS32 && s.End > 1<<32 {
			return nil, fmt.Errorf("lay out core: segment %v: not an address of 32 bits", s.Range)
		}
		last = s.End
		l.offs[i] = off
		if !s.Dumped {
			continue
		}
		if s.Size() > uint64(l.limit()-off) {
			return nil, fmt.Errorf("lay out core: segment %v: it would end at file offset %#x, beyond the %#x that an %v file can express",
				s.Range, uint64(off)+s.Size(), l.limit(), l.class)
		}
		off += int64(s.Size())
		l.memory += s.Size()
	}
	l.memEnd = off
	return l, nil
}

// placeNotes fixes where the notes lie: the standard ones at off, those of
// procmem behind the memory and all else. It returns the size of the core.
func (l *layout) placeNotes(off, standard, own int64) (size int64, err error) {
	l.noteOff, l.noteSize = off, standard
	l.ownOff = max(l.memEnd, off+standard)
	if size = l.ownOff + own; size > l.limit() || size < 0 {
		return 0, fmt.Errorf("lay out core: it would end at file offset %#x, beyond the %#x that an %v file can express",
			uint64(size), l.limit(), l.class)
	}
	return size, nil
}

// limit is the highest offset that a program header can express.
func (l *layout) limit() int64 {
	if l.class == elf.ELFCLASS32 {
		return math.MaxUint32
	}
	return math.MaxInt64
}

func pageUp(n int64) int64 { return (n + procmem.PageSize - 1) &^ (procmem.PageSize - 1) }

// phnum is the number of program headers.
func (l *layout) phnum() int { return len(l.segs) + noteSegments }

// head returns the headers of a core of the given size.
func (l *layout) head(size int64) []byte {
	b := make([]byte, 0, l.headSize)
	b = appendEHeader(b, l.class, l.machine, l.phnum())
	note := phdr{typ: uint32(elf.PT_NOTE), align: 4}
	note.off, note.filesz = uint64(l.noteOff), uint64(l.noteSize)
	b = appendPHdr(b, l.class, note)
	for i, s := range l.segs {
		p := phdr{typ: uint32(elf.PT_LOAD), flags: permFlags(s.Perm), off: uint64(l.offs[i]),
			vaddr: uint64(s.Start), memsz: s.Size(), align: procmem.PageSize}
		if s.Dumped {
			p.filesz = p.memsz
		}
		b = appendPHdr(b, l.class, p)
	}
	note.off, note.filesz = uint64(l.ownOff), uint64(size-l.ownOff)
	b = appendPHdr(b, l.class, note)
	if l.phnum() >= maxPlainHeaders {
		b = appendCountHeader(b, l.class, l.phnum())
	}
	return b
}
