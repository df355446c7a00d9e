package elfcore

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/procmem/procmem"
)

// FuzzNotes scans anything as notes, in a file that may be cut off.
func FuzzNotes(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		end, size := int64(len(b)), int64(len(b))-int64(cut)%(int64(len(b))+1)
		var last int64
		_ = ScanNotes(bytes.NewReader(b[:size]), 0, end, size, func(n NoteInfo) bool {
			if n.Offset < last || n.Size < 0 || n.Offset+n.Size > size {
				t.Fatalf("note %+v in %d bytes, behind %d", n, size, last)
			}
			last = n.Offset + n.Size
			return true
		})
	})
}

// FuzzFileNote decodes anything as NT_FILE, and what it accepts survives being
// joined with a segment.
func FuzzFileNote(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte, small bool) {
		arch := procmem.AMD64
		if small {
			arch = procmem.I386
		}
		entries, err := DecodeFiles(arch, b, 0)
		if err != nil {
			if entries != nil {
				t.Fatal("entries and an error")
			}
			return
		}
		var end procmem.Addr
		for _, m := range JoinMappings([]Load{{rng(0x1000, 0x80000000), rw}}, entries) {
			if m.Empty() || m.Start < end {
				t.Fatalf("%v is empty or overlaps", m.Range)
			}
			end = m.End
		}
	})
}

// FuzzMapsNote decodes anything as the text of maps; what it accepts must
// survive being written and read again.
func FuzzMapsNote(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		ms, err := DecodeMaps(text)
		if err != nil {
			return
		}
		again, err := DecodeMaps(string(EncodeMaps(ms)))
		if err != nil || !reflect.DeepEqual(ms, again) {
			t.Fatalf("%v became %v: %v", ms, again, err)
		}
	})
}
