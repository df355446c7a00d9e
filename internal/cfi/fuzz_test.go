package cfi

import (
	"debug/elf"
	"testing"
)

// seed adds the tables of a small program.
func seed(f *testing.F, add func(b []byte, base, hdr, eh uint64)) {
	e, err := elf.Open("/bin/true")
	if err != nil {
		return
	}
	defer e.Close()
	if e.Section(".eh_frame_hdr") == nil || e.Section(".eh_frame") == nil {
		return
	}
	m, _ := image(f, e)
	add(m.b, m.base, e.Section(".eh_frame_hdr").Addr, e.Section(".eh_frame").Addr)
}

// fuzzWork is so little that no input takes long.
const fuzzWork = 100_000

func FuzzTables(f *testing.F) {
	seed(f, func(b []byte, base, hdr, eh uint64) {
		for _, pc := range []uint64{0x1000, 0x2000, 0x2345, base} {
			f.Add(b, base, hdr, eh, pc, true, false)
		}
	})
	f.Add([]byte("\x0c\x00\x00\x00\xff\xff\xff\xff\x04\x00\x08\x00\x01\x78\x10\x0c"), uint64(0), uint64(0), uint64(0), uint64(0), true, true)
	f.Fuzz(func(t *testing.T, b []byte, base, hdr, eh, pc uint64, wide, debug bool) {
		word := 4
		if wide {
			word = 8
		}
		m := memory{base, b}
		end := base + uint64(len(b))
		try := func(table *Table) {
			left := NewBudget(fuzzWork)
			row, err := table.Find(pc, left)
			if err != nil {
				return
			}
			for _, r := range append(row.Rules, RegRule{Rule: row.CFA}) {
				if r.Kind == Unspecified || r.Num >= Registers || r.Reg >= Registers {
					t.Fatalf("a rule that makes no sense: %+v", r)
				}
				if r.Code != nil {
					_, _ = Eval(r.Code, 0, word, nothing{m}, left)
				}
			}
		}
		try(Section(m, eh, end, word, debug, nil))
		if table, err := Header(m, hdr, 1<<20, end, word, nil); err == nil {
			try(table)
		}
	})
}

func FuzzEval(f *testing.F) {
	f.Add([]byte{exBreg0 + 7, 8, exBreg0 + 16, 0, exLit0 + 15, exAnd, exLit0 + 11, exGE, exLit0 + 3, exShl, exPlus}, uint64(1), true)
	f.Add([]byte{exDup, exBra, 0xfc, 0xff}, uint64(1), false)
	f.Fuzz(func(t *testing.T, code []byte, first uint64, wide bool) {
		word := 4
		if wide {
			word = 8
		}
		v, err := Eval(code, first, word, nothing{memory{0x1000, make([]byte, 64)}}, NewBudget(fuzzWork))
		if err == nil && !wide && v>>32 != 0 {
			t.Fatalf("%#x is no address of 32 bits", v)
		}
	})
}

// nothing is a Machine with registers that have their numbers as values.
type nothing struct{ memory }

func (nothing) Register(num uint64) (uint64, bool) { return num, num < Registers }

func (n nothing) Word(addr uint64, size int) (uint64, error) {
	b := make([]byte, 8)
	err := n.ReadAt(b[:size], addr)
	return (&cursor{b: b}).fixed(8), err
}
