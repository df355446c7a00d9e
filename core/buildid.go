package core

import (
	"bytes"
	"debug/elf"
	"slices"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
)

// identifier finds the pages that identify ELF files: the one with the ELF
// header, and those with the build id, which may lie in a later mapping of
// the same file.
type identifier struct {
	img  *procmem.Image
	mem  procmem.Memory
	want []procmem.Range // not below the mapping that is looked at
	read uint64          // bytes of notes so far
}

// What is looked at is bounded: a process may map a file thousands of times whose
// headers were made to cost time.
const (
	// maxIdentityNote is how much is read of one PT_NOTE of an ELF file, in bytes.
	// Those of linkers are below 200 bytes.
	maxIdentityNote = 64 << 10
	// maxIdentityNotes is how many are looked at of one file.
	maxIdentityNotes = 16
	// maxIdentityRead is how much is read of all files.
	maxIdentityRead = 16 << 20
	// maxFileMappings is in how many mappings of a file a note is looked for.
	maxFileMappings = 128
)

// look notes the pages that identify the ELF file that mapping i begins. The
// header's own page counts only where header is true: otherwise the mapping
// is dumped anyway, and only the build id elsewhere is of interest.
func (d *identifier) look(i int, header bool) {
	m := &d.img.Mappings[i]
	if !m.HasFile() || m.Shared() || m.Offset != 0 || m.Perm&procmem.PermRead == 0 ||
		m.Flags&(procmem.VMIO|procmem.VMPFNMap) != 0 {
		return
	}
	page := make([]byte, min(procmem.PageSize, m.Size()))
	n, _ := d.mem.ReadAt(page, m.Start)
	page = page[:n]
	if !bytes.HasPrefix(page, []byte(elf.ELFMAG)) {
		return
	}
	if header {
		d.add(m.Start, 1)
	}
	for _, p := range notesOfPage(page) {
		if a, size, ok := d.buildID(i, p); ok {
			d.add(a, size)
		}
	}
}

// add wants the pages that hold [a, a+size).
func (d *identifier) add(a procmem.Addr, size uint64) {
	end, err := a.Add(size + procmem.PageSize - 1)
	if err != nil {
		return
	}
	d.want = append(d.want, procmem.Range{Start: a.PageDown(), End: end.PageDown()})
}

// pages returns what was noted inside m, ascending and disjoint.
func (d *identifier) pages(m *procmem.Mapping) []procmem.Range {
	// Mappings come in ascending order, so what ends before this one is done.
	d.want = slices.DeleteFunc(d.want, func(w procmem.Range) bool { return w.End <= m.Start })
	var in []procmem.Range
	for _, w := range d.want {
		if r := w.Intersect(m.Range); !r.Empty() {
			in = append(in, r)
		}
	}
	return pageset.Merge(in)
}

// notesOfPage returns the PT_NOTE headers in the first page of an ELF file.
func notesOfPage(page []byte) []phdr {
	h, err := decodeEHeader(page)
	if err != nil {
		return nil
	}
	var notes []phdr
	step := phdrSize(h.class)
	for k := range int(min(h.phnum, procmem.PageSize)) {
		at := h.phoff + uint64(k*step)
		if at < h.phoff || at+uint64(step) > uint64(len(page)) {
			break
		}
		if p := decodePHdr(h.class, page[at:]); p.typ == uint32(elf.PT_NOTE) && p.filesz <= maxIdentityNote {
			if notes = append(notes, p); len(notes) == maxIdentityNotes {
				break
			}
		}
	}
	return notes
}

// buildID returns where in memory the NT_GNU_BUILD_ID note lies, if it is in
// the segment p of the file that mapping first begins.
func (d *identifier) buildID(first int, p phdr) (procmem.Addr, uint64, bool) {
	const ntGNUBuildID = 3
	file := &d.img.Mappings[first]
	for i := first; i < min(len(d.img.Mappings), first+maxFileMappings); i++ {
		m := &d.img.Mappings[i]
		if m.Path != file.Path || m.Inode != file.Inode {
			break
		}
		if p.off < m.Offset || p.off-m.Offset >= m.Size() {
			continue
		}
		at := m.Start + procmem.Addr(p.off-m.Offset)
		size := min(p.filesz, uint64(m.End-at))
		if d.read += size; d.read > maxIdentityRead {
			break
		}
		b := make([]byte, size)
		n, _ := d.mem.ReadAt(b, at)
		var id *NoteInfo
		// A malformed note is the executable's problem, not the core's.
		_ = scanNotes(bytes.NewReader(b[:n]), 0, int64(n), int64(n), func(note NoteInfo) bool {
			if note.Name == "GNU" && note.Type == ntGNUBuildID {
				id = &note
			}
			return id == nil
		})
		if id != nil {
			return at, uint64(id.Offset + id.Size), true
		}
	}
	return 0, 0, false
}

func compareRanges(a, b procmem.Range) int {
	switch {
	case a.Start < b.Start:
		return -1
	case a.Start > b.Start:
		return 1
	}
	return 0
}
