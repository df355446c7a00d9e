package gopcln

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/procmem/procmem/internal/elffile"
)

// small is a table of two functions, the second of which has a tree of inlined calls.
func small() []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, magic)
	b = append(b, 0, 0, 1, 8)
	for _, n := range []uint64{2, 1, 0, 72, 88, 96, 104, 120} {
		b = le.AppendUint64(b, n)
	}
	b = append(b, "\x00main.f\x00main.g\x00"...) // 72
	b = le.AppendUint64(b[:88], 0)               // units
	b = append(b, "a.go\x00\x00\x00\x00"...)     // 96: files
	b = append(b, 0, 2, 16, 4, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	for _, n := range []uint32{0, 20, 16, 68, 32} { // 120: functions
		b = le.AppendUint32(b, n)
	}
	for i := range uint32(2) {
		for _, n := range []uint32{16 * i, 1 + 7*i, 0, 0, 1, 1, 1, 3, 0, 1, 4 << 24, 1, 1, 1, 0, 0, 0, 0} {
			b = le.AppendUint32(b, n)
		}
	}
	return b
}

// Whatever the table holds, an answer comes, of bounded length.
func FuzzTable(f *testing.F) {
	f.Add(small(), uint64(3))
	f.Add(small(), uint64(20))
	f.Fuzz(func(t *testing.T, b []byte, v uint64) {
		e, err := elffile.Open(bytes.NewReader(elfOf(b)), int64(len(elfOf(b))))
		if err != nil {
			t.Fatal(err)
		}
		table, err := Open(e)
		if err != nil {
			return
		}
		table.inlined = 64 // the table itself is also the tree
		for _, v := range []uint64{v, table.text, table.text + 17} {
			for _, frame := range table.At(v) {
				if len(frame.Name) > maxText || len(frame.File) > maxText || frame.Line < 0 {
					t.Errorf("%+v", frame)
				}
			}
		}
	})
}

// elfOf makes an ELF file whose table is b, at the address 64.
func elfOf(b []byte) []byte {
	le := binary.LittleEndian
	names := "\x00.gopclntab\x00"
	out := make([]byte, 64)
	copy(out, "\x7fELF\x02\x01\x01")
	out = append(append(out, b...), names...)
	le.PutUint64(out[32:], uint64(len(out)))
	le.PutUint16(out[54:], 56)
	le.PutUint16(out[56:], 1)
	load := make([]byte, 56)
	le.PutUint32(load, 1)
	for i, n := range []int{64, 64, 64, len(b), len(b)} {
		le.PutUint64(load[8+8*i:], uint64(n))
	}
	out = append(out, load...)
	le.PutUint64(out[40:], uint64(len(out)))
	le.PutUint16(out[58:], 64)
	le.PutUint16(out[60:], 3)
	le.PutUint16(out[62:], 2)
	headers := make([]byte, 3*64)
	for i, s := range [][5]int{{1, 1, 64, 64, len(b)}, {0, 3, 0, 64 + len(b), len(names)}} {
		h := headers[64*(i+1):]
		le.PutUint32(h, uint32(s[0]))
		le.PutUint32(h[4:], uint32(s[1]))
		for k, n := range s[2:] {
			le.PutUint64(h[16+8*k:], uint64(n))
		}
	}
	return append(out, headers...)
}

// The table that the fuzzing begins with makes sense.
func TestSmall(t *testing.T) {
	e, err := elffile.Open(bytes.NewReader(elfOf(small())), int64(len(elfOf(small()))))
	if err != nil {
		t.Fatal(err)
	}
	table, err := Open(e)
	if err != nil {
		t.Fatal(err)
	}
	if got := table.At(3); len(got) != 1 || got[0].Name != "main.f" {
		t.Errorf("%+v", got)
	}
}
