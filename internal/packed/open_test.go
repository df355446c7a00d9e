package packed

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
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

func (n *notices) opener() Opener {
	return Opener{Notice: func(format string, args ...any) { *n = append(*n, fmt.Sprintf(format, args...)) }}
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

// A core is the same memory however it is compressed and whatever its name.
func TestOpen(t *testing.T) {
	emptyTemp(t)
	mem := heap(sample(7 * frameSize))
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
		{"zst", zst(t, plain), "has no seek table: unpacking it"},
		{"many.frames", zst(t, plain[:half], nil, plain[half:]), "has no seek table: unpacking it"},
		{"skippable.first", append([]byte("\x5f\x2a\x4d\x18\x02\x00\x00\x00ab"), zst(t, plain)...), "has no seek table: unpacking it"},
		{"damaged.table", broken, "cannot be read in place (no usable seek table: "},
		{"gz", gz(t, plain), "is compressed with gzip: unpacking it"},
		{"two.gz", gz(t, plain[:half], plain[half:]), "is compressed with gzip: unpacking it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := descriptors(t)
			path := save(t, c.name, c.data)
			var told notices
			f, err := told.opener().Open(path)
			if err != nil {
				t.Fatal(err)
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
				if data >= uint64(len(mem)) || data < 4*frameSize {
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
			f, err := told.opener().Open(path)
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
		o, damaged := told.opener(), false
		o.Damaged = func() { damaged = true }
		f, err := o.Open(save(t, "x", c.b))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !damaged || !strings.Contains(strings.Join(told, "\n"), c.told) {
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

// A table with a frame that is too large to be read in place is whole all the
// same.
func TestOpenLargeFrames(t *testing.T) {
	emptyTemp(t)
	const plain = maxPlain + 1<<20
	frame := zst(t, make([]byte, plain))
	le := binary.LittleEndian
	b := le.AppendUint32(le.AppendUint32(bytes.Clone(frame), tableMagic), 8+footerSize)
	b = le.AppendUint32(le.AppendUint32(b, uint32(len(frame))), plain)
	b = le.AppendUint32(append(le.AppendUint32(b, 1), 0), footerMagic)
	var told notices
	o := told.opener()
	o.Damaged = func() { t.Error("it is taken for damaged") }
	src, err := o.Source(save(t, "large", b))
	if err != nil || src.Size() != plain || len(told) != 1 || !strings.Contains(told[0], "more than can be read at once") {
		t.Fatalf("%v, told %q", err, told)
	}
	src.Close()
}

// What a file loses while it is read is data that cannot be read, and no hole.
func TestSourceShrinks(t *testing.T) {
	path := save(t, "plain", text(10*pageSize, 1))
	src, err := Opener{}.Source(path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if err := os.Truncate(path, 3*pageSize); err != nil {
		t.Fatal(err)
	}
	for off, want := range map[int64]int64{3 * pageSize: 3 * pageSize, 5 * pageSize: 5 * pageSize, 10 * pageSize: 10 * pageSize} {
		if start, end := src.NextData(off); start != want || end != 10*pageSize {
			t.Errorf("from %#x: data is %#x-%#x; want %#x on", off, start, end, want)
		}
	}
}

// A disk that fails between two members of a gzip file is not the end of it.
func TestGzipReadError(t *testing.T) {
	b := gz(t, text(1000, 1))
	in, done, err := Opener{}.unpacker(io.MultiReader(bytes.NewReader(b), iotest.ErrReader(errors.New("broken disk"))), b[:4], "x")
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	if n, err := io.Copy(io.Discard, in); n != 1000 || err == nil || err.Error() != "broken disk" {
		t.Errorf("%d bytes, %v", n, err)
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
		o := told.opener()
		o.Damaged = func() { t.Errorf("%s: damaged", name) }
		f, err := o.Open(save(t, "x", b))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
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

// A cut is never taken for the end, wherever it is but between frames.
func TestUnpackTellsCuts(t *testing.T) {
	var blocks bytes.Buffer
	enc, err := zstd.NewWriter(&blocks, zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range [][]byte{text(300, 1), make([]byte, 10000), random(100, 2), nil, text(30, 3)} {
		enc.Write(p)
		if err := enc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	disk := save(t, "disk", nil)
	for name, b := range map[string][]byte{"blocks": blocks.Bytes(), "zst": zst(t, text(1000, 1)), "gz": gz(t, text(1000, 1))} {
		for cut := 4; cut < len(b); cut++ {
			dst, err := os.OpenFile(disk, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			var n int64
			in, done, err := Opener{}.unpacker(bytes.NewReader(b[:cut]), b[:4], name)
			if err == nil {
				n, err = unpack(dst, in)
				done()
			}
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s cut at %d of %d: %d bytes, %v", name, cut, len(b), n, err)
			}
			dst.Close()
		}
	}
}

func TestOpenErrors(t *testing.T) {
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
		f, err := told.opener().Open(c.path)
		if f != nil || err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v; want %q", filepath.Base(c.path), err, c.want)
		}
	}
	if n := descriptors(t); n > before {
		t.Errorf("%d files are open; %d before", n, before)
	}
	if _, err := (Opener{}).Open(save(t, "quiet", zst(t, newCore(t, heap(text(3*pageSize, 1)))))); err != nil {
		t.Errorf("without Notice: %v", err)
	}
}

// A full disk is told with what helps.
func TestNoRoom(t *testing.T) {
	disk, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer disk.Close()
	if n, err := unpack(disk, bytes.NewReader(make([]byte, 3<<20))); err != nil || n != 3<<20 {
		t.Errorf("zeros take room: %d, %v", n, err)
	}
	if _, err := unpack(disk, bytes.NewReader(text(3<<20, 1))); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("on a full disk: %v", err)
	}
	// A file that is as large as no disk has room.
	f, err := os.Create(filepath.Join(t.TempDir(), "large.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.Write(gz(t, newCore(t, heap(text(3*pageSize, 1)))))
	if err := f.Truncate(1 << 43); err != nil {
		t.Skip(err)
	}
	t.Setenv("TMPDIR", t.TempDir())
	if _, err := (Opener{}).Open(f.Name()); err == nil || !strings.Contains(err.Error(), "not enough room in "+os.TempDir()) || !strings.Contains(err.Error(), "TMPDIR") {
		t.Errorf("without room: %v", err)
	}
}

// A temporary folder that is none is told with what chooses it.
func TestNoTemporaryFolder(t *testing.T) {
	path := save(t, "x", gz(t, text(1000, 1)))
	for dir, want := range map[string]string{"/nonexistent": "look for room in /nonexistent: no such file or directory (set TMPDIR", path: "create temporary file: open " + path + "/"} {
		t.Setenv("TMPDIR", dir)
		if _, err := (Opener{}).Open(path); err == nil || !strings.Contains(err.Error(), want) || !strings.HasSuffix(err.Error(), " (set TMPDIR to another folder)") {
			t.Errorf("%s: %v; want %q", dir, err, want)
		}
	}
}

func TestIsPacked(t *testing.T) {
	for head, want := range map[string]bool{
		"\x28\xb5\x2f\xfd": true, "\x50\x2a\x4d\x18": true, "\x5f\x2a\x4d\x18rest": true, "\x1f\x8b\x08\x00": true,
		"": false, "\x28\xb5\x2f": false, "\x60\x2a\x4d\x18": false, "\x7fELF": false, "\x1f\x8b": false, "\x28\xb5\x2f\xfc": false,
	} {
		if IsPacked([]byte(head)) != want {
			t.Errorf("IsPacked(%q) = %v", head, !want)
		}
	}
}
