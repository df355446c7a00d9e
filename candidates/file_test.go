package candidates

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/search"
)

// known is a candidate that outlives the next one.
type known struct {
	addr  procmem.Addr
	value string
}

func readAll(t testing.TB, file []byte) (Info, []known) {
	t.Helper()
	r, err := Open(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	var got []known
	for c, err := range r.All() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, known{c.Addr, string(c.Value)})
	}
	return r.Info(), got
}

func writeAll(t testing.TB, info Info, all []known) []byte {
	t.Helper()
	var file bytes.Buffer
	w, err := NewWriter(&file, info)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if err := w.Add(c.addr, []byte(c.value)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if w.Count() != uint64(len(all)) {
		t.Fatalf("%d candidates, want %d", w.Count(), len(all))
	}
	return file.Bytes()
}

// randomInfo is candidates of any kind.
func randomInfo(rnd *rand.Rand) Info {
	types := search.TypeNames()
	typ, _ := search.ParseType(types[rnd.IntN(len(types))])
	return Info{Type: typ, Align: 1 << rnd.IntN(5), BigEndian: rnd.IntN(2) == 0, Word: 4 << rnd.IntN(2)}
}

// What is written is read: dense and sparse, equal, zero and random values, far
// apart, in any number.
func TestRoundTrip(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for round := range 30 {
		info := randomInfo(rnd)
		info.Origin = Origin{PID: round, Start: rnd.Uint64(), Boot: "b", Program: rnd.Uint32(), Core: strings.Repeat("c", round)}
		if round == 0 {
			info.Align = 1 << 20
		}
		size := info.size()
		var all []known
		a := procmem.Addr(rnd.Uint64N(1<<40)) &^ procmem.Addr(info.Align-1)
		for range rnd.IntN(40) {
			step, kind := rnd.IntN(4), rnd.IntN(3)
			for range rnd.IntN(3000) {
				v := make([]byte, size)
				switch {
				case kind == 1:
					v[0] = 7
				case kind == 2 || rnd.IntN(10) == 0:
					binary.Read(rngReader{rnd}, binary.LittleEndian, v)
				}
				all = append(all, known{a, string(v)})
				a += procmem.Addr(info.Align << (step * rnd.IntN(5)))
				if all[len(all)-1].addr == a {
					a += procmem.Addr(info.Align)
				}
			}
			a += procmem.Addr(rnd.Uint64N(1<<(10*uint(step)+4))) * procmem.Addr(info.Align)
		}
		file := writeAll(t, info, all)
		if got, back := readAll(t, file); got != info || !slices.Equal(back, all) {
			t.Fatalf("round %d: %+v and %d candidates, want %+v and %d", round, got, len(back), info, len(all))
		}
	}
	none := Info{Type: search.U8, Align: 1, Word: 8}
	if _, back := readAll(t, writeAll(t, none, nil)); len(back) != 0 {
		t.Error("candidates out of nothing")
	}
}

// Candidates take little room.
func TestCompact(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 3))
	info := Info{Type: search.U32, Align: 4, Word: 8}
	const n = 1 << 18
	for _, c := range []struct {
		name string
		most float64 // bytes a candidate, values not included where they are random
		next func(i int) (step int, value uint32)
	}{
		{"all, equal", 0.01, func(int) (int, uint32) { return 4, 9 }},
		{"all, one in ten not zero", 0.6, func(int) (int, uint32) { return 4, uint32(rnd.IntN(1000) * (1 - min(1, rnd.IntN(10)))) }},
		{"all, random", 4.01, func(int) (int, uint32) { return 4, rnd.Uint32() }},
		{"every other, equal", 0.27, func(int) (int, uint32) { return 8, 9 }},
		{"ten in a page, equal", 2.2, func(int) (int, uint32) { return 4 * (1 + rnd.IntN(204)), 9 }},
		{"one in many pages", 10, func(int) (int, uint32) { return 4 * rnd.IntN(1<<20), 9 }},
	} {
		a := procmem.Addr(0x7f0000000000)
		all := make([]known, 0, n)
		for i := range n {
			step, v := c.next(i)
			a += procmem.Addr(max(step, 4))
			all = append(all, known{a, string(binary.LittleEndian.AppendUint32(nil, v))})
		}
		if each := float64(len(writeAll(t, info, all))) / n; each > c.most {
			t.Errorf("%s: %.2f bytes a candidate, want no more than %.2f", c.name, each, c.most)
		}
	}
}

// A writer takes what ascends, is aligned and has the size.
func TestWriterRefuses(t *testing.T) {
	w, err := NewWriter(io.Discard, Info{Type: search.U32, Align: 4, Word: 8})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(0x1000, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		a    procmem.Addr
		size int
	}{{0x1000, 4}, {0xffc, 4}, {0x2002, 4}, {0x2000, 8}, {math.MaxUint64 - 3, 4}} {
		if w.Add(c.a, make([]byte, c.size)) == nil {
			t.Errorf("%v with %d bytes is taken", c.a, c.size)
		}
	}
	for _, info := range []Info{{Type: search.U32, Align: 0, Word: 8}, {Type: search.U32, Align: 4, Word: 3}, {Align: 1, Word: 8, Origin: Origin{Core: strings.Repeat("x", maxHeadBytes)}}} {
		if _, err := NewWriter(io.Discard, info); err == nil {
			t.Errorf("%.200v is taken", info)
		}
	}
}

// sample is a file that has all kinds of pages.
func sample(t testing.TB) []byte {
	info := Info{Type: search.U16, Align: 2, Word: 8, Origin: Origin{PID: 1, Start: 2, Boot: "x"}}
	var all []known
	for i := range 2048 {
		all = append(all, known{procmem.Addr(0x10000 + 2*i), "ab"})
	}
	for i := range 64 {
		all = append(all, known{procmem.Addr(0x20000 + 34*i), string([]byte{byte(i) * byte(i&1), 0})})
	}
	for i := range 40 {
		all = append(all, known{procmem.Addr(0x30000 + i*i*8192), string([]byte{byte(i), 1})})
	}
	return writeAll(t, info, all)
}

// No byte can be changed, and nothing taken away or added, without notice.
func TestDamaged(t *testing.T) {
	file := sample(t)
	read := func(b []byte) error {
		r, err := Open(bytes.NewReader(b))
		if err != nil {
			return err
		}
		for _, err := range r.All() {
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := read(file); err != nil {
		t.Fatal(err)
	}
	for i := range file {
		b := slices.Clone(file)
		b[i] ^= 0x41
		if read(b) == nil {
			t.Fatalf("byte %d of %d can be changed", i, len(file))
		}
		if err := read(file[:i]); err == nil || i > len(fileMagic) && !strings.Contains(err.Error(), "cut off") {
			t.Fatalf("cut off at %d of %d: %v", i, len(file), err)
		}
	}
	if err := read(append(slices.Clone(file), 0)); err == nil || !strings.Contains(err.Error(), "follows the end") {
		t.Errorf("more behind the end: %v", err)
	}
	for text, want := range map[string]string{
		"":                         "not a file of candidates",
		"\x7fELF":                  "not a file of candidates",
		strings.Repeat("x", 10000): "not a file of candidates",
		strings.Replace(fileMagic, "1", "2", 1) + "abc": "another version",
		fileMagic:                          "cut off",
		fileMagic + "\xff\xff\xff\xff____": "a head of",
	} {
		if err := read([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
	failing := errors.New("the disk is broken")
	if _, err := Open(io.MultiReader(strings.NewReader(fileMagic[:4]), iotestErr{failing})); !errors.Is(err, failing) {
		t.Errorf("%v, want %v", err, failing)
	}
}

type iotestErr struct{ err error }

func (r iotestErr) Read([]byte) (int, error) { return 0, r.err }

// rewrite makes a file with other frames, all checksums right.
func rewrite(t testing.TB, head []byte, total uint64, frames ...[]byte) []byte {
	t.Helper()
	out := slices.Clone(head)
	for _, f := range frames {
		e := frameEncoder{out: append(make([]byte, 8), f...), open: true}
		e.seal()
		out = append(out, e.out...)
	}
	var end bytes.Buffer
	w := Writer{w: &end, total: total, enc: frameEncoder{size: 1, unit: 1}}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return append(out, end.Bytes()...)
}

// Frames that make no sense are refused although their checksums are right.
func TestHostile(t *testing.T) {
	var head bytes.Buffer
	if _, err := NewWriter(&head, Info{Type: search.U32, Align: 4, Word: 8}); err != nil {
		t.Fatal(err)
	}
	const same, list = valuesSame << 2, placesList
	one := []byte{5, list | same, 1, 9, 1, 2, 3, 4}
	far := binary.AppendUvarint(nil, lastPage)
	cat := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	everything := bytes.Repeat([]byte{0, placesAll | same, 1, 2, 3, 4}, maxFramePages)
	for name, c := range map[string]struct {
		total  uint64
		frames [][]byte
		ok     bool
	}{
		"right":                    {1, [][]byte{one}, true},
		"two frames":               {2, [][]byte{one, {6, list | same, 1, 9, 1, 2, 3, 4}}, true},
		"the same page again":      {2, [][]byte{one, one}, false},
		"a lower page":             {2, [][]byte{one, {4, list | same, 1, 9, 1, 2, 3, 4}}, false},
		"another number of them":   {2, [][]byte{one}, false},
		"kind of places":           {1, [][]byte{{5, 3 | same, 1, 9, 1, 2, 3, 4}}, false},
		"kind of values":           {1, [][]byte{{5, list | 3<<2, 1, 9, 1, 2, 3, 4}}, false},
		"more bits of the kind":    {1, [][]byte{{5, list | same | 16, 1, 9, 1, 2, 3, 4}}, false},
		"no place":                 {0, [][]byte{{5, list | same, 0, 1, 2, 3, 4}}, false},
		"too many places":          {1025, [][]byte{cat([]byte{5, list | same, 0x81, 8}, make([]byte, 1025+4))}, false},
		"a place beyond the page":  {1, [][]byte{{5, list | same, 1, 0x80, 8, 1, 2, 3, 4}}, false},
		"places beyond the page":   {2, [][]byte{{5, list | same, 2, 0xff, 7, 0, 1, 2, 3, 4}}, false},
		"a huge gap":               {2, [][]byte{cat([]byte{5, list | same, 2, 1}, binary.AppendUvarint(nil, math.MaxUint64), one[4:])}, false},
		"an empty bitmap":          {0, [][]byte{cat([]byte{5, placesBitmap | same}, make([]byte, 128), one[4:])}, false},
		"half a bitmap":            {1, [][]byte{{5, placesBitmap | same, 1, 2, 3, 4}}, false},
		"half a value":             {1, [][]byte{one[:7]}, false},
		"values cut off":           {2, [][]byte{{5, list, 2, 1, 1, 1, 2, 3, 4, 5, 6, 7}}, false},
		"sparse values cut off":    {2, [][]byte{{5, list | valuesSparse<<2, 2, 1, 1, 3, 1, 2, 3, 4, 5}}, false},
		"spare bits":               {2, [][]byte{{5, list | valuesSparse<<2, 2, 1, 1, 4}}, false},
		"a page without a kind":    {1, [][]byte{cat(one, []byte{0})}, false},
		"a page without an end":    {1, [][]byte{cat(one, []byte{0x80})}, false},
		"beyond all addresses":     {1, [][]byte{cat(far, []byte{list | same, 2, 0, 0xfe, 7, 1, 2, 3, 4})}, false},
		"a page beyond the last":   {2, [][]byte{cat(far, []byte{list | same, 1}, one[3:], []byte{0}, one[1:])}, false},
		"far beyond the last page": {1, [][]byte{cat(binary.AppendUvarint(nil, math.MaxUint64), one[1:])}, false},
		"more than a frame holds":  {1024 * maxFramePages, [][]byte{everything}, false},
	} {
		r, err := Open(bytes.NewReader(rewrite(t, head.Bytes(), c.total, c.frames...)))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range r.All() {
			err = errors.Join(err, e)
		}
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzOpen: any file is refused or yields ascending candidates, which
// make the same file again in another writer's eyes.
func FuzzOpen(f *testing.F) {
	file := sample(f)
	f.Add(file)
	f.Add(file[:len(file)/2])
	f.Add([]byte(fileMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Open(bytes.NewReader(fixSums(b)))
		if err != nil {
			return
		}
		info := r.Info()
		w, err := NewWriter(io.Discard, info)
		if err != nil {
			t.Fatalf("%+v can be read and not be written: %v", info, err)
		}
		for c, err := range r.All() {
			if err != nil {
				return
			}
			if err := w.Add(c.Addr, c.Value); err != nil {
				t.Fatal(err)
			}
		}
		if w.Count() != r.total {
			t.Fatalf("%d candidates, and %d are announced", w.Count(), r.total)
		}
	})
}

// fixSums makes all checksums right, so that what they guard is reached.
func fixSums(b []byte) []byte {
	b = slices.Clone(b)
	for at := len(fileMagic); at+8 <= len(b); {
		n := int(binary.LittleEndian.Uint32(b[at:]))
		size := n
		if n == 0 {
			size = 8
		}
		if size < 0 || size > len(b)-at-8 {
			break
		}
		p := b[at+8:][:size]
		binary.LittleEndian.PutUint32(b[at+4:], checksum(p))
		at += 8 + size
	}
	return b
}

func checksum(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }
