package packed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"
)

// foreign makes a seekable file as others might: of frames of any size, an
// empty and a skippable one, and checksums in the table.
func foreign(t testing.TB, checksums bool, frames ...[]byte) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(false))
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	var out, table []byte
	entry := func(p, plain []byte) {
		out = append(out, p...)
		table = le.AppendUint32(le.AppendUint32(table, uint32(len(p))), uint32(len(plain)))
		if checksums {
			table = le.AppendUint32(table, uint32(xxhash.Sum64(plain)))
		}
	}
	n := 0
	for i, f := range frames {
		if i == 1 {
			entry([]byte("\x51\x2a\x4d\x18\x03\x00\x00\x00abc"), nil)
			entry(enc.EncodeAll(nil, nil), nil)
			n += 2
		}
		entry(enc.EncodeAll(f, nil), f)
		n++
	}
	flags := byte(3) // the unused bits, which say nothing
	if checksums {
		flags |= flagChecksums
	}
	out = le.AppendUint32(out, tableMagic)
	out = append(le.AppendUint32(out, uint32(len(table)+footerSize)), table...)
	out = append(le.AppendUint32(out, uint32(n)), flags)
	return le.AppendUint32(out, footerMagic)
}

func TestReadForeign(t *testing.T) {
	pieces := [][]byte{text(100, 1), text(5000, 2), random(1<<20, 3), make([]byte, 300<<10), text(frameSize, 4), []byte("x")}
	want := bytes.Join(pieces, nil)
	for _, checksums := range []bool{false, true} {
		b := foreign(t, checksums, pieces...)
		if got := unpacked(t, b); !bytes.Equal(got, want) {
			t.Errorf("with checksums %v: %d bytes, want %d", checksums, len(got), len(want))
		}
		r := newReader(t, b)
		p := make([]byte, 3000)
		for off := 0; off < len(want); off += 2999 {
			n, err := r.ReadAt(p, int64(off))
			if n != min(len(p), len(want)-off) || err != nil && err != io.EOF || !bytes.Equal(p[:n], want[off:off+n]) {
				t.Fatalf("at %d: %d, %v", off, n, err)
			}
		}
	}
	// Frames without a checksum of their own, of which one byte is another.
	b := foreign(t, true, pieces...)
	at := bytes.Index(b, pieces[2][1000:1100])
	b[at] ^= 1
	r := newReader(t, b)
	for off, piece := range pieces {
		_, err := r.ReadAt(make([]byte, len(piece)), int64(len(bytes.Join(pieces[:off], nil))))
		if (err == nil) == (off == 2) {
			t.Errorf("piece %d: %v", off, err)
		}
	}
	path := filepath.Join(t.TempDir(), "x.zst")
	if err := os.WriteFile(path, foreign(t, true, pieces...), 0o600); err != nil {
		t.Fatal(err)
	}
	zstdTool(t, "-q", "-t", path)
}

func TestReadAt(t *testing.T) {
	want := sample(11*frameSize + 99)
	r := newReader(t, pack(t, want, 1<<20))
	if r.Size() != int64(len(want)) {
		t.Errorf("Size() = %d; want %d", r.Size(), len(want))
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	p := make([]byte, 4*frameSize)
	for range 300 {
		off, size := rnd.IntN(len(want)+10), rnd.IntN([]int{1, pageSize, frameSize, len(p)}[rnd.IntN(4)])+1
		n, err := r.ReadAt(p[:size], int64(off))
		left := max(0, len(want)-off)
		if n != min(size, left) || (err == io.EOF) != (size > left) || err != nil && err != io.EOF || !bytes.Equal(p[:n], want[min(off, len(want)):][:n]) {
			t.Fatalf("%d bytes at %d: %d, %v", size, off, n, err)
		}
	}
	if n, err := r.ReadAt(p, -1); n != 0 || err == nil {
		t.Errorf("before the beginning: %d, %v", n, err)
	}
}

// counting is a file that tells how much is read of it.
type counting struct {
	io.ReaderAt
	bytes, calls atomic.Int64
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	c.bytes.Add(int64(len(p)))
	c.calls.Add(1)
	return c.ReaderAt.ReadAt(p, off)
}

// A page costs its frame, and that only once; all frames in one read cost
// themselves.
func TestReadsLittle(t *testing.T) {
	b := pack(t, random(64*frameSize, 1), 1<<20)
	c := &counting{ReaderAt: bytes.NewReader(b)}
	r, err := NewReader(c, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	c.bytes.Store(0)
	for off := range int64(frameSize / pageSize) {
		if _, err := r.ReadAt(make([]byte, pageSize), 7*frameSize+off*pageSize); err != nil {
			t.Fatal(err)
		}
	}
	if n := c.bytes.Load(); n != int64(r.frames[7].size) {
		t.Errorf("%d bytes read for the pages of a frame of %d", n, r.frames[7].size)
	}
	c.bytes.Store(0)
	if _, err := r.ReadAt(make([]byte, 64*frameSize), 0); err != nil {
		t.Fatal(err)
	}
	if n := c.bytes.Load(); n != r.frames[64].off-int64(r.frames[7].size) {
		t.Errorf("%d bytes read for the file of %d", n, len(b))
	}
	if len(r.cache.blocks) != 1 {
		t.Errorf("%d frames are cached, want the one of the pages", len(r.cache.blocks))
	}
}

func TestManyReaders(t *testing.T) {
	want := sample(40 * frameSize)
	r := newReader(t, pack(t, want, 1<<20))
	var wait sync.WaitGroup
	for g := range uint64(8) {
		wait.Go(func() {
			rnd := rand.New(rand.NewPCG(g, 1))
			p := make([]byte, 2*frameSize)
			for range 60 {
				size := []int{100, pageSize, len(p)}[rnd.IntN(3)]
				off := rnd.IntN(len(want) - size)
				if n, err := r.ReadAt(p[:size], int64(off)); err != nil || !bytes.Equal(p[:n], want[off:off+size]) {
					t.Errorf("%d bytes at %d: %d, %v", size, off, n, err)
				}
				r.NextData(int64(off))
			}
		})
	}
	wait.Wait()
	if r.cache.bytes > cacheBytes || r.cache.bytes != len(r.cache.blocks)*frameSize {
		t.Errorf("%d bytes in %d blocks are cached", r.cache.bytes, len(r.cache.blocks))
	}
	for _, b := range r.cache.blocks {
		if b.readers != 0 {
			t.Errorf("frame %d has %d readers", b.index, b.readers)
		}
	}
}

func TestNextData(t *testing.T) {
	const f = frameSize
	var out bytes.Buffer
	w := NewWriter(&out, Options{Workers: 2})
	w.Zeros(f + 10)
	w.Write([]byte("data"))
	w.Zeros(2*f - 14)
	w.Write(text(2*f, 1))
	w.Zeros(3995 * f)
	w.Write([]byte("data"))
	w.Zeros(1000*f - 4 + 100) // the last frame is zero too, and short
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b := out.Bytes()
	want := []plainRange{{f, 2 * f}, {3 * f, 5 * f}, {4000 * f, 4001 * f}, {5000 * f, 5000*f + 100}}
	c := &counting{ReaderAt: bytes.NewReader(b)}
	r, err := NewReader(c, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	c.calls.Store(0)
	var got []plainRange
	for at := int64(0); at < r.Size(); {
		start, end := r.NextData(at)
		if start < end {
			got = append(got, plainRange{start, end})
		}
		at = end
	}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] || got[3] != want[3] {
		t.Errorf("data %v; want %v", got, want)
	}
	if n := c.calls.Load(); n > 12 {
		t.Errorf("%d reads to find it", n)
	}
	for _, q := range []struct{ off, start, end int64 }{
		{4*f + 7, 4*f + 7, 5 * f}, {2 * f, 3 * f, 5 * f}, {r.Size(), r.Size(), r.Size()}, {1 << 60, r.Size(), r.Size()},
	} {
		if start, end := r.NextData(q.off); start != q.start || end != q.end {
			t.Errorf("NextData(%#x) = %#x, %#x; want %#x, %#x", q.off, start, end, q.start, q.end)
		}
	}
	// One of zeros that is damaged is none.
	b = pack(t, make([]byte, 3*f), f)
	b[len(zeroFrame)+12] = 1
	r = newReader(t, b)
	if start, end := r.NextData(0); start != f || end != 2*f {
		t.Errorf("a damaged frame: %#x, %#x", start, end)
	}
	if n, err := r.ReadAt(make([]byte, 3*f), 0); n != f || !errors.As(err, new(*FrameError)) {
		t.Errorf("a damaged frame: %d, %v", n, err)
	}
	if start, end := newReader(t, pack(t, nil, 1)).NextData(0); start != 0 || end != 0 {
		t.Errorf("in an empty file: %d, %d", start, end)
	}
}

// A frame that is damaged is an error at its place, and the rest is there.
func TestDamagedFrame(t *testing.T) {
	want := sample(8 * frameSize)
	b := pack(t, want, 1<<20)
	r := newReader(t, b)
	b[r.frames[4].off+int64(r.frames[4].size)/2] ^= 1
	p := make([]byte, len(want))
	for _, off := range []int{0, 3*frameSize + 5, 4*frameSize + 77} {
		n, err := r.ReadAt(p[off:], int64(off))
		fe := new(FrameError)
		if n != max(0, 4*frameSize-off) || !errors.As(err, &fe) || fe.Index != 4 || fe.Offset != 4*frameSize || fe.Len != frameSize {
			t.Errorf("from %d on: %d bytes, %v", off, n, err)
		}
		if !bytes.Equal(p[off:off+n], want[off:off+n]) {
			t.Error("what is in front of it differs")
		}
	}
	if n, err := r.ReadAt(p[:1000], 5*frameSize); n != 1000 || err != nil || !bytes.Equal(p[:n], want[5*frameSize:][:n]) {
		t.Errorf("behind it: %d, %v", n, err)
	}
	// What fails is tried again: it may be a disk that recovers.
	b[r.frames[4].off+int64(r.frames[4].size)/2] ^= 1
	if n, err := r.ReadAt(p[:1000], 4*frameSize+5); n != 1000 || err != nil {
		t.Errorf("healed: %d, %v", n, err)
	}
}

func TestFileShrinks(t *testing.T) {
	b := pack(t, random(8*frameSize, 1), 1<<20)
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := NewReader(f, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 3*frameSize); err != nil {
		t.Fatal(err)
	}
	n, err := r.ReadAt(make([]byte, 8*frameSize), 0)
	if fe := new(FrameError); n != 2*frameSize || !errors.As(err, &fe) || fe.Err != io.ErrUnexpectedEOF {
		t.Errorf("%d, %v", n, err)
	}
}

// hostile is a file of six frames, small for its compressed size.
func hostile(t testing.TB) (b, plain []byte) {
	plain = make([]byte, 0, 6*frameSize)
	for i := range 5 {
		plain = append(plain, bytes.Repeat(text(64, uint64(i)), frameSize/64)...)
	}
	plain = append(plain[:4*frameSize], make([]byte, frameSize)...)
	plain = append(plain, text(300, 1)...)
	return pack(t, plain, 1<<20), plain
}

// survey reads pages all over the file, and reports whether there was an
// error and whether anything was wrong.
func survey(b, plain []byte) (failed, wrong bool) {
	r, err := NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return true, false
	}
	if r.Size() != int64(len(plain)) {
		failed = true // as the core in it tells, whose size is known
	}
	var p [100]byte
	for off := 0; off < len(plain); off += frameSize {
		n, err := r.ReadAt(p[:], int64(off))
		if err != nil {
			failed = true
		}
		wrong = wrong || !bytes.Equal(p[:n], plain[off:][:n])
	}
	for at := int64(0); at < r.Size(); {
		start, end := r.NextData(at)
		for a := at; a < min(start, int64(len(plain))); a++ {
			wrong = wrong || plain[a] != 0
		}
		at = end
	}
	return failed, wrong
}

// A byte that changes gives an error or changes nothing else, and what is read
// is never wrong.
func TestFlippedBytes(t *testing.T) {
	b, plain := hostile(t)
	if failed, wrong := survey(b, plain); failed || wrong {
		t.Fatal("the file is not right to begin with")
	}
	for i := range b {
		flip := []byte{1, 0x80, 0xff}[i%3]
		b[i] ^= flip
		failed, wrong := survey(b, plain)
		if wrong {
			t.Errorf("byte %#x of %#x ^ %#x: wrong data", i, len(b), flip)
		}
		if !failed && !bytes.Equal(unpacked(t, b), plain) {
			t.Errorf("byte %#x of %#x ^ %#x: the change does not show", i, len(b), flip)
		}
		b[i] ^= flip
	}
}

func TestTruncated(t *testing.T) {
	b, _ := hostile(t)
	for n := range b {
		if _, err := NewReader(bytes.NewReader(b[:n]), int64(n)); !errors.Is(err, ErrNotSeekable) {
			t.Fatalf("%d bytes of %d: %v", n, len(b), err)
		}
	}
	// A disk that fails is another thing.
	if _, err := NewReader(bytes.NewReader(b[:20]), int64(len(b))); err == nil || errors.Is(err, ErrNotSeekable) {
		t.Errorf("a file that is shorter than it should be: %v", err)
	}
}

// tables are seek tables that lie.
func tables(t testing.TB) map[string][]byte {
	le := binary.LittleEndian
	good := pack(t, sample(3*frameSize), 1<<20)
	at := len(good) - footerSize - 3*8
	with := func(off int, v uint32) []byte {
		b := bytes.Clone(good)
		le.PutUint32(b[off:], v)
		return b
	}
	moved := bytes.Clone(good) // a byte more in one frame, and less in the next
	le.PutUint32(moved[at+4:], frameSize+1)
	le.PutUint32(moved[at+12:], frameSize-1)
	reserved := bytes.Clone(good)
	reserved[len(good)-5] = 0x40
	return map[string][]byte{
		"moved":            moved,
		"reserved flags":   reserved,
		"frames":           with(len(good)-footerSize, 4),
		"many frames":      with(len(good)-footerSize, 0xffffffff),
		"size of table":    with(at-4, 1),
		"magic of table":   with(at-8, skippableMagic),
		"magic at the end": with(len(good)-4, footerMagic^1),
		"no size":          with(at, 0),
		"too long":         with(at, 0xffffffff),
		"too short":        with(at, 100),
		"first too large":  with(at+4, frameSize*2),
		"first is empty":   with(at+4, 0),
		"middle too large": with(at+12, frameSize*2),
		"middle is empty":  with(at+12, 0),
		"last too large":   with(at+20, maxPlain+1),
	}
}

func TestTableThatLies(t *testing.T) {
	for name, b := range tables(t) {
		if _, err := NewReader(bytes.NewReader(b), int64(len(b))); !errors.Is(err, ErrNotSeekable) || errors.Is(err, errNoTable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What is larger inside than the table says takes no more memory.
	bomb := foreign(t, false, make([]byte, 32<<20), []byte("x"))
	at := len(bomb) - footerSize - 4*8
	binary.LittleEndian.PutUint32(bomb[at+4:], 1000)
	if _, err := NewReader(bytes.NewReader(bomb), int64(len(bomb))); err == nil {
		t.Error("a table that shrinks a frame is taken")
	}
	// A frame that does not tell its size is found out when it is read.
	var stream bytes.Buffer
	enc, err := zstd.NewWriter(&stream)
	if err != nil {
		t.Fatal(err)
	}
	enc.Write(make([]byte, 1<<20))
	enc.Flush()
	enc.Write(make([]byte, 32<<20))
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	for _, plain := range []uint32{0, 1000, 1 << 20, 33<<20 + 1} {
		le := binary.LittleEndian
		b := le.AppendUint32(bytes.Clone(stream.Bytes()), tableMagic)
		b = le.AppendUint32(le.AppendUint32(b, 8+footerSize), uint32(stream.Len()))
		b = append(le.AppendUint32(le.AppendUint32(b, plain), 1), 0)
		b = le.AppendUint32(b, footerMagic)
		if plain == 0 { // which would move all behind it
			if _, err := NewReader(bytes.NewReader(b), int64(len(b))); !errors.Is(err, errTable) {
				t.Errorf("nothing by the table: %v", err)
			}
			continue
		}
		r := newReader(t, b)
		if n, err := r.ReadAt(make([]byte, 10), 0); n != 0 || !errors.As(err, new(*FrameError)) {
			t.Errorf("%d bytes by the table: %d, %v", plain, n, err)
		}
	}
}

func FuzzReader(f *testing.F) {
	b, _ := hostile(f)
	f.Add(b)
	f.Add(foreign(f, true, text(100, 1), text(10, 2), text(10, 3)))
	for _, b := range tables(f) {
		f.Add(b[max(0, len(b)-100):])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := NewReader(bytes.NewReader(b), int64(len(b)))
		if (r == nil) == (err == nil) {
			t.Fatalf("%v and %v", r, err)
		}
		if err != nil {
			return
		}
		p := make([]byte, 3*frameSize)
		step := max(1, r.Size()/20)
		for off := int64(0); off < r.Size(); off += step {
			n, err := r.ReadAt(p, off)
			if n < 0 || n > len(p) || n < len(p) && err == nil {
				t.Fatalf("ReadAt(%d): %d, %v", off, n, err)
			}
		}
		for at := int64(0); at < r.Size(); {
			start, end := r.NextData(at)
			if start < at || end < start || end > r.Size() || start == end && start != r.Size() {
				t.Fatalf("NextData(%d) = %d, %d of %d", at, start, end, r.Size())
			}
			at = end
		}
	})
}

// BenchmarkReadPage reads pages at random of a file that is half zeros, a
// quarter text and a quarter random bytes.
func BenchmarkReadPage(b *testing.B) {
	const n = 64 << 20
	var out bytes.Buffer
	w := NewWriter(&out, Options{})
	for i := range uint64(n / frameSize / 4) {
		w.Write(text(frameSize, i))
		w.Zeros(2 * frameSize)
		w.Write(random(frameSize, i))
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	r := newReader(b, out.Bytes())
	rnd := rand.New(rand.NewPCG(1, 1))
	p := make([]byte, pageSize)
	for b.Loop() {
		if _, err := r.ReadAt(p, rnd.Int64N(n/pageSize)*pageSize); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadAll(b *testing.B) {
	data := sample(16 << 20)
	r := newReader(b, pack(b, data, 1<<20))
	p := make([]byte, 2<<20)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		for off := 0; off < len(data); off += len(p) {
			if _, err := r.ReadAt(p, int64(off)); err != nil {
				b.Fatal(err)
			}
		}
	}
}
