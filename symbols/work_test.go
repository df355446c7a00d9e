package symbols

import (
	"encoding/binary"
	"syscall"
	"testing"
	"time"

	"github.com/procmem/procmem"
)

// manyFile is an ELF file with any number of symbols, which are made when they
// are read: each at the address at(i), named by the string table from name(i) on.
type manyFile struct {
	head          []byte
	symbols       uint64
	names         []byte
	at, name      func(i uint64) uint64
	table, strtab uint64 // where they are
}

func newManyFile(n uint64, names []byte, at, name func(i uint64) uint64) *manyFile {
	f := &manyFile{symbols: n, names: names, at: at, name: name}
	e := elfSpec{wide: true, hugeStrings: 1, hugeSymbols: 1, symbols: []testSymbol{{"f", 0x1000, 8, 1, 0x12}}}
	f.head = e.bytes()[:0x2000]
	const section, table, strtab = 0x800, 3, 4
	f.table, f.strtab = 1<<32, 1<<40
	le := binary.LittleEndian
	le.PutUint64(f.head[section+64*table+24:], f.table)
	le.PutUint64(f.head[section+64*table+32:], 24*n)
	le.PutUint64(f.head[section+64*strtab+24:], f.strtab)
	le.PutUint64(f.head[section+64*strtab+32:], uint64(len(names)))
	return f
}

func (f *manyFile) Size() int64  { return 1 << 41 }
func (f *manyFile) Close() error { return nil }

func (f *manyFile) ReadAt(p []byte, off int64) (int, error) {
	switch o := uint64(off); {
	case o >= f.strtab:
		return copy(p, f.names[o-f.strtab:]), nil
	case o >= f.table:
		le := binary.LittleEndian
		for k := 0; k+24 <= len(p); k += 24 {
			i := (o - f.table + uint64(k)) / 24
			le.PutUint32(p[k:], uint32(f.name(i)))
			p[k+4], p[k+5] = 0x12, 0
			le.PutUint16(p[k+6:], 1)
			le.PutUint64(p[k+8:], f.at(i))
			le.PutUint64(p[k+16:], 8)
		}
		return len(p), nil
	}
	n := copy(p, f.head[min(off, int64(len(f.head))):])
	clear(p[n:])
	return len(p), nil
}

// processorTime is what this process has had so far: a busy machine does not count.
func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Millions of symbols that all have one long name and one address are no more
// work than as many that an honest file has. (With names compared when they
// were sorted it was thirty times as much.)
func TestWorkOfNames(t *testing.T) {
	const n = 1 << 20
	letters := make([]byte, 1<<20)
	for i := range letters {
		letters[i] = 'a'
		if i%3001 == 0 {
			letters[i] = 'b' // two names differ somewhere
		}
	}
	took := func(f *manyFile) time.Duration {
		began := processorTime()
		o, err := readObject(f, f.Size(), all())
		if err != nil || len(o.symbols) < n/8 {
			t.Fatalf("%v: %d symbols", err, len(o.symbols))
		}
		o.find(string(letters[:maxName]))
		for i := range uint64(1000) {
			o.lookup(f.at(i) + 1)
		}
		return processorTime() - began
	}
	scattered := func(i uint64) uint64 { return 0x1000 + i*0x9e3779b97f4a7c15>>40 }
	honest := took(newManyFile(n, append(letters[:16:16], 0), scattered, func(i uint64) uint64 { return i % 16 }))
	long := func(i uint64) uint64 { return i * 7919 % (uint64(len(letters)) - maxName) }
	for what, at := range map[string]func(uint64) uint64{"one address": func(uint64) uint64 { return 0x1234 }, "few addresses": func(i uint64) uint64 { return 0x1000 + i%64 }} {
		if hostile := took(newManyFile(n, letters, at, long)); hostile > 5*honest+time.Second {
			t.Errorf("%s: %v, and an honest file takes %v", what, hostile, honest)
		}
	}
}

// What all files of a process may cost is bounded as a whole, also where what
// was read of them was good for nothing.
func TestWorkOfFiles(t *testing.T) {
	useless := newManyFile(1<<20, []byte("\x00"), func(uint64) uint64 { return 0 }, func(uint64) uint64 { return 0 })
	var ms []procmem.Mapping
	for i := range 2000 {
		at := procmem.Addr(i+1) << 20
		ms = append(ms, procmem.Mapping{Range: procmem.Range{Start: at, End: at + 0x2000}, Inode: uint64(i) + 1, Path: "/f"})
	}
	tab := New(ms, func(*procmem.Mapping) (File, error) { return useless, nil })
	tab.left.work = 100 << 20
	reads := &countingReader{r: useless}
	tab.open = func(*procmem.Mapping) (File, error) { return countedFile{reads}, nil }
	if found := tab.Find("f"); len(found) != 0 {
		t.Errorf("%v", found)
	}
	if most := 100<<20 + 2000*(64<<10); reads.n > most {
		t.Errorf("%d bytes were read, of %d that may be", reads.n, most)
	}
}

type countedFile struct{ *countingReader }

func (countedFile) Size() int64  { return 1 << 41 }
func (countedFile) Close() error { return nil }

// A name that a file has thousands of times, in a file that is mapped
// thousands of times, is not found millions of times.
func TestFindIsBounded(t *testing.T) {
	f := newManyFile(1<<16, []byte("f\x00"), func(i uint64) uint64 { return 0x1000 + i%0x1000 }, func(uint64) uint64 { return 0 })
	var ms []procmem.Mapping
	for i := range 20_000 {
		at := procmem.Addr(i+1) << 20
		ms = append(ms, procmem.Mapping{Range: procmem.Range{Start: at, End: at + 0x2000}, Inode: 1, Path: "/f"})
	}
	tab := New(ms, func(*procmem.Mapping) (File, error) { return f, nil })
	if n := len(tab.Find("f")); n == 0 || n > maxFound {
		t.Errorf("%d symbols", n)
	}
}
