package packed

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

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

func (n *notices) options() OpenOptions {
	return OpenOptions{
		Unpacking: func(why string, _ func() int64, _ int64) { *n = append(*n, why) },
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
	src, err := Open(save(t, "large", b), told.options())
	if err != nil || src.Size() != plain || len(told) != 1 || !strings.Contains(told[0], "more than can be read at once") {
		t.Fatalf("%v, told %q", err, told)
	}
	if !src.Intact() {
		t.Error("it is taken for damaged")
	}
	src.Close()
}

// What a file loses while it is read is data that cannot be read, and no hole.
func TestSourceShrinks(t *testing.T) {
	path := save(t, "plain", text(10*pageSize, 1))
	src, err := Open(path, OpenOptions{})
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
	in, done, err := OpenOptions{}.unpacker(io.MultiReader(bytes.NewReader(b), iotest.ErrReader(errors.New("broken disk"))), b[:4], "x")
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	if n, err := io.Copy(io.Discard, in); n != 1000 || err == nil || err.Error() != "broken disk" {
		t.Errorf("%d bytes, %v", n, err)
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
			in, done, err := OpenOptions{}.unpacker(bytes.NewReader(b[:cut]), b[:4], name)
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
	f.Write(gz(t, text(3*pageSize, 1)))
	if err := f.Truncate(1 << 43); err != nil {
		t.Skip(err)
	}
	t.Setenv("TMPDIR", t.TempDir())
	if _, err := Open(f.Name(), OpenOptions{}); err == nil || !strings.Contains(err.Error(), "not enough room in "+os.TempDir()) || !strings.Contains(err.Error(), "TMPDIR") {
		t.Errorf("without room: %v", err)
	}
}

// A temporary folder that is none is told with what chooses it.
func TestNoTemporaryFolder(t *testing.T) {
	path := save(t, "x", gz(t, text(1000, 1)))
	for dir, want := range map[string]string{"/nonexistent": "look for room in /nonexistent: no such file or directory (set TMPDIR", path: "create temporary file: open " + path + "/"} {
		t.Setenv("TMPDIR", dir)
		if _, err := Open(path, OpenOptions{}); err == nil || !strings.Contains(err.Error(), want) || !strings.HasSuffix(err.Error(), " (set TMPDIR to another folder)") {
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
