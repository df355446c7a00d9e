package core

import (
	"bytes"
	"debug/elf"
	"slices"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/elfcore"
	"github.com/procmem/procmem/internal/pageset"
)

// identifier finds the pages that identify ELF files. These are the page with the ELF header
// and those with the build id, which may lie in a later mapping of the same file.
type identifier struct {
	img  *procmem.Image
	mem  procmem.Memory
	want []procmem.Range // nothing below the mapping that is looked at
	read uint64          // bytes of notes so far
}

// The search is bounded, because a process may map a file thousands of times whose headers were
// made to cost time.
const (
	// maxIdentityNote is how many bytes are read of one PT_NOTE of an ELF file. Those of
	// linkers are below 200 bytes.
	maxIdentityNote = 64 << 10
	// maxIdentityNotes is how many PT_NOTEs are looked at in one file.
	maxIdentityNotes = 16
	// maxIdentityRead is how many bytes are read of all files.
	maxIdentityRead = 16 << 20
	// maxFileMappings is how many mappings of a file are searched for a note.
	maxFileMappings = 128
)

// look notes the pages that identify the ELF file that mapping i begins. The header's own page
// counts only if header is true. Otherwise the mapping is dumped anyway, and only a build id
// elsewhere matters.
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
	looked := 0
	for p := range elfcore.NotesOfPage(page) {
		if p.Filesz > maxIdentityNote {
			continue
		}
		if a, size, ok := d.buildID(i, p); ok {
			d.add(a, size)
		}
		if looked++; looked == maxIdentityNotes {
			break
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

// pages returns the noted pages inside m, ascending and disjoint.
func (d *identifier) pages(m *procmem.Mapping) []procmem.Range {
	// Mappings come in ascending order, so ranges that end before this one are done.
	d.want = slices.DeleteFunc(d.want, func(w procmem.Range) bool { return w.End <= m.Start })
	var in []procmem.Range
	for _, w := range d.want {
		if r := w.Intersect(m.Range); !r.Empty() {
			in = append(in, r)
		}
	}
	return pageset.Merge(in)
}

// buildID returns the address and size of the notes up to NT_GNU_BUILD_ID. ok is false if that
// note is not in segment p of the file that mapping first begins.
func (d *identifier) buildID(first int, p elf.ProgHeader) (procmem.Addr, uint64, bool) {
	const ntGNUBuildID = 3
	file := &d.img.Mappings[first]
	for i := first; i < min(len(d.img.Mappings), first+maxFileMappings); i++ {
		m := &d.img.Mappings[i]
		if m.Path != file.Path || m.Inode != file.Inode {
			break
		}
		if p.Off < m.Offset || p.Off-m.Offset >= m.Size() {
			continue
		}
		at := m.Start + procmem.Addr(p.Off-m.Offset)
		size := min(p.Filesz, uint64(m.End-at))
		if d.read += size; d.read > maxIdentityRead {
			break
		}
		b := make([]byte, size)
		n, _ := d.mem.ReadAt(b, at)
		var id *elfcore.NoteInfo
		// A malformed note is the executable's problem, not the core's.
		_ = elfcore.ScanNotes(bytes.NewReader(b[:n]), 0, int64(n), int64(n), func(note elfcore.NoteInfo) bool {
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
