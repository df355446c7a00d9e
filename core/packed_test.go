package core_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/packed"
)

const (
	pageSize    = procmem.PageSize
	packedFrame = 256 << 10 // of the seekable format that procmem writes
	footerSize  = 9         // of its table
)

// heap is a Memory of one mapping.
type heap []byte

const heapAt = procmem.Addr(0x10000)

func (h heap) Mappings() ([]procmem.Mapping, error) {
	return []procmem.Mapping{{
		Range: procmem.Range{Start: heapAt, End: heapAt + procmem.Addr(len(h))},
		Perm:  procmem.PermRead | procmem.PermWrite, Path: "[heap]",
	}}, nil
}

func (h heap) ReadAt(p []byte, addr procmem.Addr) (int, error) {
	n := 0
	if addr >= heapAt && addr < heapAt+procmem.Addr(len(h)) {
		n = copy(p, h[addr-heapAt:])
	}
	if n < len(p) {
		return n, &procmem.FaultError{Addr: addr + procmem.Addr(n), Err: procmem.ErrNotMapped}
	}
	return n, nil
}

// newCore returns a core of this memory.
func newCore(t testing.TB, mem heap) []byte {
	t.Helper()
	maps, _ := mem.Mappings()
	img := &procmem.Image{
		Arch:     procmem.AMD64,
		Process:  procmem.ProcessInfo{PID: 42, State: 'S', Name: "fake"},
		Mappings: maps, Threads: []procmem.Thread{{TID: 42}},
	}
	var out bytes.Buffer
	w, err := core.NewStreamWriter(&out, img, core.Select(img, mem, core.FilterDefault))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Copy(context.Background(), mem); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(img, &core.Report{Method: "stop", Consistent: true}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func save(t testing.TB, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func gz(t testing.TB, pieces ...[]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, p := range pieces {
		w := gzip.NewWriter(&out)
		w.Write(p)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// zst is what zstd and pzstd make: frames in a row.
func zst(t testing.TB, pieces ...[]byte) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	for _, p := range pieces {
		out = enc.EncodeAll(p, out)
	}
	return out
}

// notices collects what is told, a line each.
type notices []string

func (n *notices) options(path string) core.OpenOptions {
	return core.OpenOptions{
		Unpacking: func(why string, _ func() int64, _ int64) { *n = append(*n, path+" "+why) },
		Notice:    func(text string) { *n = append(*n, text) },
	}
}

// emptyTemp makes os.TempDir a new folder and checks that nothing is left in
// it.
func emptyTemp(t *testing.T) string {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Cleanup(func() {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left in the temporary folder: %v, %v", left, err)
		}
	})
	return dir
}

// descriptors returns how many files are open.
func descriptors(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// A core is the same memory however it is compressed, whatever its name, and by a reader.
func TestOpenPacked(t *testing.T) {
	emptyTemp(t)
	mem := heap(sample(7 * packedFrame))
	plain := newCore(t, mem)
	half := len(plain) / 2
	broken := pack(t, plain, 1<<20)
	broken[len(broken)-8]++
	for _, c := range []struct {
		name   string
		data   []byte
		notice string
	}{
		{"plain", plain, ""},
		{"seekable", pack(t, plain, 1<<20), ""},
		{"zst", zst(t, plain), "has no seek table"},
		{"many.frames", zst(t, plain[:half], nil, plain[half:]), "has no seek table"},
		{"skippable.first", append([]byte("\x5f\x2a\x4d\x18\x02\x00\x00\x00ab"), zst(t, plain)...), "has no seek table"},
		{"damaged.table", broken, "cannot be read in place (no usable seek table: "},
		{"gz", gz(t, plain), "is compressed with gzip"},
		{"two.gz", gz(t, plain[:half], plain[half:]), "is compressed with gzip"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := descriptors(t)
			path := save(t, c.name, c.data)
			var told, again notices
			f, err := core.OpenWith(path, told.options(path))
			if err != nil {
				t.Fatal(err)
			}
			r, err := core.NewReaderWith(bytes.NewReader(c.data), int64(len(c.data)), again.options(path))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(again, told) || r.Intact() != f.Intact() || !bytes.Equal(memoryOf(t, r, len(mem)), mem) {
				t.Errorf("by a reader: told %q, intact %v", again, r.Intact())
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			got := make([]byte, len(mem))
			if n, err := f.ReadAt(got, heapAt); err != nil || !bytes.Equal(got, mem) {
				t.Errorf("%d bytes, %v, the same: %v", n, err, bytes.Equal(got, mem))
			}
			if f.Image().Process.PID != 42 || f.Report() == nil || f.Truncated() != nil {
				t.Errorf("process %+v, report %v, truncated %v", f.Image().Process, f.Report(), f.Truncated())
			}
			if c.name != "plain" { // which the file system here has no holes in
				var data uint64
				for r, err := range f.Data(procmem.Range{Start: heapAt, End: heapAt + procmem.Addr(len(mem))}) {
					if err != nil {
						t.Error(err)
					}
					data += r.Size()
				}
				if data >= uint64(len(mem)) || data < 4*packedFrame {
					t.Errorf("%d bytes of data in memory of %d with a frame of zeros", data, len(mem))
				}
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			if c.notice == "" && told != nil || c.notice != "" && (len(told) != 1 || !strings.HasPrefix(told[0], path+" "+c.notice) || strings.Contains(told[0], "\n")) {
				t.Errorf("told %q; want %q", told, c.notice)
			}
			if n := descriptors(t); n > before {
				t.Errorf("%d files are open; %d before", n, before)
			}
		})
	}
}

// memoryOf returns the heap of a core.
func memoryOf(t *testing.T, f *core.File, size int) []byte {
	t.Helper()
	b := make([]byte, size)
	if n, err := f.ReadAt(b, heapAt); err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	return b
}

// closes counts how often it is closed.
type closes struct {
	*bytes.Reader
	n int
}

func (c *closes) Close() error { c.n++; return nil }

// What a core is read from is closed with it if the core owns it, as is what was unpacked.
func TestOwns(t *testing.T) {
	emptyTemp(t)
	plain := newCore(t, heap(text(3*pageSize, 1)))
	for name, b := range map[string][]byte{"plain": plain, "seekable": pack(t, plain, 1<<20), "gz": gz(t, plain)} {
		for want := range 2 {
			before := descriptors(t)
			r := &closes{Reader: bytes.NewReader(b)}
			f, err := core.NewReader(r, r.Size())
			if err != nil {
				t.Fatal(name, err)
			}
			if want > 0 {
				f.Owns(r)
			}
			if err := f.Close(); err != nil || r.n != want {
				t.Errorf("%s: closed %d times, want %d: %v", name, r.n, want, err)
			}
			if n := descriptors(t); n > before {
				t.Errorf("%s: %d files are open; %d before", name, n, before)
			}
		}
	}
}

// Of a file that is cut off all can be had that is in front of the cut, and it
// is always told.
func TestOpenTruncated(t *testing.T) {
	emptyTemp(t)
	mem := heap(random(300*pageSize, 1))
	plain := newCore(t, mem)
	for name, b := range map[string][]byte{"zst": zst(t, plain), "gz": gz(t, plain)} {
		dir := t.TempDir()
		opened := 0
		for cut := 4; cut < len(b); cut += len(b) / 50 {
			path := filepath.Join(dir, "x")
			if err := os.WriteFile(path, b[:cut], 0o600); err != nil {
				t.Fatal(err)
			}
			var told notices
			f, err := core.OpenWith(path, told.options(path))
			if err != nil {
				continue // too little for a core
			}
			opened++
			if len(told) != 2 || !strings.Contains(told[1], "is cut off") {
				t.Errorf("%s cut at %d of %d: told %q", name, cut, len(b), told)
			}
			got := make([]byte, len(mem))
			n, err := f.ReadAt(got, heapAt)
			if n < len(mem) && procmem.Cause(err) != procmem.ErrTruncated || !bytes.Equal(got[:n], mem[:n]) || (n < len(mem)) != (f.Truncated() != nil) {
				t.Errorf("%s cut at %d of %d: %d bytes, %v, truncated %v", name, cut, len(b), n, err, f.Truncated())
			}
			f.Close()
		}
		if opened < 20 {
			t.Errorf("%s: only %d opened", name, opened)
		}
	}
}

// Of a file that is damaged all can be had that is in front of the damage, and
// it is always told.
func TestOpenDamaged(t *testing.T) {
	emptyTemp(t)
	mem := heap(random(300*pageSize, 1))
	plain := newCore(t, mem)
	seekable := pack(t, plain, len(plain))
	for name, c := range map[string]struct {
		b    []byte
		told string
		all  bool
	}{
		"zst":            {append(zst(t, plain[:len(plain)/2]), "rubbish"...), "is damaged (", false},
		"zst, checksum":  {flipped(zst(t, plain), -2), "is damaged (", true},
		"gz":             {flipped(gz(t, plain), -3), "is damaged (", true},
		"two.gz":         {append(gz(t, plain), flipped(gz(t, nil), -3)...), "is damaged (", true},
		"size in table":  {flipped(bytes.Clone(seekable), -footerSize-8), "cannot be read in place (no usable seek table: it is damaged", true},
		"end of table":   {flipped(bytes.Clone(seekable), -2), "cannot be read in place (no usable seek table: it is damaged", true},
		"flags in table": {flipped(bytes.Clone(seekable), -5), "cannot be read in place (no usable seek table: it is damaged", true},
	} {
		var told notices
		f, err := core.OpenWith(save(t, "x", c.b), told.options("x"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if damaged := !f.Intact(); !damaged || !strings.Contains(strings.Join(told, "\n"), c.told) {
			t.Errorf("%s: damaged %v, told %q", name, damaged, told)
		}
		got := make([]byte, len(mem))
		n, err := f.ReadAt(got, heapAt)
		if !bytes.Equal(got[:n], mem[:n]) || n == 0 || (n == len(mem)) != c.all || c.all != (err == nil) {
			t.Errorf("%s: %d of %d bytes, %v", name, n, len(mem), err)
		}
		f.Close()
	}
}

// flipped has one bit of a file changed, counted from its end.
func flipped(b []byte, fromEnd int) []byte {
	b[len(b)+fromEnd] ^= 0x10
	return b
}

// What is behind a gzip file is no part of it, and no damage.
func TestGzipGarbage(t *testing.T) {
	emptyTemp(t)
	mem := heap(random(3*pageSize, 1))
	plain := newCore(t, mem)
	for name, b := range map[string][]byte{
		"text":     append(gz(t, plain), "garbage\n"...),
		"a byte":   append(gz(t, plain), 0x1f, 0x8c),
		"zeros":    append(gz(t, plain[:5000], plain[5000:]), make([]byte, 10000)...),
		"another":  append(gz(t, plain[:5000], plain[5000:]), "\x1f\x8b"+"\x07 no deflate"...),
		"nothing":  gz(t, plain[:5000], nil, plain[5000:]),
		"compress": append(gz(t, plain), "\x1f\x9d"...),
	} {
		var told notices
		f, err := core.OpenWith(save(t, "x", b), told.options("x"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !f.Intact() {
			t.Errorf("%s: damaged", name)
		}
		got := make([]byte, len(mem))
		if _, err := f.ReadAt(got, heapAt); err != nil || !bytes.Equal(got, mem) {
			t.Errorf("%s: %v", name, err)
		}
		if ignored := strings.Contains(strings.Join(told, "\n"), "is ignored"); ignored != (name != "nothing") {
			t.Errorf("%s: told %q", name, told)
		}
		f.Close()
	}
}

func TestOpenPackedErrors(t *testing.T) {
	dir := emptyTemp(t)
	noCore := text(10000, 1)
	damaged := zst(t, newCore(t, heap(text(1<<20, 1))))
	damaged[20] ^= 0xff
	before := descriptors(t)
	for _, c := range []struct {
		path string
		want string
	}{
		{filepath.Join(dir, "missing"), "no such file"},
		{dir, "directory"},
		{save(t, "text", noCore), "not a core file"},
		{save(t, "empty", nil), "not a core file: the file is empty"},
		{save(t, "short", []byte("\x28\xb5\x2f\xfd")), "it is cut off"},
		{save(t, "packed", pack(t, noCore, 1<<20)), "not a core file"},
		{save(t, "gz", gz(t, noCore)), "not a core file"},
		{save(t, "nothing", pack(t, nil, 1)), "not a core file: the file is empty"},
		{save(t, "damaged", damaged), "it is cut off, or damaged"},
		{save(t, "no.gz", []byte("\x1f\x8b\x08\xff0123456789")), "it is cut off, or damaged"},
		{save(t, "long", []byte("\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00")), "it takes more memory to unpack than procmem allows"}, // as of zstd --long=31
		{save(t, "long.segment", []byte("\x28\xb5\x2f\xfd\xa0\x01\x00\x00\x20\x01\x00\x00")), "it takes more memory to unpack than procmem allows"},
		{save(t, "block", []byte("\x28\xb5\x2f\xfd\x00\x00\x00\x40\x00\x00")), "it is damaged (window size exceeded)"},
	} {
		var told notices
		f, err := core.OpenWith(c.path, told.options(c.path))
		if f != nil || err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v; want %q", filepath.Base(c.path), err, c.want)
		}
	}
	if n := descriptors(t); n > before {
		t.Errorf("%d files are open; %d before", n, before)
	}
	if _, err := core.Open(save(t, "quiet", zst(t, newCore(t, heap(text(3*pageSize, 1)))))); err != nil {
		t.Errorf("without Notice: %v", err)
	}
}

// random, text and sample are what is in the memory of processes.
func random(n int, seed uint64) []byte {
	b := make([]byte, n)
	var key [32]byte
	key[0] = byte(seed)
	rand.NewChaCha8(key).Read(b)
	return b
}

func text(n int, seed uint64) []byte {
	rnd := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, 0, n+64)
	for len(b) < n {
		b = fmt.Appendf(b, "%d thread=%s state=%x\n", rnd.IntN(1000), []string{"main", "worker", "gc", "io"}[rnd.IntN(4)], rnd.Uint32()>>12)
	}
	return b[:n]
}

// sample is frames of text, random bytes, zeros, and all of them.
func sample(n int) []byte {
	b := make([]byte, 0, n+packedFrame)
	for i := uint64(0); len(b) < n; i++ {
		switch i % 5 {
		case 0:
			b = append(b, text(packedFrame, i)...)
		case 1:
			b = append(b, random(packedFrame, i)...)
		case 2, 3:
			b = append(b, make([]byte, packedFrame)...)
		case 4:
			b = append(b, text(pageSize, i)...)
			b = append(b, make([]byte, packedFrame/2)...)
			b = append(b, random(packedFrame/2-pageSize, i)...)
		}
	}
	return b[:n]
}

// pack compresses data, written in pieces of the given size.
func pack(t testing.TB, data []byte, piece int) []byte {
	t.Helper()
	var out bytes.Buffer
	w := packed.NewWriter(&out, packed.Options{Workers: 2})
	defer w.Abort()
	for p := data; len(p) > 0; p = p[min(piece, len(p)):] {
		if n, err := w.Write(p[:min(piece, len(p))]); err != nil || n != min(piece, len(p)) {
			t.Fatal(n, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if w.Written() != int64(out.Len()) {
		t.Errorf("Written() = %d of %d bytes", w.Written(), out.Len())
	}
	return out.Bytes()
}

// The caller chooses where a core is unpacked, and is not told to set TMPDIR.
func TestOpenTempDir(t *testing.T) {
	path, dir := save(t, "gz", gz(t, newCore(t, heap(text(3*pageSize, 1))))), t.TempDir()
	t.Setenv("TMPDIR", "/nonexistent")
	f, err := core.OpenWith(path, core.OpenOptions{TempDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := core.OpenWith(path, core.OpenOptions{TempDir: "/nonexistent/too"}); err == nil || strings.Contains(err.Error(), "TMPDIR") {
		t.Errorf("in a folder that is none: %v", err)
	}
	short := []byte("\x1f\x8b\x08\xff0123456789")
	_, err = core.NewReaderWith(bytes.NewReader(short), int64(len(short)), core.OpenOptions{TempDir: dir})
	if _, ok := errors.AsType[*core.PackedError](err); !ok || !strings.HasPrefix(err.Error(), "read core: it is cut off") {
		t.Errorf("cut off, by a reader: %v", err)
	}
}
