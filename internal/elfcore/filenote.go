package elfcore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/procmem/procmem"
)

// FileEntry is one line of the NT_FILE note: a mapping of a file.
type FileEntry struct {
	procmem.Range
	Offset uint64 // of Start in the file, in bytes
	Path   string
}

// EncodeFiles returns the descriptor of the NT_FILE note (fs/binfmt_elf.c, fill_files_note). It
// has the count and the page size, then {start, end, offset in pages} of each mapping with a
// file, then as many names.
func EncodeFiles(a procmem.Arch, ms []procmem.Mapping) []byte {
	put := func(b []byte, v uint64) []byte {
		if a.WordSize() == 4 {
			return binary.LittleEndian.AppendUint32(b, uint32(v))
		}
		return binary.LittleEndian.AppendUint64(b, v)
	}
	var entries, names []byte
	var count uint64
	for i := range ms {
		m := &ms[i]
		if !m.HasFile() {
			continue
		}
		count++
		entries = put(put(put(entries, uint64(m.Start)), uint64(m.End)), m.Offset/procmem.PageSize)
		names = append(append(names, m.Path...), 0)
	}
	b := put(put(nil, count), procmem.PageSize)
	return append(append(b, entries...), names...)
}

// DecodeFiles reads the descriptor of an NT_FILE note. off is its offset in the file, for
// errors. The entries come in the order of the note.
func DecodeFiles(a procmem.Arch, b []byte, off int64) ([]FileEntry, error) {
	w := a.WordSize()
	if len(b) < 2*w {
		return nil, &FormatError{off, fmt.Sprintf("FILE note of %d bytes has no header", len(b))}
	}
	count, unit := wordAt(a, b), wordAt(a, b[w:])
	if most := uint64(len(b)/w-2) / 3; count > most {
		return nil, &FormatError{off, fmt.Sprintf("FILE note of %d bytes claims %d entries", len(b), count)}
	}
	entries := make([]FileEntry, count)
	names := b[w*(2+3*int(count)):]
	for i := range entries {
		e := b[w*(2+3*i):]
		end := bytes.IndexByte(names, 0)
		if end < 0 {
			return nil, &FormatError{off, fmt.Sprintf("FILE note has %d names for %d entries", i, count)}
		}
		pages := wordAt(a, e[2*w:])
		if unit != 0 && pages > math.MaxUint64/unit {
			return nil, &FormatError{off, fmt.Sprintf("FILE entry %d: offset of %d pages is out of range", i, pages)}
		}
		entries[i] = FileEntry{
			Range:  procmem.Range{Start: procmem.Addr(wordAt(a, e)), End: procmem.Addr(wordAt(a, e[w:]))},
			Offset: pages * unit,
			Path:   string(names[:end]),
		}
		names = names[end+1:]
	}
	return entries, nil
}

// wordAt decodes the word of the architecture at the front of b.
func wordAt(a procmem.Arch, b []byte) uint64 {
	if a.WordSize() == 4 {
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return binary.LittleEndian.Uint64(b)
}
