package gopcln

import (
	"encoding/binary"

	"debug/elf"
)

// function is a runtime._func of the table.
type function struct {
	t     *Table
	at    uint64 // in the table
	entry uint64 // address
}

// Fields of runtime._func, in bytes.
const (
	nameOffset = 4
	fileSteps  = 20
	lineSteps  = 24
	pcdata     = 28 // how many of them there are behind the structure
	unit       = 32
	lastWord   = 40 // its highest byte tells how many words of funcdata there are
	sizeOfFunc = 44
)

func (f function) field(off uint64) uint32 { return f.t.u32(f.at + off) }

// function returns the one that holds the address v.
func (t *Table) function(v uint64) (function, bool) {
	if v < t.text || v-t.text > 1<<32-1 {
		return function{}, false
	}
	off := uint32(v - t.text)
	entry := func(i uint64) uint32 { return t.u32(t.funcs + 8*i) }
	low, high := uint64(0), t.functions
	for low < high {
		if mid := (low + high) / 2; entry(mid) <= off {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low == 0 || low == t.functions && off >= entry(t.functions) {
		return function{}, false
	}
	f := function{t: t, at: t.funcs + uint64(t.u32(t.funcs+8*(low-1)+4)), entry: t.text + uint64(entry(low-1))}
	// Where C code lies between functions of Go the table has a function without a name.
	return f, f.field(nameOffset) != 0 || t.string(t.names) != ""
}

// value returns what the steps at an offset tell of the code at pc, -1 if nothing.
func (t *Table) value(f function, steps uint32, pc uint64, fuel *int) int32 {
	if steps == 0 {
		return -1
	}
	at, value := t.steps+uint64(steps), int32(-1)
	for next := f.entry; *fuel > 0; *fuel-- {
		delta, ok1 := t.uvarint(&at)
		if !ok1 || delta == 0 && next != f.entry {
			return -1
		}
		length, ok2 := t.uvarint(&at)
		if !ok2 {
			return -1
		}
		value += int32(delta>>1) ^ -int32(delta&1)
		if next += uint64(length) * t.minLC; pc < next {
			return value
		}
	}
	return -1
}

func (t *Table) uvarint(at *uint64) (uint32, bool) {
	if *at >= uint64(len(t.data)) {
		return 0, false
	}
	v, n := binary.Uvarint(t.data[*at:min(uint64(len(t.data)), *at+binary.MaxVarintLen64)])
	if n <= 0 {
		return 0, false
	}
	*at += uint64(n)
	return uint32(v), true
}

// file returns the path of a file by its number in the function's unit.
func (t *Table) file(f function, number int32) string {
	if number < 0 {
		return ""
	}
	off := t.u32(t.units + 4*(uint64(f.field(unit))+uint64(number)))
	if off == 1<<32-1 {
		return ""
	}
	return t.string(t.files + uint64(off))
}

// call is where one function was inlined into another.
type call struct{ name, parent uint32 }

// call returns that of the code at pc, which is of an inlined function if inlined.
func (t *Table) call(f function, pc uint64, fuel *int) (c call, inlined bool) {
	const tableOfTree, tree = 2, 3 // the numbers of pcdata and funcdata
	n := f.field(pcdata)
	if t.inlined == 0 || n <= tableOfTree || f.field(lastWord)>>24 <= tree {
		return call{}, false
	}
	index := t.value(f, f.field(sizeOfFunc+4*tableOfTree), pc, fuel)
	off := t.u32(f.at + sizeOfFunc + 4*uint64(n) + 4*tree)
	if index < 0 || off == 1<<32-1 {
		return call{}, false
	}
	const sizeOfCall = 16
	b := t.memory(t.inlined+uint64(off)+sizeOfCall*uint64(index), sizeOfCall)
	if b == nil {
		return call{}, false
	}
	return call{binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])}, true
}

// memory reads n bytes of what the file loads at an address, nil if it does not.
func (t *Table) memory(addr, n uint64) []byte {
	for _, s := range t.segments {
		if s.Type == elf.PT_LOAD && addr >= s.Addr && addr-s.Addr <= s.FileSize && n <= s.FileSize-(addr-s.Addr) {
			b, err := t.elf.Part(s.Off+addr-s.Addr, n)
			if err != nil {
				return nil
			}
			return b
		}
	}
	return nil
}
