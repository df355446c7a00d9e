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

// Layout fixes where everything lies in a core file:
//
//	ELF header | program headers | standard notes | memory, page by page | notes of procmem
//
// so that it can be written front to back, all being known before the memory
// is read but the report, for which a stream keeps room.
type Layout struct {
	arch    procmem.Arch
	machine elf.Machine
	segs    []Segment
	offs    []int64 // where each segment lies in the file

	notes   []byte // contents of the first PT_NOTE
	noteOff int64
	own     []byte // the notes of procmem that are known in advance
	ownOff  int64  // where the second PT_NOTE begins
	room    int64  // bytes for the JSON of the report, in a stream

	mappings       int
	threads        int
	threadsMissing []ThreadMissing
	memory         uint64 // sum of the dumped segments, in bytes
}

// NewLayout lays out a core of img that holds the segments, which must be
// ascending and page-aligned, and the standard notes.
func NewLayout(img *procmem.Image, segs []Segment, notes []Note) (*Layout, error) {
	l := &Layout{arch: img.Arch, segs: segs, offs: make([]int64, len(segs)),
		mappings: len(img.Mappings), threads: len(img.Threads)}
	var err error
	if l.machine, err = machineOf(img.Arch); err != nil {
		return nil, fmt.Errorf("lay out core: %w", err)
	}
	if l.notes, err = encodeNotes(notes); err != nil {
		return nil, fmt.Errorf("lay out core: %w", err)
	}
	own := []Note{
		{ownerProcmem, ntMaps, encodeMaps(img.Mappings)},
		{ownerProcmem, ntThreads, encodeThreads(img.Threads)},
	}
	if l.own, err = encodeNotes(own); err != nil {
		return nil, fmt.Errorf("lay out core: %w", err)
	}
	for i := range img.Threads {
		if t := &img.Threads[i]; t.Err != nil {
			l.threadsMissing = append(l.threadsMissing, ThreadMissing{t.TID, t.Err.Error()})
		}
	}
	l.room = reportRoom(len(segs), len(l.threadsMissing))
	if err := l.place(); err != nil {
		return nil, fmt.Errorf("lay out core: %w", err)
	}
	return l, nil
}

// place computes the offsets.
func (l *Layout) place() error {
	class := classOf(l.arch)
	limit := int64(math.MaxInt64)
	if class == elf.ELFCLASS32 {
		limit = math.MaxUint32
	}
	off := int64(ehdrSize(class)) + int64(l.phnum())*int64(phdrSize(class))
	if l.phnum() >= maxPlainHeaders {
		off += int64(shdrSize(class))
	}
	l.noteOff = off
	off = pageUp(off + int64(len(l.notes)))
	var last procmem.Addr
	for i, s := range l.segs {
		if s.Empty() || s.Start != s.Start.PageDown() || s.End != s.End.PageDown() || s.Start < last {
			return fmt.Errorf("segment %v: not page-aligned, empty, or not behind the one before", s.Range)
		}
		if class == elf.ELFCLASS32 && s.End > 1<<32 {
			return fmt.Errorf("segment %v: not an address of 32 bits", s.Range)
		}
		last = s.End
		l.offs[i] = off
		if !s.Dumped {
			continue
		}
		if s.Size() > uint64(limit-off) {
			return fmt.Errorf("segment %v: it would end at file offset %#x, beyond the %#x that an %v file can express",
				s.Range, uint64(off)+s.Size(), limit, class)
		}
		off += int64(s.Size())
		l.memory += s.Size()
	}
	l.ownOff = off
	if own := l.ownSize(l.room); own > limit-off {
		return fmt.Errorf("notes at file offset %#x: beyond the %#x that an %v file can express", off, limit, class)
	}
	return nil
}

func pageUp(n int64) int64 { return (n + procmem.PageSize - 1) &^ (procmem.PageSize - 1) }

// phnum is the number of program headers.
func (l *Layout) phnum() int { return len(l.segs) + noteSegments }

// ownSize is the size of the second PT_NOTE with a report of so many bytes.
func (l *Layout) ownSize(report int64) int64 {
	return int64(len(l.own)) + noteSize(ownerProcmem, report)
}

// Size returns the size of the core in bytes, holes included: exactly that of
// a stream, while a file ends up to the room for the report sooner.
func (l *Layout) Size() int64 { return l.ownOff + l.ownSize(l.room) }

// head returns what lies before the memory, where the report has so many
// bytes.
func (l *Layout) head(report int64) []byte {
	class := classOf(l.arch)
	b := make([]byte, 0, l.noteOff+int64(len(l.notes)))
	b = appendEHeader(b, class, l.machine, l.phnum())
	note := phdr{typ: uint32(elf.PT_NOTE), align: 4}
	note.off, note.filesz = uint64(l.noteOff), uint64(len(l.notes))
	b = appendPHdr(b, class, note)
	for i, s := range l.segs {
		p := phdr{typ: uint32(elf.PT_LOAD), flags: permFlags(s.Perm), off: uint64(l.offs[i]),
			vaddr: uint64(s.Start), memsz: s.Size(), align: procmem.PageSize}
		if s.Dumped {
			p.filesz = p.memsz
		}
		b = appendPHdr(b, class, p)
	}
	note.off, note.filesz = uint64(l.ownOff), uint64(l.ownSize(report))
	b = appendPHdr(b, class, note)
	if l.phnum() >= maxPlainHeaders {
		b = appendCountHeader(b, class, l.phnum())
	}
	return append(b, l.notes...)
}

// tail returns the second PT_NOTE.
func (l *Layout) tail(report []byte) []byte {
	b := make([]byte, 0, l.ownSize(int64(len(report))))
	b = append(b, l.own...)
	return appendNote(b, Note{ownerProcmem, ntReport, report})
}
