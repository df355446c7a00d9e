package elfcore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/procmem/procmem"
)

// Types of notes that are not register sets (include/uapi/linux/elf.h).
const (
	NTPRPSInfo    = 3
	NTAuxv        = 6
	NTFile        = 0x46494c45
	NTSigInfo     = 0x53494749
	NTXSaveLayout = 0x205
)

// Owners of notes in cores of Linux.
const (
	OwnerCore  = "CORE"
	OwnerLinux = "LINUX"
)

// The notes of procmem itself. Owner and types are both unique, because BFD goes by the type
// alone where it does not know the owner.
const (
	OwnerProcmem = "procmem"
	NTMaps       = 0x70726f63 // text of /proc/PID/maps
	NTReport     = 0x70726f64 // Report as JSON, maybe padded with spaces
	NTThreads    = 0x70726f65 // a line "TID STATE NAME" for each thread
	NTSums       = 0x70726f66 // checksums, which package checksums encodes
)

// Note is one ELF note.
type Note struct {
	Name string // the owner, such as "CORE", without the NUL
	Type uint32 // NT_*; its meaning depends on the owner
	Desc []byte
}

// NoteHeaderSize is the size, in bytes, of what precedes the owner of a note.
const NoteHeaderSize = 12

// NotePad returns n rounded up to the alignment of notes. Cores of Linux use four bytes in
// 64-bit files, too (fs/binfmt_elf.c, notesize).
func NotePad(n int64) int64 { return (n + 3) &^ 3 }

// NoteSize returns the bytes that a note with a descriptor of desc bytes takes in a file.
func NoteSize(name string, desc int64) int64 {
	return NoteHeaderSize + NotePad(int64(len(name))+1) + NotePad(desc)
}

// AppendNote appends the encoded note to b. The length of b must be a multiple of four.
func AppendNote(b []byte, n Note) []byte {
	b = AppendNoteHead(b, n.Name, n.Type, int64(len(n.Desc)))
	b = append(b, n.Desc...)
	return appendPad(b, NotePad(int64(len(n.Desc)))-int64(len(n.Desc)))
}

// AppendNoteHead appends what precedes a descriptor of desc bytes. The length of b must be a
// multiple of four.
func AppendNoteHead(b []byte, name string, typ uint32, desc int64) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(name)+1))
	b = binary.LittleEndian.AppendUint32(b, uint32(desc))
	b = binary.LittleEndian.AppendUint32(b, typ)
	b = append(b, name...)
	return appendPad(b, NotePad(int64(len(name))+1)-int64(len(name)))
}

func appendPad(b []byte, n int64) []byte { return append(b, make([]byte, n)...) }

// EncodeNotes returns the contents of a PT_NOTE segment.
func EncodeNotes(notes []Note) ([]byte, error) {
	var size int64
	for _, n := range notes {
		if int64(len(n.Desc)) > math.MaxUint32 {
			return nil, fmt.Errorf("encode note %s/%#x: %d bytes do not fit a note", n.Name, n.Type, len(n.Desc))
		}
		size += NoteSize(n.Name, int64(len(n.Desc)))
	}
	b := make([]byte, 0, size)
	for _, n := range notes {
		b = AppendNote(b, n)
	}
	return b, nil
}

// NoteInfo says what a note is and where its descriptor lies in the file.
type NoteInfo struct {
	Name   string // the owner
	Type   uint32 // NT_*
	Size   int64  // of the descriptor, in bytes
	Offset int64  // of the descriptor in the file, in bytes
}

// MaxNoteName is the longest owner, in bytes, that is shown whole. Known owners are shorter
// than ten bytes.
const MaxNoteName = 64

// ScanNotes calls yield for each note of the segment at [off, end) of r, until yield returns
// false. size is the size of the file. A segment that the file cuts off is read as far as it
// goes. A note that leaves its segment is a *FormatError. A header of zeros ends the segment,
// so that a hole of any size costs nothing.
func ScanNotes(r io.ReaderAt, off, end, size int64, yield func(NoteInfo) bool) error {
	var buf [NoteHeaderSize + MaxNoteName]byte
	for end-off >= NoteHeaderSize {
		b := buf[:min(int64(len(buf)), end-off)]
		n, err := r.ReadAt(b, off)
		b = b[:n]
		namesz, head := int64(0), int64(NoteHeaderSize)
		if n >= NoteHeaderSize {
			namesz = int64(binary.LittleEndian.Uint32(b[0:]))
			head += min(namesz, MaxNoteName)
		}
		if int64(n) < min(head, end-off) {
			if err == io.EOF || off+head > size {
				return nil // cut off
			}
			return fmt.Errorf("read note at offset %#x: %w", off, err)
		}
		descsz := int64(binary.LittleEndian.Uint32(b[4:]))
		typ := binary.LittleEndian.Uint32(b[8:])
		if namesz == 0 && descsz == 0 && typ == 0 {
			return nil
		}
		desc := off + NoteHeaderSize + NotePad(namesz)
		if desc+descsz > end {
			return &FormatError{off, fmt.Sprintf("note of type %#x with %d+%d bytes leaves its segment, which ends at %#x", typ, namesz, descsz, end)}
		}
		if desc+descsz > size {
			return nil // cut off
		}
		name := b[NoteHeaderSize:min(NoteHeaderSize+namesz, int64(len(b)))]
		if !yield(NoteInfo{Name: cString(name), Type: typ, Size: descsz, Offset: desc}) {
			return nil
		}
		off = desc + NotePad(descsz)
	}
	return nil
}

// maxSearch bounds how many bytes are searched for notes, because a file may be one large hole,
// or damaged all over.
const maxSearch = 64 << 20

// FindOwnNote returns the offset of the next note of procmem, or end. Pages that cannot be read
// are skipped.
func FindOwnNote(r io.ReaderAt, off, end int64) int64 {
	owner := []byte(OwnerProcmem + "\x00")
	buf := make([]byte, 64<<10)
	for limit := off + maxSearch; off < min(end, limit); {
		b := buf[:min(int64(len(buf)), end-off)]
		n, _ := r.ReadAt(b, off)
		for i := NoteHeaderSize; ; i++ {
			k := bytes.Index(b[min(i, n):n], owner)
			if k < 0 {
				break
			}
			i += k
			head := b[i-NoteHeaderSize:]
			if le32(head) == uint32(len(owner)) && le32(head[8:]) >= NTMaps && le32(head[8:]) <= NTSums {
				return off + int64(i) - NoteHeaderSize
			}
		}
		if n < len(b) {
			off = (off+int64(n))&^(procmem.PageSize-1) + procmem.PageSize
			continue
		}
		// The next block begins with bytes that may be the front of a note.
		off += max(int64(n)-NoteHeaderSize-int64(len(owner)), 1)
	}
	return end
}

func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

// cString returns the bytes before the first NUL.
func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
