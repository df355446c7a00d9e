package core

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/checksums"
	"github.com/procmem/procmem/internal/elfcore"
)

func verify(t *testing.T, b []byte) *Verdict {
	t.Helper()
	f, err := NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	v, err := f.Verify(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Whatever bit changes, and wherever a core is cut off, it is seen; of memory
// the page is named, and no other.
func TestVerify(t *testing.T) {
	for _, arch := range []procmem.Arch{procmem.AMD64, procmem.I386} {
		for _, stream := range []bool{false, true} {
			img, fake := scene(arch)
			b, w := writeCore(t, img, fake, Select(img, fake, FilterDefault), stream, &Report{})
			if v := verify(t, b); !v.Checked || len(v.Damaged) > 0 || v.MemoryBytes != w.l.memory {
				t.Fatalf("%v, stream %v: %+v", arch, stream, v)
			}
			f, err := NewReader(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			random := rand.New(rand.NewPCG(1, 2))
			for try := range 60 {
				off := random.Int64N(int64(len(b)))
				switch {
				case try < 20: // headers and the notes in front
					off = random.Int64N(w.l.headRoom)
				case try < 40: // notes behind
					off = w.l.memEnd + random.Int64N(int64(len(b))-w.l.memEnd)
				}
				bit := byte(1) << random.IntN(8)
				b[off] ^= bit
				checkFlip(t, f, b, off)
				b[off] ^= bit
			}
			for try := range 24 {
				size := random.Int64N(int64(len(b)))
				if try%2 == 0 { // inside the notes behind
					size = w.l.memEnd + random.Int64N(int64(len(b))-w.l.memEnd)
				}
				if c, err := NewReader(bytes.NewReader(b[:size]), size); err == nil {
					if v, err := c.Verify(t.Context(), nil); err != nil || len(v.Damaged) == 0 {
						t.Errorf("cut to %d of %d: %+v, %v", size, len(b), v, err)
					}
					if len(c.Damaged()) == 0 && len(c.Truncated()) == 0 {
						t.Errorf("cut to %d of %d: who reads is not told", size, len(b))
					}
				}
			}
		}
	}
}

// checkFlip expects that a changed byte is seen. f is the core as it was.
func checkFlip(t *testing.T, f *File, b []byte, off int64) {
	t.Helper()
	c, err := NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return // seen
	}
	v, err := c.Verify(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range f.segs {
		if off < s.off || off >= s.off+int64(s.dumped-s.Start) {
			continue
		}
		want := rng((s.Start + procmem.Addr(off-s.off)).PageDown(), 0)
		want.End = want.Start + page
		if len(v.Damaged) != 1 || v.Damaged[0].Range != want {
			t.Errorf("offset %#x: found %v, want %v", off, v.Damaged, want)
		}
		return
	}
	part := inPart(f, off)
	// What is between the parts of a core means nothing.
	if len(v.Damaged) == 0 && (part || !padding(f, off)) {
		t.Errorf("offset %#x: not seen: %+v", off, v)
	}
	if part && len(c.Damaged()) == 0 {
		t.Errorf("offset %#x: who reads is not told", off)
	}
}

// inPart reports whether a byte of the file tells of the process, or where
// memory lies.
func inPart(f *File, off int64) bool {
	spans, _, _ := checksums.Read(f.r, f.sums.off, f.sums.end-f.sums.off, f.dumps) // none if they are what is changed
	return slices.ContainsFunc(spans, func(s checksums.Span) bool { return off >= s.Off && off < s.Off+s.Size })
}

// padding reports whether a byte of the file that is in no part and no memory
// is of nothing else either.
func padding(f *File, off int64) bool {
	head := f.sums.off - elfcore.NoteHeaderSize - elfcore.NotePad(int64(len(elfcore.OwnerProcmem))+1)
	return off < head || off >= f.sums.end
}

// Checksums follow what is put, put again, forgotten and settled.
func TestVerifyPut(t *testing.T) {
	first, img, m := grown(procmem.AMD64)
	var file memFile
	w := mustFile(t, &file, img, first)
	random := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		s := first[random.IntN(len(first))]
		a := s.Start + procmem.Addr(random.IntN(int(s.Size()/page)))*page
		var err error
		switch random.IntN(5) {
		case 0:
			err = w.Put(a, make([]byte, page))
		case 1:
			err = w.Forget(rng(a, min(a+7*page, s.End)))
		default:
			err = w.Put(a, stale(a))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	segs := Select(img, m, FilterDefault)
	// What a first choice leaves out is forgotten, and read again.
	for _, choice := range [][]Segment{segs[:1], segs} {
		if err := w.Settle(choice); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Copy(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(img, &Report{}); err != nil {
		t.Fatal(err)
	}
	if v := verify(t, file.b); !v.Checked || len(v.Damaged) > 0 {
		t.Fatalf("%+v", v)
	}
}

// A core of another program has no checksums, and Verify says so.
func TestVerifyForeign(t *testing.T) {
	img, fake := scene(procmem.AMD64)
	b, _ := writeCore(t, img, fake, Select(img, fake, FilterDefault), false, &Report{})
	f, err := NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	f.sums, f.report = fileRange{}, nil
	if v, err := f.Verify(t.Context(), nil); err != nil || v.Checked || len(v.Damaged) > 0 {
		t.Errorf("%+v, %v", v, err)
	}
	// What cannot be read is seen all the same.
	s := slices.MaxFunc(f.segs, func(a, b segment) int { return cmp.Compare(a.dumped-a.Start, b.dumped-b.Start) })
	f.r = &lostReader{f.r, s.off, 1}
	if v, err := f.Verify(t.Context(), nil); err != nil || len(v.Damaged) != 1 || v.Damaged[0].Start != s.Start {
		t.Errorf("a part that cannot be read: %+v, %v", v, err)
	}
	// And how far it goes, if that is known: it takes a while to find out.
	lost := f.r.(*lostReader)
	lost.size = 2*page + 100
	_, err = f.ReadAt(make([]byte, page), s.Start+page)
	if x, ok := errors.AsType[*procmem.FaultError](err); !ok || x.Until != s.Start+2*page {
		t.Errorf("a part of two pages and more: %+v", err)
	}
	if text := (Damage{Offset: 16, Size: 4, Err: errors.New("x")}).String(); !strings.Contains(text, "0x10") {
		t.Error(text)
	}
}

// lostReader has lost a part of a file.
type lostReader struct {
	io.ReaderAt
	at, size int64
}

func (r *lostReader) End() int64    { return r.at + r.size }
func (r *lostReader) Error() string { return "lost" }

func (r *lostReader) ReadAt(p []byte, off int64) (int, error) {
	if off < r.End() && r.at < off+int64(len(p)) {
		n, _ := r.ReaderAt.ReadAt(p[:max(0, r.at-off)], off)
		return n, r
	}
	return r.ReaderAt.ReadAt(p, off)
}

// smallBlocks is a file on a disk whose blocks are less than a page.
type smallBlocks struct{ *bytes.Reader }

func (r smallBlocks) NextData(off int64) (start, end int64) {
	const block = 512
	hole := func(at int64) bool {
		b := make([]byte, block)
		n, _ := r.ReadAt(b, at)
		return len(bytes.Trim(b[:n], "\x00")) == 0
	}
	start = off &^ (block - 1)
	for start < r.Size() && hole(start) {
		start += block
	}
	for end = start; end < r.Size() && !hole(end); {
		end += block
	}
	return min(max(start, off), r.Size()), min(end, r.Size())
}

// Holes that begin inside a page are no damage.
func TestVerifySmallBlocks(t *testing.T) {
	img, fake := scene(procmem.AMD64)
	for _, p := range fake.pages { // holes of blocks in front and behind
		clear(p[:1024])
		clear(p[2048:])
	}
	b, _ := writeCore(t, img, fake, Select(img, fake, FilterDefault), false, &Report{})
	f, err := NewReader(smallBlocks{bytes.NewReader(b)}, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if v, err := f.Verify(t.Context(), nil); err != nil || !v.Checked || len(v.Damaged) > 0 {
		t.Errorf("%+v, %v", v, err)
	}
}

// holey is a file that is a hole behind what it begins with.
type holey struct {
	data []byte
	read int64 // bytes
}

func (r *holey) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	copy(p, r.data[min(off, int64(len(r.data))):])
	r.read += int64(len(p))
	return len(p), nil
}

// A checksum of what is larger than any core has is not computed.
func TestHugeSpan(t *testing.T) {
	img, fake := scene(procmem.AMD64)
	b, _ := writeCore(t, img, fake, Select(img, fake, FilterDefault), false, &Report{})
	f, err := NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	// The length of the first span follows the head of 16 bytes and the offset.
	binary.LittleEndian.PutUint64(b[f.sums.off+24:], 1<<40)
	r := &holey{data: b}
	c, err := NewReader(r, 1<<41)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Damaged()) == 0 || r.read > 100<<20 {
		t.Errorf("%d bytes were read; damaged %v", r.read, c.Damaged())
	}
}
