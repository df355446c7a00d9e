package elffile

import "debug/elf"

// BuildID reads the build id of the file, nil if it has none. Files of debug information keep
// it in a section, which a program may lack.
func (f *File) BuildID() []byte {
	if s, err := f.Named(".note.gnu.build-id"); err == nil {
		if h, ok := s[".note.gnu.build-id"]; ok && h.Type != elf.SHT_NOBITS && h.Size <= MaxNotes {
			if b, err := f.Part(h.Off, h.Size); err == nil {
				if id := BuildID(b); id != nil {
					return id
				}
			}
		}
	}
	segs, err := f.Segments()
	if err != nil {
		return nil
	}
	notes := 0
	for _, s := range segs {
		if s.Type != elf.PT_NOTE || s.FileSize > MaxNotes {
			continue
		}
		if notes++; notes > MaxNoteSegments {
			break
		}
		if b, err := f.Part(s.Off, s.FileSize); err == nil {
			if id := BuildID(b); id != nil {
				return id
			}
		}
	}
	return nil
}
