package core

import (
	"debug/elf"
	"fmt"
	"math"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
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

	headRoom int64  // in front of notes and memory, for the headers
	memEnd   int64  // where the memory ends in the file
	memory   uint64 // sum of the dumped segments, in bytes

	noteOff  int64 // of the standard notes
	noteSize int64
	ownOff   int64 // of the notes of procmem
	ownSize  int64
	tableOff int64 // of the program headers
}

// newLayout lays out the segments, which must be ascending and page-aligned,
// with room for so many bytes of notes in front of them.
func newLayout(arch procmem.Arch, segs []Segment, notesBefore int64) (*layout, error) {
	l := &layout{class: classOf(arch), segs: segs, offs: make([]int64, len(segs))}
	var err error
	if l.machine, err = machineOf(arch); err != nil {
		return nil, fmt.Errorf("lay out core: %w", err)
	}
	if err := l.check(); err != nil {
		return nil, fmt.Errorf("lay out core: %w", err)
	}
	l.headRoom = int64(ehdrSize(l.class)) + l.tableSize()
	off := pageUp(l.headRoom + notesBefore)
	if notesBefore == 0 {
		l.headRoom = off // should there be more of them in the end
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

// check tells whether the segments are fit for a core.
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

// settle returns the layout with other segments, whose memory lies where the
// store has a place for it, and to which the store is cut down. Places need not follow one another as addresses
// do, so a segment may become several.
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
	at := l.headRoom // elfutils wants offsets that ascend, of what is not there too
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

// placeNotes fixes where the notes lie: the standard ones at off, those of
// procmem behind the memory and all else but the program headers, where there
// is no room for these in front. It returns the size of the core.
func (l *layout) placeNotes(off, standard, own int64) (size int64, err error) {
	l.noteOff, l.noteSize = off, standard
	l.ownOff, l.ownSize = max(l.memEnd, off+standard), own
	size = l.ownOff + own
	l.tableOff = int64(ehdrSize(l.class))
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

// tableSize is the size of the program headers, and of the section header
// with their number where there has to be one.
func (l *layout) tableSize() int64 {
	n := int64(l.phnum()) * int64(phdrSize(l.class))
	if l.phnum() >= maxPlainHeaders {
		n += int64(shdrSize(l.class))
	}
	return n
}

// headers returns the ELF header and the program headers.
func (l *layout) headers() (head, table []byte) {
	head = appendEHeader(nil, l.class, l.machine, l.phnum(), uint64(l.tableOff))
	b := make([]byte, 0, l.tableSize())
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
	note.off, note.filesz = uint64(l.ownOff), uint64(l.ownSize)
	b = appendPHdr(b, l.class, note)
	if l.phnum() >= maxPlainHeaders {
		b = appendCountHeader(b, l.class, l.phnum())
	}
	return head, b
}

// stretches yields the dumped memory in ascending order. Segments that lie
// side by side, in memory as in the file, are one: tens of thousands of small
// mappings are copied as one large one.
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
