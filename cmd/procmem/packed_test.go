package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/testproc"
)

func init() {
	// Else each command waits for a second in the end, under the race detector.
	if os.Getenv("GORACE") == "" {
		os.Setenv("GORACE", "atexit_sleep_ms=0")
	}
}

// ok runs the command, which must succeed and say nothing on stderr.
func ok(t *testing.T, args ...string) (stdout string) {
	t.Helper()
	out, msg, status := procmemCommand(t, args...)
	if status != 0 || msg != "" {
		t.Fatalf("procmem %q: status %d, %s", args, status, msg)
	}
	return out
}

// fails runs the command, which must end with the status and match the pattern
// on stderr.
func fails(t *testing.T, status int, pattern string, args ...string) (stdout string) {
	t.Helper()
	out, msg, got := procmemCommand(t, args...)
	if got != status || !regexp.MustCompile(pattern).MatchString(msg) {
		t.Fatalf("procmem %q: status %d, %s; want %d and %q", args, got, msg, status, pattern)
	}
	return out
}

// tool runs a program that the machine may lack, and returns what it prints.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("PROCMEM_TEST_ALL") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	var msg bytes.Buffer
	cmd.Stderr = &msg
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q: %v\n%s%s", cmd.Args, err, out, &msg)
	}
	return string(out)
}

// sameFiles compares files without having them in memory.
func sameFiles(t *testing.T, a, b string) {
	t.Helper()
	tool(t, "cmp", a, b)
}

// compressedCore takes a compressed core, and unpacks it.
func compressedCore(t *testing.T, p *testproc.Proc) (zst, plain string) {
	t.Helper()
	dir := t.TempDir()
	pid := strconv.Itoa(p.PID())
	zst, plain = filepath.Join(dir, "core."+pid+".zst"), filepath.Join(dir, "core."+pid)
	out := ok(t, "core", "--compress", "zstd", "-o", filepath.Join(dir, "core"), pid)
	if !strings.HasPrefix(out, zst+": process "+pid+", ") {
		t.Errorf("it says %s", out)
	}
	p.Cmd(t, "ping")
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != filepath.Base(zst) {
		t.Fatalf("%v, %v; want %s", left, err, zst)
	}
	if fi, err := os.Stat(zst); err != nil || fi.Mode() != 0o600 {
		t.Errorf("%v, %v; want mode 0600", fi, err)
	}
	ok(t, "unpack", zst)
	return zst, plain
}

// inData is how much of the memory lies in the file as data: compressed, that is
// a matter of whole frames.
var inData = regexp.MustCompile(`, \S+ \S+ of it as data in the file|"data_bytes":\d+`)

// Each tool unpacks a compressed core, and each command reads it as it is.
func TestCompressedCore(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--without", "uffd", "--memfd", "32M", "--untouched", "1M", "--none", "1M")
	zst, plain := compressedCore(t, p)
	dir := filepath.Dir(zst)

	t.Run("zstd", func(t *testing.T) {
		byZstd := filepath.Join(dir, "by-zstd")
		tool(t, "zstd", "-q", "-d", zst, "-o", byZstd)
		sameFiles(t, byZstd, plain)
		os.Remove(byZstd)
	})
	t.Run("holes", func(t *testing.T) {
		var st unix.Stat_t
		if err := unix.Stat(plain, &st); err != nil || st.Blocks*512 > st.Size/2 {
			t.Errorf("%d of %d bytes are on the disk, %v: the zeros of a sparse memfd alone are 32 MiB", st.Blocks*512, st.Size, err)
		}
	})
	t.Run("commands", func(t *testing.T) {
		addr, needle := p.Needle(t, "heap")
		bytes := addr.String() + "+" + strconv.Itoa(len(needle))
		m := p.Map(t, "anon")
		for _, args := range [][]string{
			{"info"}, {"info", "--json"}, {"maps"}, {"threads", "-r"}, {"verify", "--json"}, {"read", m.Range.String()},
		} {
			with := func(file string) string {
				out := ok(t, slices.Insert(slices.Clone(args), 1, file)...)
				return inData.ReplaceAllString(strings.ReplaceAll(out, zst, plain), "")
			}
			if a, b := with(zst), with(plain); a != b || a == "" {
				t.Errorf("%q of the compressed core:\n%.2000s\nof the plain one:\n%.2000s", args, a, b)
			}
		}
		if got := ok(t, "read", zst, bytes, "-f", "raw"); got != string(needle) {
			t.Errorf("%q at %s; want %q", got, bytes, needle)
		}
		for _, i := range []int{0, 3, 7} { // stamped or not
			if got := ok(t, "read", zst, m.Page(i).String()+"+4096", "-f", "raw"); got != string(p.Want(t, m, i)) {
				t.Errorf("page %d of %v differs", i, m.Range)
			}
		}
	})
	t.Run("dump", func(t *testing.T) {
		a, b := filepath.Join(dir, "dump-a"), filepath.Join(dir, "dump-b")
		for out, file := range map[string]string{a: zst, b: plain} {
			if _, msg, status := procmemCommand(t, "dump", file, "-o", out); status != exitDone && status != exitMissing {
				t.Fatalf("dump %s: status %d, %s", file, status, msg)
			}
			os.Remove(filepath.Join(out, "index.json")) // times and paths
		}
		left, err := os.ReadDir(a)
		if err != nil || len(left) < 20 {
			t.Fatalf("%v, %v", left, err)
		}
		for _, e := range left {
			// What holds nothing but zeros may have no file.
			if _, err := os.Stat(filepath.Join(b, e.Name())); err != nil {
				if strings.Trim(string(contentOf(t, filepath.Join(a, e.Name()))), "\x00") != "" {
					t.Errorf("%s is in the dump of the compressed core alone", e.Name())
				}
				os.Remove(filepath.Join(a, e.Name()))
			}
		}
		tool(t, "diff", "-r", a, b)
	})
	t.Run("gdb", func(t *testing.T) {
		addr, needle := p.Needle(t, "data")
		out := tool(t, "gdb", "-nx", "-batch", "-ex", "info threads", "-ex", fmt.Sprintf("x/%dxb %v", len(needle), addr), p.Path, plain)
		var want []string
		for _, b := range needle[:8] {
			want = append(want, fmt.Sprintf("0x%02x", b))
		}
		if !strings.Contains(out, strings.Join(want, "\t")) || strings.Count(out, "LWP") < 9 {
			t.Errorf("gdb prints\n%s\nwant %q and 9 threads", out, want)
		}
	})
}

// Memory that stays as it is lies in one piece in a compressed core, as in the process, because
// it was compressed in the order of addresses.
func TestCompressedAhead(t *testing.T) {
	p := testproc.Start(t, testproc.Many, "fill", "256M", "mixed")
	dir, pid := t.TempDir(), strconv.Itoa(p.PID())
	ok(t, "core", "--compress", "zstd", "--method", "precopy", "-o", filepath.Join(dir, "core"), pid)
	c, err := core.Open(filepath.Join(dir, "core."+pid+".zst"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fill := p.Fill(t)
	var pieces []procmem.Range
	for _, s := range c.Segments() {
		if x := s.Intersect(fill.Range); !x.Empty() {
			pieces = append(pieces, x)
		}
	}
	if len(pieces) != 1 || pieces[0] != fill.Range {
		t.Errorf("%v lies in pieces: %v", fill.Range, pieces)
	}
}

// The headers of a compressed core are in frames without a checksum, so damaged ones can still
// be read. Reading memory by damaged headers gives a notice, and so does unpacking.
func TestDamagedHead(t *testing.T) {
	p := testproc.Start(t, testproc.Many, "fill", "1M")
	zst, _ := compressedCore(t, p)
	b, err := os.ReadFile(zst)
	if err != nil {
		t.Fatal(err)
	}
	const headers, headerSize, offset = 64, 56, 8 // of an ELF file of 64 bits
	start := bytes.Index(b, []byte("\x7fELF")) + headers
	for at := start; ; at += headerSize {
		if p.Fill(t).Start == procmem.Addr(binary.LittleEndian.Uint64(b[at+16:])) {
			b[at+offset+2] ^= 0x10
			break
		}
	}
	bad := filepath.Join(t.TempDir(), "bad.zst")
	if err := os.WriteFile(bad, b, 0o600); err != nil {
		t.Fatal(err)
	}
	page := p.Fill(t).Start.String() + "+4096"
	const told = `bad\.zst is damaged: file offset 0x40, \d+ bytes: not what its checksum says`
	fails(t, 0, told, "read", bad, page)
	fails(t, 0, told, "info", bad)
	fails(t, 3, `what is in it is no whole core: file offset 0x40, \d+ bytes: not what its checksum says`, "unpack", bad)
	fails(t, 1, `1 part damaged|[0-9]+ parts damaged`, "verify", bad)
}

// Reading a page of a large core does not read the core.
func TestReadInPlace(t *testing.T) {
	p := testproc.Start(t, testproc.Many, "fill", "32M")
	zst, _ := compressedCore(t, p)
	if fi, err := os.Stat(zst); err != nil || fi.Size() < 32<<20 {
		t.Fatalf("%v, %v: random data cannot be compressed", fi, err)
	}
	fill := p.Fill(t)
	page := make([]byte, procmem.PageSize)
	for _, i := range []int{0, 4097, 8191} {
		fill.Want(page, i)
		addr := fill.Start + procmem.Addr(i)*procmem.PageSize
		out, n := readBytes(t, "read", zst, addr.String()+"+4096", "-f", "raw")
		if out != string(page) {
			t.Errorf("page %d differs", i)
		}
		if n > 1<<20 {
			t.Errorf("to read page %d, %d bytes were read", i, n)
		}
	}
}

// readBytes runs the command, and tells how many bytes it has read from files.
func readBytes(t *testing.T, args ...string) (stdout string, n int64) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "procmem", args...)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	// What has ended and was not waited for still has its counts.
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
	}
	counts, ioErr := os.ReadFile(fmt.Sprintf("/proc/%d/io", cmd.Process.Pid))
	if err := errors.Join(err, cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	if ioErr == nil {
		_, ioErr = fmt.Sscanf(string(counts), "rchar: %d", &n)
	}
	if ioErr != nil || n == 0 {
		t.Skipf("%v: %s", ioErr, counts)
	}
	return string(out), n
}

// Cores that others have compressed are opened too, and it is said what that
// costs.
func TestOrdinaryCompression(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	pid := strconv.Itoa(p.PID())
	dir := t.TempDir()
	prefix := filepath.Join(dir, "core")
	plain := prefix + "." + pid
	ok(t, "core", "-o", prefix, pid)
	const notice = `^procmem: \S+ (has no seek table|is compressed with gzip): unpacking it to a temporary file first%s\n$`
	const advice = "; procmem pack would make it quick to open"
	for name, argv := range map[string][]string{
		"zst": {"zstd", "-q", "-3", "-k", plain, "-o"}, "gz": {"sh", "-c", `gzip -1 <"$1" >"$2"`, "sh", plain}, "xx": {"sh", "-c", `gzip -1 <"$1" >"$2"`, "sh", plain},
	} {
		t.Run(name, func(t *testing.T) {
			packed := filepath.Join(dir, "their-"+name+"."+name)
			tool(t, argv[0], append(argv[1:], packed)...)
			for _, args := range [][]string{{"info"}, {"verify"}, {"read", "[stack]"}} {
				if name == "xx" && args[0] != "info" { // whatever its name
					continue
				}
				args = slices.Insert(args, 1, packed)
				got := fails(t, 0, fmt.Sprintf(notice, advice), args...)
				args[1] = plain
				if want := ok(t, args...); strings.ReplaceAll(got, packed, plain) != want {
					t.Errorf("%q:\n%s\nwant\n%s", args, got, want)
				}
			}
			if name == "xx" {
				return
			}
			// As it says, pack makes it quick.
			quick := filepath.Join(dir, "quick-"+name+".zst")
			fails(t, 0, fmt.Sprintf(notice, ""), "pack", packed, "-o", quick)
			ok(t, "verify", quick)
			if got := ok(t, "unpack", quick, "-o", "-"); got != string(contentOf(t, plain)) {
				t.Error("packed anew and unpacked it differs")
			}
		})
	}
	t.Run("no names", func(t *testing.T) {
		fails(t, 2, "say where to with -o", "unpack", plain)
		fails(t, 2, "say where to with -o", "pack", filepath.Join(dir, "their-zst.zst"))
		fails(t, 1, "no such file", "pack", filepath.Join(dir, "none"))
		fails(t, 1, "no regular file", "pack", dir)
	})
}

func contentOf(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Pack and unpack are each other's inverse, and lose nothing that is there.
func TestPack(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	pid := strconv.Itoa(p.PID())
	prefix := filepath.Join(t.TempDir(), "core")
	plain := prefix + "." + pid
	zst := plain + ".zst"
	ok(t, "core", "-o", prefix, pid)
	want := contentOf(t, plain)

	if out := ok(t, "pack", plain); !strings.HasPrefix(out, zst+": ") {
		t.Errorf("it says %s", out)
	}
	packed := contentOf(t, zst)
	tool(t, "zstd", "-q", "-t", zst)
	fails(t, 1, `file (already )?exists \(use --force to replace it\)`, "pack", plain)
	fails(t, 1, `file (already )?exists \(use --force to replace it\)`, "unpack", zst)
	if !bytes.Equal(contentOf(t, zst), packed) || !bytes.Equal(contentOf(t, plain), want) {
		t.Fatal("what was refused was done")
	}
	if err := os.WriteFile(plain, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	ok(t, "unpack", "--force", zst)
	if !bytes.Equal(contentOf(t, plain), want) {
		t.Error("unpack --force: it differs")
	}
	ok(t, "pack", "--force", plain)
	if got := ok(t, "pack", "-o", "-", plain); got != string(packed) {
		t.Error("to stdout it is packed otherwise")
	}
	if got := ok(t, "unpack", "-o", "-", zst); got != string(want) {
		t.Error("unpacked to stdout it differs")
	}
	left, err := os.ReadDir(filepath.Dir(prefix))
	if err != nil || len(left) != 2 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// What goes to stdout is the core and nothing else.
func TestCompressedStream(t *testing.T) {
	p := testproc.Start(t, testproc.Many, "fill", "8M", "mixed")
	for _, method := range []string{"stop", "precopy", "live"} {
		t.Run(method, func(t *testing.T) {
			out, msg, status := procmemCommand(t, "core", "-o", "-", "--compress", "zstd", "--method", method, strconv.Itoa(p.PID()))
			if status != 0 || !strings.HasPrefix(msg, "the stream: process ") {
				t.Fatalf("status %d, %s", status, msg)
			}
			file := filepath.Join(t.TempDir(), "core.zst")
			if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
				t.Fatal(err)
			}
			tool(t, "zstd", "-q", "-t", file)
			ok(t, "verify", file)
			fill, page := p.Fill(t), make([]byte, procmem.PageSize)
			got := ok(t, "read", file, fill.Range.String(), "-f", "raw")
			for i := range int(fill.Size() / procmem.PageSize) {
				if fill.Want(page, i); got[i*procmem.PageSize:(i+1)*procmem.PageSize] != string(page) {
					t.Fatalf("page %d differs", i)
				}
			}
		})
	}
}

// damage is one line of verify --json.
type damage struct {
	Start, End   procmem.Addr
	Offset, Size int64
	Reason       string
}

type verdict struct {
	Path        string   `json:"path"`
	Checked     bool     `json:"checked"`
	MemoryBytes uint64   `json:"memory_bytes"`
	Damaged     []damage `json:"damaged"`
}

func verifyJSON(t *testing.T, status int, pattern, path string) verdict {
	t.Helper()
	var v verdict
	out := fails(t, status, pattern, "verify", "--json", path)
	if err := json.Unmarshal([]byte(out), &v); err != nil || v.Path != path || v.Damaged == nil || v.MemoryBytes == 0 && v.Checked {
		t.Fatalf("%v: %s", err, out)
	}
	return v
}

// offsetOf is where the core has the byte at an address.
func offsetOf(t *testing.T, path string, addr procmem.Addr) int64 {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, s := range f.Progs {
		if s.Type == elf.PT_LOAD && uint64(addr) >= s.Vaddr && uint64(addr)-s.Vaddr < s.Filesz {
			return int64(s.Off + uint64(addr) - s.Vaddr)
		}
	}
	t.Fatalf("%v is not in %s", addr, path)
	return 0
}

// flip changes one bit of a file.
func flip(t *testing.T, path string, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 4
	if _, err := f.WriteAt(b[:], off); err != nil {
		t.Fatal(err)
	}
}

// Verify tells the very page in which a bit has changed.
func TestVerifyNamesThePage(t *testing.T) {
	p := testproc.Start(t, testproc.Many, "fill", "4M")
	prefix := filepath.Join(t.TempDir(), "core")
	path := prefix + "." + strconv.Itoa(p.PID())
	ok(t, "core", "-o", prefix, strconv.Itoa(p.PID()))
	if v := verifyJSON(t, 0, "^$", path); !v.Checked || len(v.Damaged) > 0 || v.MemoryBytes < 4<<20 {
		t.Fatalf("%+v", v)
	}
	if out := ok(t, "verify", path); !regexp.MustCompile(`: whole: .* of memory, headers and notes are as they were written\n$`).MatchString(out) {
		t.Fatal(out)
	}
	fill := p.Fill(t)
	addr := fill.Start + 77*procmem.PageSize
	off := offsetOf(t, path, addr)
	const differs = ": not what its checksum says\n"
	const one, two = `^procmem: verify \S+: 1 part damaged\n$`, `^procmem: verify \S+: 2 parts damaged\n$`

	flip(t, path, off+1234)
	want := procmem.Range{Start: addr, End: addr + procmem.PageSize}
	if out := fails(t, 1, one, "verify", path); out != want.String()+differs {
		t.Errorf("it prints %q; want %v", out, want)
	}
	v := verifyJSON(t, 1, one, path)
	if len(v.Damaged) != 1 || v.Damaged[0].Start != want.Start || v.Damaged[0].End != want.End || v.Damaged[0].Reason != "not what its checksum says" {
		t.Errorf("%+v", v)
	}

	// Neighbours are one part, others are not.
	flip(t, path, off+procmem.PageSize)
	flip(t, path, off+100*procmem.PageSize)
	want.End += procmem.PageSize
	other := procmem.Range{Start: addr + 100*procmem.PageSize, End: addr + 101*procmem.PageSize}
	if out := fails(t, 1, two, "verify", path); out != want.String()+differs+other.String()+differs {
		t.Errorf("it prints %q; want %v and %v", out, want, other)
	}
	flip(t, path, off+1234)
	flip(t, path, off+procmem.PageSize)
	flip(t, path, off+100*procmem.PageSize)
	ok(t, "verify", path)

	// A page has become a hole.
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	old := make([]byte, procmem.PageSize)
	if _, err := f.ReadAt(old, off); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, len(old)), off); err != nil {
		t.Fatal(err)
	}
	want.End = want.Start + procmem.PageSize
	if out := fails(t, 1, one, "verify", path); !strings.HasPrefix(out, want.String()+": ") || strings.Count(out, "\n") != 1 {
		t.Errorf("of zeros it prints %q; want %v", out, want)
	}
	if _, err := f.WriteAt(old, off); err != nil {
		t.Fatal(err)
	}

	// A bit of what is not memory.
	flip(t, path, 0x20) // where the program headers are
	fails(t, 1, ".", "verify", path)
	flip(t, path, 0x20)
	flip(t, path, 64+56+4) // flags of the second program header
	if out := fails(t, 1, one, "verify", path); !strings.HasPrefix(out, "file offset ") {
		t.Errorf("of a program header it prints %q", out)
	}
	flip(t, path, 64+56+4)
	ok(t, "verify", path)

	// The end is missing, wherever it is.
	size := int64(len(contentOf(t, path)))
	for _, n := range []int64{size - 1, off + 10, 5000, 1} {
		if err := f.Truncate(n); err != nil {
			t.Fatal(err)
		}
		fails(t, 1, `^procmem: .*\n$`, "verify", path)
	}
}

// A core without checksums.
func TestVerifyWithoutChecksums(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	prefix := filepath.Join(t.TempDir(), "core")
	path := prefix + "." + strconv.Itoa(p.PID())
	if gdb, err := exec.LookPath("gdb"); err != nil {
		t.Skip(err)
	} else if out, err := exec.Command(gdb, "-nx", "-batch", "-ex", "gcore "+path, "-p", strconv.Itoa(p.PID())).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const none = `^procmem: \S+ has no checksums: .*\n$`
	if out := fails(t, 3, none, "verify", path); out != "" {
		t.Error(out)
	}
	if v := verifyJSON(t, 3, none, path); v.Checked || len(v.Damaged) > 0 {
		t.Errorf("%+v", v)
	}
	// What is cut off is seen all the same.
	size := int64(len(contentOf(t, path)))
	if err := os.Truncate(path, size/2); err != nil {
		t.Fatal(err)
	}
	fails(t, 1, "the file is cut off", "verify", path)
}

// Compressed cores that are cut off, or in which a bit has changed: errors that
// tell, and no wrong byte.
func TestDamagedCompressedCore(t *testing.T) {
	p := testproc.Start(t, testproc.Many, "fill", "4M")
	zst, _ := compressedCore(t, p)
	want := contentOf(t, zst)
	fill := p.Fill(t)
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(zst, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	// A bit in the middle, which is random data of the target.
	bad := slices.Clone(want)
	bad[len(bad)/2] ^= 4
	write(bad)
	v := verifyJSON(t, 1, `^procmem: verify \S+: \d+ parts? damaged\n$`, zst)
	if len(v.Damaged) != 1 || !fill.Contains(v.Damaged[0].Start) || v.Damaged[0].End > fill.End || v.Damaged[0].End-v.Damaged[0].Start > 256<<10 {
		t.Fatalf("one frame is damaged: %+v; all of it is in %v", v.Damaged, fill.Range)
	}
	d, page := v.Damaged[0], make([]byte, procmem.PageSize)
	for _, addr := range []procmem.Addr{fill.Start, d.Start - procmem.PageSize, d.Start, d.End - procmem.PageSize, d.End} {
		out, msg, status := procmemCommand(t, "read", zst, addr.String()+"+4096", "-f", "raw")
		if addr >= d.Start && addr < d.End {
			if status == 0 || out != "" || msg == "" {
				t.Errorf("damaged %v: status %d, %d bytes, %s", addr, status, len(out), msg)
			}
			continue
		}
		if fill.Want(page, int((addr-fill.Start)/procmem.PageSize)); status != 0 || out != string(page) {
			t.Errorf("page %v before or behind the damage: status %d, %s", addr, status, msg)
		}
	}
	// What can be unpacked is, and what cannot is told, and zeros.
	for _, form := range [][]string{{"unpack", zst}, {"pack", zst}} {
		rescued := filepath.Join(t.TempDir(), "x")
		fails(t, 3, `^procmem: \S+: offset 0x\w+-0x\w+: unpack frame .*: 262144 bytes are zeros in what was written\n$`, append(form, "-o", rescued)...)
		v2 := verifyJSON(t, 1, `^procmem: verify \S+: \d+ parts? damaged\n$`, rescued)
		if len(v2.Damaged) != 1 || v2.Damaged[0].Start != d.Start || v2.Damaged[0].End != d.End {
			t.Errorf("%s: damaged %+v, as in the compressed core %+v", form[0], v2.Damaged, d)
		}
	}

	// A bit in the frame of the notes: the memory can be read, and is compared.
	plain := filepath.Join(t.TempDir(), "plain")
	bad = slices.Clone(want)
	for off := len(bad) - 1; ; off -= 500 { // the table lies behind
		bad[off] ^= 4
		write(bad)
		if _, msg, status := procmemCommand(t, "info", zst); status == 0 && strings.Contains(msg, "is damaged: file offset") {
			break
		}
		if bad[off] ^= 4; off < 500 {
			t.Fatal("no byte of the notes was found")
		}
	}
	out, msg, status := procmemCommand(t, "read", zst, fill.Start.String()+"+4096", "-f", "raw")
	if fill.Want(page, 0); status != 0 || out != string(page) || !strings.Contains(msg, "is damaged: file offset") {
		t.Errorf("memory of a core with damaged notes: status %d, %s", status, msg)
	}
	v = verifyJSON(t, 1, `^procmem: verify \S+: \d+ parts? damaged\n$`, zst)
	if len(v.Damaged) == 0 || slices.ContainsFunc(v.Damaged, func(d damage) bool { return d.Start > 0 && !strings.HasPrefix(d.Reason, "unpack frame") }) {
		t.Errorf("damaged notes: %+v", v)
	}
	fails(t, 3, `.* are zeros in what was written\n$`, "unpack", zst, "-o", plain)

	// A bit in the table, without which all the data is still there.
	bad = slices.Clone(want)
	bad[len(bad)-15] ^= 4
	write(bad)
	if out, msg, status := procmemCommand(t, "verify", zst); status != 1 || out != "" || !strings.Contains(msg, "cut off or damaged") {
		t.Errorf("a damaged table: status %d, %s%s", status, out, msg)
	}

	// The end is missing: first of the table, without which it is still a zstd
	// file, then of the data.
	for _, cut := range []int{1, 50} {
		write(want[:len(want)-cut])
		if _, msg, status := procmemCommand(t, "verify", zst); status != 1 || !strings.Contains(msg, "is cut off") {
			t.Errorf("without its last %d bytes: status %d, %s", cut, status, msg)
		}
		if _, msg, status := procmemCommand(t, "unpack", zst, "-o", plain, "--force"); status != 3 || !strings.Contains(msg, "is cut off") {
			t.Errorf("unpacked without its last %d bytes: status %d, %s", cut, status, msg)
		}
	}
	for _, n := range []int{len(want) * 3 / 4, 1 << 20} {
		write(want[:n])
		v := verifyJSON(t, 1, `^procmem: \S+ has no seek table.*\nprocmem: \S+ is cut off, or damaged: .*\nprocmem: verify \S+: the file is cut off: .*\n$`, zst)
		if !slices.ContainsFunc(v.Damaged, func(d damage) bool { return d.Start > 0 && d.End >= fill.End }) {
			t.Errorf("of %d bytes the first %d: %+v", len(want), n, v.Damaged)
		}
	}
	for _, n := range []int{3000, 5, 0} {
		write(want[:n])
		fails(t, 1, `procmem: .*\n$`, "verify", zst)
		fails(t, 1, `procmem: .*\n$`, "info", zst)
	}
}

// What is lost is one line, however many frames it is; of very many parts the
// first are told, and a total.
func TestManyFramesLost(t *testing.T) {
	p := testproc.Start(t, testproc.Many, "fill", "32M")
	zst, plain := compressedCore(t, p)
	want := contentOf(t, zst)
	off := bytes.Index(contentOf(t, plain), want[len(want)/2:][:100]) // random data is as it was
	if off < 0 {
		t.Fatal("no data of the core was found in the middle of the compressed one")
	}
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(zst, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const frame = 256 << 10
	one := regexp.MustCompile(`^procmem: \S+: offset (0x\w+)-(0x\w+): unpack frame \d+, .* \(and \d+ more behind it\): (\d+) bytes are zeros in what was written\n$`)

	// A stretch.
	bad := slices.Clone(want)
	clear(bad[len(bad)/2:][:10*frame])
	write(bad)
	for _, verb := range []string{"unpack", "pack"} {
		_, msg, status := procmemCommand(t, verb, zst, "-o", filepath.Join(t.TempDir(), "x"))
		m := one.FindStringSubmatch(msg)
		if status != 3 || m == nil {
			t.Fatalf("%s: status %d, %s", verb, status, msg)
		}
		start, _ := strconv.ParseInt(m[1], 0, 64)
		end, _ := strconv.ParseInt(m[2], 0, 64)
		if n := strconv.FormatInt(end-start, 10); n != m[3] || end-start < 10*frame || end-start > 12*frame || start > int64(off) || end < int64(off)+9*frame {
			t.Errorf("%s: %s; lost are 10 frames or 11 from %#x on", verb, msg, off)
		}
	}
	if v := verifyJSON(t, 1, `: 1 part damaged\n$`, zst); len(v.Damaged) != 1 || v.Damaged[0].End-v.Damaged[0].Start < 10*frame || !strings.Contains(v.Damaged[0].Reason, "more behind it") {
		t.Errorf("%+v", v.Damaged)
	}

	// Each second frame.
	bad = slices.Clone(want)
	n := 0
	for at := len(want) - 5*frame; at > 4<<20; at -= 2 * frame {
		bad[at] ^= 4
		n++
	}
	write(bad)
	v := verifyJSON(t, 1, ` parts damaged\n$`, zst)
	if len(v.Damaged) != n || n < 40 {
		t.Fatalf("%d parts are damaged, want %d: %+v", len(v.Damaged), n, v.Damaged)
	}
	out := fails(t, 1, fmt.Sprintf(`: %d parts damaged\n$`, n), "verify", zst)
	if strings.Count(out, "\n") != n {
		t.Errorf("verify prints %s; want %d parts", out, n)
	}
	more := fmt.Sprintf("%d parts more: %d bytes", n-20, (n-20)*frame)
	_, msg, status := procmemCommand(t, "dump", zst, "-o", filepath.Join(t.TempDir(), "x"))
	if want := fmt.Sprintf("missing %d ranges more, %d bytes (index.json lists them)\n", n-20, (n-20)*frame); status != 3 || strings.Count(msg, "\n") != 21 || !strings.HasSuffix(msg, want) {
		t.Errorf("dump: status %d, %s; want 20 ranges and %s", status, msg, want)
	}
	_, msg, status = procmemCommand(t, "unpack", zst, "-o", filepath.Join(t.TempDir(), "x"))
	if status != 3 || strings.Count(msg, "\n") != 21 || !strings.HasSuffix(msg, zst+": "+more+" are zeros in what was written\n") {
		t.Errorf("unpack: status %d, %s; want 20 parts and %s", status, msg, more)
	}
}

// What is no core is not packed, and when it is unpacked that is told.
func TestPackNoCore(t *testing.T) {
	dir := t.TempDir()
	save := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	out := filepath.Join(dir, "out")
	text := save("text", []byte("no core\n"))
	tool(t, "zstd", "-q", text)
	twice := text + ".zst.gz"
	tool(t, "sh", "-c", `gzip <"$1" >"$2"`, "sh", text+".zst", twice)
	for path, want := range map[string]string{text: "no ELF header", save("xz", []byte("\xfd7zXZ\x00...")): "compressed with xz", twice: "compressed twice", save("empty", nil): "the file is empty"} {
		fails(t, 1, `^(procmem: .*\n)?procmem: pack \S+: offset 0x0: not a core file: .*`+want+`.*\n$`, "pack", path, "-o", out)
	}
	fails(t, 3, `no seek table(.|\n)*what is in it is no whole core: .*no ELF header\n$`, "unpack", text+".zst", "-o", out)
	if b, err := os.ReadFile(out); err != nil || string(b) != "no core\n" {
		t.Errorf("unpacked: %q, %v", b, err)
	}
	fails(t, 2, "not read from a stream", "pack", "-")
	fails(t, 2, "only s3://", "pack", text, "-o", "gs://bucket/x")

	// What is left of a core is packed, and told to be no more.
	p := testproc.Start(t, testproc.Many, "fill", "1M")
	ok(t, "core", "-o", filepath.Join(dir, "core"), strconv.Itoa(p.PID()))
	plain := fmt.Sprint(dir, "/core.", p.PID())
	b, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	b[bytes.Index(b, []byte("CORE\x00"))-6] = 0xff // of the size of the first note
	save("notes", b)
	fails(t, 3, `no whole core: file offset .*\n$`, "pack", filepath.Join(dir, "notes"))
	info, err := os.Stat(plain)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(plain, info.Size()/2); err != nil {
		t.Fatal(err)
	}
	fails(t, 3, `no whole core: .*\n$`, "pack", plain)
	if b := contentOf(t, plain+".zst"); len(b) == 0 {
		t.Error("nothing was packed")
	}
}

// The name of a file sends nothing to the terminal, and makes no lines.
func TestNamesOfFiles(t *testing.T) {
	p := testproc.Start(t, testproc.Many, "fill", "1M")
	dir := t.TempDir()
	odd := filepath.Join(dir, "odd\x1b[5m\nname")
	if out := ok(t, "core", "-o", odd, strconv.Itoa(p.PID())); !strings.Contains(out, `odd\x1b[5m\nname.`) || strings.Contains(out, "\x1b") {
		t.Errorf("it says %q", out)
	}
	if err := os.Rename(fmt.Sprint(odd, ".", p.PID()), odd); err != nil {
		t.Fatal(err)
	}
	ok(t, "pack", odd)
	save := func(suffix string, b []byte) string {
		if err := os.WriteFile(odd+suffix, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return odd + suffix
	}
	plain, bad := contentOf(t, odd), contentOf(t, odd+".zst")
	bad[len(bad)/2] ^= 4
	behind := save("behind", []byte(tool(t, "sh", "-c", `gzip -1 <"$1"; echo rubbish`, "sh", odd)))
	cut := save("cut", []byte(tool(t, "sh", "-c", `gzip -1 <"$1" | head -c 50000`, "sh", odd)))
	for _, c := range []struct {
		status, lines int
		args          []string
	}{
		{3, 1, []string{"pack", save("half", plain[:len(plain)/2]), "-o", odd + "a"}},
		{3, 1, []string{"unpack", save("bad", bad), "-o", odd + "b"}},
		{0, 2, []string{"verify", behind}},
		{0, 2, []string{"maps", behind}},
		{3, 3, []string{"maps", cut}},
		{0, 0, []string{"dump", odd, "-o", odd + "c"}},
	} {
		out, msg, status := procmemCommand(t, c.args...)
		if status != c.status || strings.Contains(out+msg, "\x1b") || strings.Contains(out+msg, "\nname") || strings.Count(msg, "\n") != c.lines {
			t.Errorf("%q: status %d, %q, on stderr %q", c.args, status, out, msg)
		}
	}

	msgs, stderr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer msgs.Close()
	s := beginStuck(t, stderr, "pack", odd, "-o", "-")
	if err := s.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(msgs).ReadString('\n'); err != nil || !strings.Contains(line, `odd\x1b[5m\nname: writing`) {
		t.Errorf("%q, %v", line, err)
	}
	s.finish(t)
}

// A signal ends the unpacking of what cannot be read in place, which may take
// minutes.
func TestInterruptedUnpacking(t *testing.T) {
	var member bytes.Buffer
	z := gzip.NewWriter(&member)
	z.Write(make([]byte, 64<<20))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "core.gz")
	if err := os.WriteFile(path, bytes.Repeat(member.Bytes(), 2000), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"pack", "unpack", "verify", "info"} {
		cmd := exec.CommandContext(t.Context(), "procmem", command, path)
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(stderr).ReadString('\n')
		if err != nil || !strings.Contains(line, "unpacking it to a temporary file") {
			t.Errorf("%s: it says %q, %v", command, line, err)
		}
		cmd.Process.Signal(syscall.SIGTERM)
		if cmd.Wait(); cmd.ProcessState.String() != "signal: terminated" {
			t.Errorf("%s: %v", command, cmd.ProcessState)
		}
	}
}

// Of a core that lacks more memory than it can list, each command says so: the
// rest of it reads as zeros.
func TestMoreMissingThanListed(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	out, _, status := procmemCommand(t, "core", "--method", "stop", "-o", "-", strconv.Itoa(p.PID()))
	if status != 0 {
		t.Fatal(status)
	}
	core := []byte(out)
	// A stream keeps room for its report: spaces.
	const more = `"missing_more":7,"missing_more_bytes":28672,`
	at := bytes.Index(core, []byte(`"missing":[`))
	end := at + bytes.Index(core[at:], bytes.Repeat([]byte(" "), len(more)))
	if at < 0 || end < at {
		t.Fatal("no report with room")
	}
	copy(core[at:end+len(more)], slices.Concat([]byte(more), core[at:end]))
	path := filepath.Join(t.TempDir(), "core")
	if err := os.WriteFile(path, core, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"read", path, "[stack]"}, {"maps", path}, {"strings", path}} {
		_, msg, _ := procmemCommand(t, args...)
		if !strings.Contains(msg, "lacks 7 ranges of memory more than it could list, with 28672 bytes") {
			t.Errorf("%s: %s", args[0], msg)
		}
	}
}
