package core

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/elfcore"
)

// craft returns a core of the given headers with tail behind them, not sane
// in any way that it is not made to be.
func craft(phnum int, phdrs []elf.ProgHeader, tail []byte) []byte {
	b := elfcore.AppendHeader(nil, elf.ELFCLASS64, elf.EM_X86_64, phnum, 64)
	for _, p := range phdrs {
		b = elfcore.AppendProgHeader(b, elf.ELFCLASS64, p)
	}
	return append(b, tail...)
}

func load(vaddr, memsz, off, filesz uint64) elf.ProgHeader {
	return elf.ProgHeader{Type: elf.PT_LOAD, Flags: 6, Vaddr: vaddr, Memsz: memsz, Off: off, Filesz: filesz}
}

// noteCore is a core whose only segment holds these bytes as notes.
func noteCore(notes []byte) []byte {
	return craft(1, []elf.ProgHeader{{Type: elf.PT_NOTE, Off: 64 + 56, Filesz: uint64(len(notes))}}, notes)
}

func patch(b []byte, at int, v ...byte) []byte {
	b = bytes.Clone(b)
	copy(b[at:], v)
	return b
}

// notes is where noteCore has them.
const notes = 64 + 56

func TestHostile(t *testing.T) {
	good := craft(1, []elf.ProgHeader{load(0x1000, 0x1000, 0x78, 0)}, nil)
	if _, err := NewReader(bytes.NewReader(good), int64(len(good))); err != nil {
		t.Fatal(err)
	}
	extended := elfcore.AppendCountHeader(craft(1, []elf.ProgHeader{load(0x1000, 0x1000, 0, 0)}, nil), elf.ELFCLASS64, math.MaxUint32)
	extended = patch(extended, 56, 0xff, 0xff)
	extended = patch(extended, 40, 64+56)
	many := make([]elf.ProgHeader, 40)
	for i := range many {
		many[i] = elf.ProgHeader{Type: elf.PT_NOTE, Off: 64, Filesz: 40*56 - 100}
	}
	for name, c := range map[string]struct {
		b    []byte
		off  int64
		want string
	}{
		"empty":                  {nil, 0, "empty"},
		"text":                   {[]byte("#!/bin/sh\n"), 0, "not a core file"},
		"magic alone":            {good[:4], 4, "cut off"},
		"half a header":          {good[:40], 40, "cut off"},
		"executable":             {patch(good, 16, byte(elf.ET_EXEC)), 16, "not a core file: ELF executable"},
		"shared object":          {patch(good, 16, byte(elf.ET_DYN)), 16, "not a core file: ELF shared object"},
		"unknown type":           {patch(good, 16, 77), 16, "not a core file"},
		"class":                  {patch(good, 4, 3), 4, "class 3"},
		"big endian":             {patch(good, 5, 2), 5, "little endian"},
		"machine":                {patch(good, 18, 243), 18, "not supported"},
		"header size":            {patch(good, 54, 57), 54, "57 bytes"},
		"no headers":             {patch(good, 56, 0), 56, "no program headers"},
		"headers beyond the end": {patch(good, 56, 2), 64, "do not fit"},
		"table beyond the end":   {patch(good, 32, 0, 0, 0, 0, 0, 0, 0, 0x80), math.MaxInt64, "do not fit"},
		"2^32 headers":           {extended, 56, "4294967295 program headers"},
		"count header missing":   {patch(good, 56, 0xff, 0xff), 0, "section header"},
		"filesz above memsz":     {craft(1, []elf.ProgHeader{load(0x1000, 0x1000, 0, 0x1001)}, nil), 64, "0x1001 bytes in the file"},
		"address wraps":          {craft(1, []elf.ProgHeader{load(0xfffffffffffff000, 0x2000, 0, 0)}, nil), 64, "address space"},
		"offset wraps":           {craft(1, []elf.ProgHeader{load(0x1000, math.MaxUint64-0x1000, 0xf000000000000000, 0x1000)}, nil), 64, "out of range"},
		"offset and size wrap":   {craft(1, []elf.ProgHeader{load(0x1000, math.MaxInt64, 0x1000, math.MaxInt64)}, nil), 64, "out of range"},
		"notes wrap":             {craft(1, []elf.ProgHeader{{Type: elf.PT_NOTE, Off: 1, Filesz: math.MaxInt64}}, nil), 64, "out of range"},
		"notes overlap":          {craft(40, many, nil), 64 + 56, "overlap"},
	} {
		f, err := NewReader(bytes.NewReader(c.b), int64(len(c.b)))
		fe, ok := errors.AsType[*FormatError](err)
		if !ok || f != nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "read core: offset 0x") {
			t.Errorf("%s: %v, %v", name, f, err)
			continue
		}
		if fe.Off != c.off && name != "notes overlap" {
			t.Errorf("%s: offset %#x, want %#x (%v)", name, fe.Off, c.off, err)
		}
	}
}

// Notes that make no sense are told, and the memory is there.
func TestBrokenNotes(t *testing.T) {
	lying := func(namesz, descsz uint32) []byte {
		b := elfcore.AppendNote(nil, elfcore.Note{Name: "CORE", Type: 1, Desc: make([]byte, 336)})
		binary.LittleEndian.PutUint32(b, namesz)
		binary.LittleEndian.PutUint32(b[4:], descsz)
		return noteCore(b)
	}
	fileNote := func(words ...uint64) []byte {
		var d []byte
		for _, w := range words {
			d = binary.LittleEndian.AppendUint64(d, w)
		}
		return noteCore(elfcore.AppendNote(nil, elfcore.Note{Name: "CORE", Type: elfcore.NTFile, Desc: d}))
	}
	for name, c := range map[string]struct {
		b    []byte
		off  int64
		want string
	}{
		"name too long":          {lying(1<<31, 336), notes, "leaves its segment"},
		"descriptor too long":    {lying(5, 337), notes, "leaves its segment"},
		"descriptor of 4 GiB":    {lying(5, math.MaxUint32), notes, "leaves its segment"},
		"FILE without header":    {fileNote(1), notes + 20, "has no header"},
		"FILE with 2^61 entries": {fileNote(1<<61, 4096, 0, 0, 0), notes + 20, "claims"},
		"FILE entry missing":     {fileNote(2, 4096, 0, 4096, 0), notes + 20, "claims 2 entries"},
		"FILE without names":     {fileNote(1, 4096, 0, 4096, 0), notes + 20, "0 names for 1 entries"},
		"FILE offset":            {fileNote(1, 4096, 0, 4096, math.MaxUint64, 0), notes + 20, "out of range"},
		"no notes":               {craft(1, []elf.ProgHeader{load(0x1000, 0x1000, 0x78, 0)}, nil), 0, "no program header leads to notes"},
	} {
		f, err := NewReader(bytes.NewReader(c.b), int64(len(c.b)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		d := f.Damaged()
		if len(d) != 1 || d[0].Offset != c.off || !strings.Contains(d[0].Err.Error(), c.want) {
			t.Errorf("%s: %+v", name, d)
		}
		if _, ok := errors.AsType[*FormatError](d[0].Err); ok != (name != "no notes") {
			t.Errorf("%s: error is a %T", name, d[0].Err)
		}
		v, err := f.Verify(t.Context(), nil)
		if err != nil || v.Checked || len(v.Damaged) != 1 {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
	}
}

// patchy is a file of which a part cannot be read, as one bad frame of a
// compressed one.
type patchy struct {
	*bytes.Reader
	bad fileRange
}

var errPatchy = errors.New("bad frame")

func (p patchy) ReadAt(b []byte, off int64) (int, error) {
	if off < p.bad.end && off+int64(len(b)) > p.bad.off {
		n := 0
		if off < p.bad.off {
			n, _ = p.Reader.ReadAt(b[:p.bad.off-off], off)
		}
		return n, errPatchy
	}
	return p.Reader.ReadAt(b, off)
}

// Wherever a part of the notes cannot be read, the memory can, and is compared
// as long as the checksums are there.
func TestPatchyNotes(t *testing.T) {
	img, fake := scene(procmem.AMD64)
	for i := range 40 {
		th := img.Threads[0]
		th.TID = 1000 + i
		th.Regsets = []procmem.Regset{{Type: procmem.NTX86XState, Data: bytes.Repeat([]byte{byte(i)}, 100)}}
		img.Threads = append(img.Threads, th)
	}
	b, w := writeCore(t, img, fake, Select(img, fake, FilterDefault), false, &Report{Why: strings.Repeat("why ", 2000)})
	whole, err := NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	size := int64(len(b))
	var bads []fileRange
	for off := w.l.noteOff; off < size; off += 3500 {
		bads = append(bads, fileRange{off, min(off+64, size)})
		if off >= w.l.ownOff {
			start := off &^ (page - 1)
			bads = append(bads, fileRange{start, min(start+page, size)})
		}
	}
	for n := range whole.Notes() { // the end of its owner
		if len(bads) < 60 {
			bads = append(bads, fileRange{n.Offset - 8, n.Offset})
		}
	}
	compared := 0
	for _, bad := range bads {
		off := bad.off
		f, err := NewReader(patchy{bytes.NewReader(b), bad}, size)
		if err != nil {
			t.Fatalf("%#x: %v", off, err)
		}
		for _, s := range whole.Segments() {
			if !s.Dumped {
				continue
			}
			r := s.Range
			want, got := make([]byte, r.Size()), make([]byte, r.Size())
			if _, err := whole.ReadAt(want, r.Start); err != nil {
				continue // the report tells, which may be lost
			}
			if _, err := f.ReadAt(got, r.Start); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%#x: memory %v: %v", off, r, err)
			}
		}
		for _, th := range f.Image().Threads {
			i := slices.IndexFunc(img.Threads, func(x procmem.Thread) bool { return x.TID == th.TID })
			if th.Err == nil && i < 0 {
				t.Errorf("%#x: thread %d", off, th.TID)
			}
			for k := range th.Regsets {
				r := &th.Regsets[k]
				if want := img.Threads[max(i, 0)].Regset(r.Type); i >= 0 && r.Type == procmem.NTX86XState && !bytes.Equal(r.Data, want) {
					t.Errorf("%#x: register set %#x of another thread than %d", off, r.Type, th.TID)
				}
			}
		}
		v, err := f.Verify(t.Context(), nil)
		if err != nil || len(v.Damaged) == 0 {
			t.Fatalf("%#x: %+v, %v", off, v, err)
		}
		for _, d := range v.Damaged {
			if !d.Empty() {
				t.Errorf("%#x: memory: %v", off, d)
			}
		}
		// It is looked for behind the page that cannot be read.
		behind := (whole.sums.off-elfcore.NoteHeaderSize-8)/page > (bad.end-1)/page
		if behind && bad.end > w.l.ownOff {
			compared++
		}
		if behind && (!v.Checked || v.MemoryBytes != w.l.memory) {
			t.Errorf("%#x: memory was not compared: %+v", off, v)
		}
	}
	if compared == 0 {
		t.Error("the notes of procmem are too short for this test")
	}
}

// Headers that do not lead to all notes: those of procmem are found, and what
// the headers should be is known by that.
func TestLostHeaders(t *testing.T) {
	img, fake := scene(procmem.AMD64)
	b, w := writeCore(t, img, fake, Select(img, fake, FilterDefault), false, &Report{})
	for lost := 1; lost < w.l.phnum(); lost++ {
		less := bytes.Clone(b)
		binary.LittleEndian.PutUint16(less[56:], uint16(w.l.phnum()-lost))
		if v := verify(t, less); !v.Checked || len(v.Damaged) < 2 {
			t.Errorf("without %d headers: %+v", lost, v)
		}
	}
	// A table that is elsewhere: whatever is there, it is no core as it was.
	for bit := range 12 {
		moved := bytes.Clone(b)
		moved[32+bit/8] ^= 1 << (bit % 8)
		f, err := NewReader(bytes.NewReader(moved), int64(len(moved)))
		if err != nil {
			continue
		}
		if v, err := f.Verify(t.Context(), nil); err != nil || len(v.Damaged) == 0 {
			t.Errorf("table moved by bit %d: %+v, %v", bit, v, err)
		}
	}
}

// Overlapping segments: each address belongs to the one that starts lower, or
// comes first.
func TestOverlap(t *testing.T) {
	const at = 64 + 4*56
	tail := bytes.Repeat([]byte("a"), page)
	tail = append(tail, bytes.Repeat([]byte("-"), page/2)...) // hidden
	tail = append(tail, bytes.Repeat([]byte("b"), page/2)...)
	tail = append(tail, bytes.Repeat([]byte("c"), page)...)
	b := craft(4, []elf.ProgHeader{
		load(0x2000, page, at+page, page),       // half hidden by the next
		load(0x1800, page, at, page),            //
		load(0x1800, 3*page, at+2*page, page/2), // behind both, and not dumped
		load(0x1a00, 0x100, at+2*page, 0x100),   // hidden
	}, tail)
	f, err := NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for a, want := range map[procmem.Addr]string{0x1800: "a", 0x1a00: "a", 0x27ff: "a", 0x1000: "", 0x2800: "", 0x47ff: "", 0x4800: ""} {
		got := make([]byte, 1)
		n, err := f.ReadAt(got, a)
		if string(got[:n]) != want || (err == nil) != (want != "") {
			t.Errorf("%v: %q, %v; want %q", a, got[:n], err, want)
		}
	}
	// One that is dumped and only partly hidden keeps what belongs to it.
	b = craft(2, []elf.ProgHeader{load(0x2000, page, at+page, page), load(0x1800, page, at, page)}, nil)
	b = append(b, make([]byte, at-len(b))...)
	b = append(b, tail...)
	if f, err = NewReader(bytes.NewReader(b), int64(len(b))); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 0x1800)
	if _, err := f.ReadAt(got, 0x1800); err != nil || got[page-1] != 'a' || got[page] != 'b' || got[0x17ff] != 'b' {
		t.Errorf("across an overlap: %v", err)
	}
	if segs := f.Segments(); len(segs) != 2 || segs[1].Start != 0x2800 {
		t.Errorf("segments %v", segs)
	}
}

// What is hostile in a way that does not concern the memory is passed over.
func TestOddNotes(t *testing.T) {
	notes := elfcore.AppendNote(nil, elfcore.Note{Name: "CORE", Type: procmem.NTFPRegset, Desc: make([]byte, 512)}) // before any thread
	notes = elfcore.AppendNote(notes, elfcore.Note{Name: "CORE", Type: procmem.NTPRStatus, Desc: make([]byte, 100)})
	notes = elfcore.AppendNote(notes, elfcore.Note{Name: "CORE", Type: elfcore.NTPRPSInfo, Desc: make([]byte, 3)})
	notes = elfcore.AppendNote(notes, elfcore.Note{Name: "CORE", Type: elfcore.NTAuxv, Desc: make([]byte, 7)})
	notes = elfcore.AppendNote(notes, elfcore.Note{Name: strings.Repeat("x", 500), Type: 1})
	notes = elfcore.AppendNote(notes, elfcore.Note{Name: elfcore.OwnerProcmem, Type: elfcore.NTMaps, Desc: []byte("rubbish\n")})
	notes = elfcore.AppendNote(notes, elfcore.Note{Name: elfcore.OwnerProcmem, Type: elfcore.NTReport, Desc: []byte("{")})
	notes = append(notes, make([]byte, 100)...)
	b := noteCore(notes)
	f, err := NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if th := f.Image().Threads; len(th) != 1 || th[0].Err == nil {
		t.Errorf("threads %+v", th)
	}
	var seen int
	for n := range f.Notes() {
		seen++
		if len(n.Name) > elfcore.MaxNoteName {
			t.Errorf("name of %d bytes", len(n.Name))
		}
	}
	if seen != 7 || f.Report() != nil {
		t.Errorf("%d notes, report %v", seen, f.Report())
	}
	for range f.Notes() {
		break
	}
}

// A report may say anything; what it lists as missing faults, once.
func TestOddReport(t *testing.T) {
	m := newFake(anon(0x10000, 0x20000, rw, ""))
	m.fill(m.maps[0].Range)
	img := fakeImage(procmem.AMD64, m.maps)
	missing := []Missing{{Range: rng(0x11000, 0x16000)}, {Range: rng(0x12000, 0x13000)}, {Range: rng(0x15000, 0x17000)}, {Range: rng(0x19000, 0x18000)}}
	b, _ := writeCore(t, img, m, Select(img, m, FilterDefault), false, &Report{Missing: missing})
	f, err := NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for a := procmem.Addr(0x10000); a < 0x20000; a += page {
		_, err := f.ReadAt(make([]byte, 1), a)
		if lost := a >= 0x11000 && a < 0x17000; lost != errors.Is(err, procmem.ErrNotDumped) || !lost && err != nil {
			t.Errorf("%v: %v", a, err)
		}
	}
}

// A file that claims terabytes and holds nothing must cost nothing.
func TestSparseHostile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "core")
	b := craft(2, []elf.ProgHeader{{Type: elf.PT_NOTE, Off: 4096, Filesz: 1 << 40}, load(0x1000, 1<<41, 1<<40, 1<<41)}, nil)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1<<42); err != nil {
		t.Skip("no files of 4 TiB here: ", err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for r := range f.Data(rng(0, math.MaxUint64)) {
		t.Errorf("data at %v in a hole", r)
	}
	if _, err := f.ReadAt(make([]byte, 10), 1<<40); err != nil {
		t.Error(err)
	}
}

type brokenReader struct{ err error }

func (r brokenReader) ReadAt([]byte, int64) (int, error) { return 0, r.err }

func TestReadErrors(t *testing.T) {
	broken := errors.New("broken disk")
	if _, err := NewReader(brokenReader{broken}, 1000); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := NewReader(brokenReader{io.EOF}, 1000); err == nil {
		t.Error("a file that is shorter than its size opens")
	}
	if _, err := Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Error(err)
	}
	if _, err := Open("/nonexistent"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
