package core

import (
	"debug/elf"
	"fmt"
	"math"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/elfcore"
	"github.com/procmem/procmem/internal/pageset"
)

// noteSegments is the number of PT_NOTE segments of a core. The standard notes come first,
// because some readers (elfutils, delve) take only the first segment. Those of procmem come
// last.
const noteSegments = 2

// layout fixes where everything lies in a core: headers, then memory page by page, then the
// notes of procmem. In a stream the standard notes precede the memory, so all of them must be
// known before its first byte. In a file they follow it, and may become known while it is
// copied.
type layout struct {
	class   elf.Class
	machine elf.Machine
	segs    []Segment
	offs    []int64 // file offset of each segment

	headRoom int64  // bytes before notes and memory, for the headers
	memEnd   int64  // file offset of the end of the memory
	memory   uint64 // sum of the dumped segments, in bytes

	noteOff  int64 // file offset of the standard notes
	noteSize int64
	ownOff   int64 // file offset of the notes of procmem
	ownSize  int64
	tableOff int64 // file offset of the program headers
}

// newLayout returns a layout of segments, with room for notesBefore bytes of notes before them.
// It fails if the segments are not ascending and page-aligned, or do not fit the ELF class.
func newLayout(arch procmem.Arch, segs []Segment, notesBefore int64) (*layout, error) {
	l := &layout{class: elfcore.ClassOf(arch), segs: segs, offs: make([]int64, len(segs))}
	var err error
	if l.machine, err = elfcore.MachineOf(arch); err != nil {
		return nil, fmt.Errorf("lay out core: %w", err)
	}
	if err := l.check(); err != nil {
		return nil, fmt.Errorf("lay out core: %w", err)
	}
	l.headRoom = int64(elfcore.HeaderSize(l.class)) + l.tableSize()
	off := pageUp(l.headRoom + notesBefore)
	if notesBefore == 0 {
		l.headRoom = off // room for more program headers in the end
	}
	for i, s := range l.segs {
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

// check returns why the segments do not fit a core, or nil.
func (l *layout) check() error {
	var last procmem.Addr
	for _, s := range l.segs {
		if s.Empty() || s.Start != s.Start.PageDown() || s.End != s.End.PageDown() || s.Start < last {
			return fmt.Errorf("segment %v: not page-aligned, empty, or not behind the one before", s.Range)
		}
		if l.class == elf.ELFCLASS32 && s.End > 1<<32 {
			return fmt.Errorf("segment %v: not an address of 32 bits", s.Range)
		}
		last = s.End
	}
	return nil
}

// settle returns the layout with other segments, whose memory lies where the store has a place
// for it. The store is cut down to them. Places need not follow one another as addresses do, so
// a segment may become several.
func (l *layout) settle(segs []Segment, store store) (*layout, error) {
	if err := (&layout{class: l.class, segs: segs}).check(); err != nil {
		return nil, err
	}
	var dumped []procmem.Range
	for _, s := range segs {
		if s.Dumped {
			dumped = append(dumped, s.Range)
		}
	}
	places, err := store.Settle(dumped)
	if err != nil {
		return nil, err
	}
	out := &layout{class: l.class, machine: l.machine, headRoom: l.headRoom, memEnd: store.End()}
	at := l.headRoom // elfutils wants ascending offsets, even for what is not dumped
	for _, s := range segs {
		if !s.Dumped {
			out.segs, out.offs = append(out.segs, s), append(out.offs, at)
			continue
		}
		out.memory += s.Size()
		for len(places) > 0 && places[0].End <= s.End {
			out.segs = append(out.segs, Segment{places[0].Range, s.Perm, true})
			out.offs = append(out.offs, int64(places[0].Start)+places[0].Delta)
			at = int64(places[0].End) + places[0].Delta
			places = places[1:]
		}
	}
	return out, nil
}

// placeNotes fixes the places of the notes, and returns the size of the core. The standard
// notes lie at off. Those of procmem come last. Only program headers that do not fit at the
// front come after them.
func (l *layout) placeNotes(off, standard, own int64) (size int64, err error) {
	l.noteOff, l.noteSize = off, standard
	l.ownOff, l.ownSize = max(l.memEnd, off+standard), own
	size = l.ownOff + own
	l.tableOff = int64(elfcore.HeaderSize(l.class))
	if l.tableOff+l.tableSize() > l.headRoom {
		l.tableOff = (size + 7) &^ 7
		size = l.tableOff + l.tableSize()
	}
	if size > l.limit() || size < 0 {
		return 0, fmt.Errorf("lay out core: it would end at file offset %#x, beyond the %#x that an %v file can express",
			uint64(size), l.limit(), l.class)
	}
	return size, nil
}

// limit is the highest file offset that a program header can express.
func (l *layout) limit() int64 {
	if l.class == elf.ELFCLASS32 {
		return math.MaxUint32
	}
	return math.MaxInt64
}

func pageUp(n int64) int64 { return (n + procmem.PageSize - 1) &^ (procmem.PageSize - 1) }

// phnum is the number of program headers.
func (l *layout) phnum() int { return len(l.segs) + noteSegments }

// tableSize is the size, in bytes, of the program headers, and of the section header with their
// number where one is needed.
func (l *layout) tableSize() int64 {
	n := int64(l.phnum()) * int64(elfcore.ProgHeaderSize(l.class))
	if l.phnum() >= elfcore.MaxPlainHeaders {
		n += int64(elfcore.SectionHeaderSize(l.class))
	}
	return n
}

// headers returns the ELF header and the program headers.
func (l *layout) headers() (head, table []byte) {
	head = elfcore.AppendHeader(nil, l.class, l.machine, l.phnum(), uint64(l.tableOff))
	b := make([]byte, 0, l.tableSize())
	note := elf.ProgHeader{Type: elf.PT_NOTE, Align: 4}
	note.Off, note.Filesz = uint64(l.noteOff), uint64(l.noteSize)
	b = elfcore.AppendProgHeader(b, l.class, note)
	for i, s := range l.segs {
		p := elf.ProgHeader{Type: elf.PT_LOAD, Flags: elfcore.PermFlags(s.Perm), Off: uint64(l.offs[i]),
			Vaddr: uint64(s.Start), Memsz: s.Size(), Align: procmem.PageSize}
		if s.Dumped {
			p.Filesz = p.Memsz
		}
		b = elfcore.AppendProgHeader(b, l.class, p)
	}
	note.Off, note.Filesz = uint64(l.ownOff), uint64(l.ownSize)
	b = elfcore.AppendProgHeader(b, l.class, note)
	if l.phnum() >= elfcore.MaxPlainHeaders {
		b = elfcore.AppendCountHeader(b, l.class, l.phnum())
	}
	return head, b
}

// stretches yields the dumped memory in ascending order. Segments that are adjacent in memory
// and in the file become one place. So tens of thousands of small mappings are copied as one
// large one.
func (l *layout) stretches(yield func(pageset.Place) bool) {
	var cur pageset.Place
	for i, s := range l.segs {
		if !s.Dumped {
			continue
		}
		delta := l.offs[i] - int64(s.Start)
		if !cur.Empty() && s.Start == cur.End && delta == cur.Delta {
			cur.End = s.End
			continue
		}
		if !cur.Empty() && !yield(cur) {
			return
		}
		cur = pageset.Place{Range: s.Range, Delta: delta}
	}
	if !cur.Empty() {
		yield(cur)
	}
}
