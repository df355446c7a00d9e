// Package gopcln tells functions and lines of Go programs by the table that their own runtime
// uses (.gopclntab), which stripping leaves in place: those of Go 1.20 and later.
//
// Start with Open and At. A file may be anybody's: what is damaged gives no answers, or wrong
// ones, and the time of an answer is bounded.
package gopcln

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"

	"github.com/procmem/procmem/internal/elffile"
	"github.com/procmem/procmem/internal/lines"
)

// ErrNone reports a file that has no such table, or that of a version which is not known.
var ErrNone = errors.New("it has no table of Go functions that is known")

// Bounds of a file, in bytes. The table of a large program has some ten MiB.
const (
	maxTable = 160 << 20
	maxData  = 16 << 20 // of a section that may have the module data
	maxText  = 4 << 10  // of a name or a path
)

// magic begins the table since Go 1.20.
const magic = 0xfffffff1

// Table is that of one file.
type Table struct {
	elf      *elffile.File
	data     []byte
	word     uint64 // bytes of an address
	segments []elffile.Segment

	functions                         uint64 // how many
	minLC                             uint64
	names, units, files, steps, funcs uint64 // offsets in data
	text                              uint64 // address that those of functions count from
	inlined                           uint64 // address that those of inline trees count from; 0 if unknown
}

// Open reads the table of a file. It fails with ErrNone.
func Open(f *elffile.File) (*Table, error) {
	found, err := f.Named(".gopclntab", ".data.rel.ro.gopclntab", ".text", ".go.module", ".noptrdata", ".data", ".data.rel.ro")
	if err != nil {
		return nil, err
	}
	section, ok := found[".gopclntab"]
	if !ok {
		if section, ok = found[".data.rel.ro.gopclntab"]; !ok {
			return nil, ErrNone
		}
	}
	t := &Table{elf: f, word: uint64(f.WordSize())}
	if t.data, err = f.Contents(section, maxTable); err != nil {
		return nil, err
	}
	if t.segments, err = f.Segments(); err != nil {
		return nil, err
	}
	if !t.header() {
		return nil, ErrNone
	}
	t.text = found[".text"].Addr
	for _, name := range []string{".go.module", ".noptrdata", ".data", ".data.rel.ro"} {
		if s, ok := found[name]; ok && s.Type != elf.SHT_NOBITS {
			if b, err := f.Part(s.Off, min(s.Size, maxData)); err == nil && t.moduleData(b, section.Addr) {
				break
			}
		}
	}
	return t, nil
}

// Memory returns how many bytes t keeps.
func (t *Table) Memory() int64 { return int64(len(t.data)) }

// header reads where in the table the parts are.
func (t *Table) header() bool {
	if uint64(len(t.data)) < 8+8*t.word || binary.LittleEndian.Uint32(t.data) != magic || uint64(t.data[7]) != t.word {
		return false
	}
	field := func(i uint64) uint64 { return t.elf.Word(t.data[8+i*t.word:]) }
	t.minLC, t.functions = uint64(t.data[6]), field(0)
	t.names, t.units, t.files, t.steps, t.funcs = field(3), field(4), field(5), field(6), field(7)
	size := uint64(len(t.data))
	return t.funcs < size && t.names < size && t.units < size && t.files < size && t.steps < size &&
		t.functions > 0 && t.functions <= (size-t.funcs)/8
}

// moduleData looks for runtime.firstmoduledata in the data of the program: it begins with the
// addresses of the table and of the names in it.
func (t *Table) moduleData(b []byte, table uint64) bool {
	const text, goFunc, fields = 22, 40, 42 // words of the structure, since Go 1.20
	head := make([]byte, t.word)
	copy(head, binary.LittleEndian.AppendUint64(nil, table))
	for at := 0; ; at += int(t.word) {
		k := bytes.Index(b[at:], head)
		if k < 0 {
			return false
		}
		at += k
		if uint64(at)%t.word != 0 {
			at -= at % int(t.word)
			continue
		}
		if uint64(len(b)-at) < fields*t.word {
			return false
		}
		field := func(i int) uint64 { return t.elf.Word(b[at+i*int(t.word):]) }
		if field(1) == table+t.names {
			t.text, t.inlined = field(text), field(goFunc)
			return true
		}
	}
}

// u32 returns the number at an offset of the table, 0 behind its end.
func (t *Table) u32(at uint64) uint32 {
	if at > uint64(len(t.data)) || uint64(len(t.data))-at < 4 {
		return 0
	}
	return binary.LittleEndian.Uint32(t.data[at:])
}

// string returns the text at an offset of the table.
func (t *Table) string(at uint64) string {
	if at >= uint64(len(t.data)) {
		return ""
	}
	b := t.data[at:min(uint64(len(t.data)), at+maxText)]
	if n := bytes.IndexByte(b, 0); n >= 0 {
		b = b[:n]
	}
	return string(b)
}

// At returns the functions that hold the code at the address v of the file, the innermost
// first, nil if there is none.
func (t *Table) At(v uint64) []lines.Frame {
	f, ok := t.function(v)
	if !ok {
		return nil
	}
	const deepest = 100 // functions in each other
	fuel := 1 << 20
	var frames []lines.Frame
	for pc := v; len(frames) < deepest && fuel > 0; {
		frame := lines.Frame{Name: t.string(t.names + uint64(f.field(nameOffset))), Entry: f.entry}
		if frame.Line = int(t.value(f, f.field(lineSteps), pc, &fuel)); frame.Line > 0 {
			frame.File = t.file(f, t.value(f, f.field(fileSteps), pc, &fuel))
		} else {
			frame.Line = 0
		}
		call, inlined := t.call(f, pc, &fuel)
		if !inlined {
			return append(frames, frame)
		}
		frame.Name, frame.Inlined = t.string(t.names+uint64(call.name)), true
		frames = append(frames, frame)
		pc = f.entry + uint64(call.parent)
	}
	return frames
}
