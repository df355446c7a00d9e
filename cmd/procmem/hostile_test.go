package main

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/procmem/procmem/internal/testproc"
)

// outcome is what became of a command that was given something bad.
type outcome struct {
	args   []string
	status int
	stdout int // bytes
	stderr string
}

// survive runs the command and fails the test if it crashes, hangs, or takes
// memory that grows with what the input claims.
func survive(t *testing.T, args ...string) outcome {
	t.Helper()
	const (
		deadline = 60 * time.Second
		maxRSS   = 200 << 10 // KiB
		maxData  = 600 << 20
	)
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	// The limit is on what can be written to, where the program is not asked.
	argv := append([]string{"prlimit", "--data=" + strconv.Itoa(maxData), "procmem"}, args...)
	if raceEnabled {
		argv = argv[2:] // the race detector takes memory of its own
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var stderr bytes.Buffer
	stdout := counter(0)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	o := outcome{args, cmd.ProcessState.ExitCode(), int(stdout), stderr.String()}
	if ctx.Err() != nil {
		t.Errorf("%q: not done after %v", args, deadline)
		return o
	}
	if err != nil && o.status < 0 {
		t.Errorf("%q: %v", args, err)
	}
	if o.status < 0 || o.status > 3 || strings.Contains(o.stderr, "panic:") || strings.Contains(o.stderr, "goroutine ") ||
		strings.Contains(o.stderr, "out of memory") || strings.Contains(o.stderr, "runtime error") {
		t.Errorf("%q: status %d, %.2000s", args, o.status, o.stderr)
	}
	if o.status == exitFailed && o.stderr == "" {
		t.Errorf("%q: failed, and says nothing", args)
	}
	if strings.ContainsAny(o.stderr, "\x1b\x07\x00") {
		t.Errorf("%q: the message could harm a terminal: %q", args, o.stderr)
	}
	if rss := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss; rss > maxRSS && !raceEnabled {
		t.Errorf("%q: took %d MiB of memory", args, rss>>10)
	}
	return o
}

// counter is a Writer that counts, and refuses more than any input here
// justifies.
type counter int

func (c *counter) Write(p []byte) (int, error) {
	if *c += counter(len(p)); *c > 256<<20 {
		return 0, fmt.Errorf("too much output")
	}
	return len(p), nil
}

// commands are what works on a core.
func commands(file, dir string, ranges ...string) [][]string {
	cmds := [][]string{{"info", file}, {"info", "--json", file}, {"maps", file}, {"threads", "-r", file}, {"dump", file, "-o", "-"},
		{"dump", file, "-o", filepath.Join(dir, "dump")}, {"read", file, "0x0-0xffffffffffffffff", "-f", "hex"}}
	for _, r := range append(ranges, "[stack]") {
		cmds = append(cmds, []string{"read", file, r})
	}
	return cmds
}

// tryAll gives one bad file to every command.
func tryAll(t *testing.T, dir, file string, ranges ...string) {
	t.Helper()
	for _, args := range commands(file, dir, ranges...) {
		survive(t, args...)
	}
	os.RemoveAll(filepath.Join(dir, "dump"))
	if left, _ := filepath.Glob(filepath.Join(dir, "dump*")); len(left) > 0 {
		t.Errorf("%s: dump left %v", file, left)
	}
}

// smallCore takes a core of a small process.
func smallCore(t *testing.T) []byte {
	t.Helper()
	p := testproc.Start(t, testproc.Kids)
	prefix := filepath.Join(t.TempDir(), "core")
	if _, msg, status := procmemCommand(t, "core", "-o", prefix, strconv.Itoa(p.PID())); status != 0 {
		t.Fatal(msg)
	}
	b, err := os.ReadFile(prefix + "." + strconv.Itoa(p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// spoiled runs try for each name in parallel, each with a folder of its own.
func spoiled(t *testing.T, files map[string][]byte, try func(t *testing.T, dir, file string)) {
	t.Helper()
	sem := make(chan struct{}, 4)
	var wg sync.WaitGroup
	n := 0
	for name, b := range files {
		// The order is another each time. The race detector makes each
		// start slow, and finds nothing in the hundredth file.
		if n++; raceEnabled && n > 40 {
			break
		}
		sem <- struct{}{}
		wg.Go(func() {
			defer func() { <-sem }()
			dir, err := os.MkdirTemp("", "procmem-hostile-")
			if err != nil {
				t.Error(err)
				return
			}
			defer os.RemoveAll(dir)
			file := filepath.Join(dir, strings.NewReplacer("/", "-", " ", "-").Replace(name))
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Error(err)
				return
			}
			try(t, dir, file)
		})
	}
	wg.Wait()
}

// A core that was cut off, at every place where something begins.
func TestCutCore(t *testing.T) {
	b := smallCore(t)
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	cuts := map[int]bool{0: true, 1: true, 4: true, 16: true, 19: true, 20: true, 63: true, 64: true, len(b) - 1: true}
	for i, p := range f.Progs {
		if i < 3 || i == len(f.Progs)-1 {
			cuts[64+56*i], cuts[64+56*i+13] = true, true
		}
		cuts[int(p.Off)], cuts[int(p.Off+p.Filesz/2)] = true, true
	}
	files := map[string][]byte{}
	for n := range cuts {
		files[fmt.Sprintf("cut-%d", n)] = b[:min(n, len(b))]
	}
	headers := 64 + 56*len(f.Progs)
	spoiled(t, files, func(t *testing.T, dir, file string) {
		n, _ := strconv.Atoi(strings.TrimPrefix(filepath.Base(file), "cut-"))
		if n < headers {
			for _, args := range commands(file, dir) {
				o := survive(t, args...)
				if o.status != exitFailed || !strings.Contains(o.stderr, "offset 0x") || !strings.HasPrefix(o.stderr, "procmem: open core "+file+": ") {
					t.Errorf("%q: status %d, %s", args, o.status, o.stderr)
				}
			}
			return
		}
		if o := survive(t, "info", file); o.status != exitDone && o.status != exitMissing || n < len(b)-1 && o.stdout == 0 {
			t.Errorf("cut at %d: %+v", n, o)
		}
		if o := survive(t, "dump", file, "-o", "-"); o.status != exitDone && o.status != exitMissing {
			t.Errorf("cut at %d: %+v", n, o)
		}
		tryAll(t, dir, file)
	})
}

func patched(b []byte, at int, v any) []byte {
	b = bytes.Clone(b)
	var w bytes.Buffer
	_ = binary.Write(&w, binary.LittleEndian, v)
	copy(b[at:], w.Bytes())
	return b
}

// Headers that lie.
func TestCorruptHeaders(t *testing.T) {
	b := smallCore(t)
	files := map[string][]byte{}
	for i := range 64 {
		for _, v := range []byte{0, 0xff} {
			if b[i] != v {
				files[fmt.Sprintf("header-%d-%#x", i, v)] = patched(b, i, v)
			}
		}
	}
	const first = 64
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, len(f.Progs) / 2} {
		at := first + 56*n
		for name, off := range map[string]int{"offset": 8, "vaddr": 16, "filesz": 32, "memsz": 40} {
			for _, v := range []uint64{0, 1, uint64(len(b)), 1 << 32, 1 << 47, 1 << 62, math.MaxInt64, 1 << 63, math.MaxUint64} {
				files[fmt.Sprintf("phdr-%d-%s-%#x", n, name, v)] = patched(b, at+off, v)
			}
		}
		for _, typ := range []uint32{0, 1, 4, math.MaxUint32} {
			files[fmt.Sprintf("phdr-%d-type-%d", n, typ)] = patched(b, at, typ)
		}
		// Promises memory without end, none of which is in the file.
		huge := patched(patched(b, at+32, uint64(1<<62)), at+40, uint64(1<<62))
		files[fmt.Sprintf("phdr-%d-huge", n)] = patched(patched(huge, at, uint32(elf.PT_LOAD)), at+16, uint64(1<<62))
		files[fmt.Sprintf("phdr-%d-over-all", n)] = patched(patched(huge, at, uint32(elf.PT_LOAD)), at+16, uint64(0))
	}
	// As many program headers as the format can say, in a section header.
	many := patched(patched(b, 56, uint16(0xffff)), 40, uint64(len(b)))
	for _, n := range []uint32{0, 1, 0xffff, 1 << 24, math.MaxUint32} {
		shdr := make([]byte, 64)
		binary.LittleEndian.PutUint32(shdr[44:], n)
		files[fmt.Sprintf("xnum-%d", n)] = append(bytes.Clone(many), shdr...)
	}
	files["xnum-none"] = many
	spoiled(t, files, func(t *testing.T, dir, file string) {
		o := survive(t, "info", file)
		if o.status == exitFailed {
			if !strings.Contains(o.stderr, "offset 0x") && !strings.Contains(o.stderr, "not a core") {
				t.Errorf("%q: no offset: %s", o.args, o.stderr)
			}
			survive(t, "read", file, "[stack]")
			return
		}
		switch {
		case strings.Contains(file, "header-"): // as good as the original
			survive(t, "maps", file)
		case strings.Contains(file, "-huge"), strings.Contains(file, "-over-all"), strings.Contains(file, "xnum"):
			tryAll(t, dir, file, "0x4000000000000000+0x3000000000000000", "0x0+0x3000000000000000")
		default:
			survive(t, "dump", file, "-o", "-")
			survive(t, "read", file, "0x0-0xffffffffffffffff")
		}
	})
}

// Notes that lie.
func TestCorruptNotes(t *testing.T) {
	b := smallCore(t)
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE {
			continue
		}
		start, end := int(p.Off), int(p.Off+p.Filesz)
		for at, k := start, 0; at+12 <= end; k++ {
			name := binary.LittleEndian.Uint32(b[at:])
			desc := binary.LittleEndian.Uint32(b[at+4:])
			if name == 0 {
				break
			}
			for _, v := range []uint32{0, 1, desc + 1, desc - 4, 1 << 20, math.MaxInt32, math.MaxUint32} {
				files[fmt.Sprintf("note-%d-name-%d", k, v)] = patched(b, at, v)
				files[fmt.Sprintf("note-%d-desc-%d", k, v)] = patched(b, at+4, v)
			}
			body := at + 12 + int(name+3)&^3
			for _, v := range []uint64{0, 1 << 32, math.MaxInt64, math.MaxUint64} {
				files[fmt.Sprintf("note-%d-word-%d", k, v)] = patched(b, body, v)
				files[fmt.Sprintf("note-%d-word2-%d", k, v)] = patched(b, body+8, v)
			}
			at = body + int(desc+3)&^3
		}
		rnd := rand.New(rand.NewPCG(1, 2))
		for k := range 60 {
			c := bytes.Clone(b)
			for range 1 + k%20 {
				c[start+rnd.IntN(end-start)] = byte(rnd.Uint32())
			}
			files[fmt.Sprintf("random-%d", k)] = c
		}
	}
	if len(files) < 100 {
		t.Fatalf("%d files", len(files))
	}
	n := 0
	var mu sync.Mutex
	spoiled(t, files, func(t *testing.T, dir, file string) {
		o := survive(t, "info", file)
		if o.status == exitFailed && !strings.Contains(o.stderr, "offset 0x") {
			t.Errorf("%q: no offset: %s", o.args, o.stderr)
		}
		mu.Lock()
		n++
		few := n%16 == 0
		mu.Unlock()
		if few {
			tryAll(t, dir, file)
		} else if o.status == exitDone {
			survive(t, "threads", "-r", file)
		}
	})
}

// A core from anywhere cannot send commands to the terminal.
func TestHostileText(t *testing.T) {
	b := smallCore(t)
	for _, old := range []string{"kids", `"method":"stop"`, "0.1.0-dev"} {
		if !bytes.Contains(b, []byte(old)) {
			t.Fatalf("no %q in the core", old)
		}
		b = bytes.ReplaceAll(b, []byte(old), []byte("\x1b[5m\x07\xff\x9b31m and more of it")[:len(old)])
	}
	b = bytes.ReplaceAll(b, []byte("/usr"), []byte("\x1b[1m"))
	spoiled(t, map[string][]byte{"text": b}, func(t *testing.T, dir, file string) {
		for _, args := range [][]string{{"info", file}, {"maps", file}, {"threads", file}, {"read", file, "x"}, {"read", file, "[stack]", "-f", "ptr"}} {
			out, msg, _ := procmemCommand(t, args...)
			if strings.ContainsAny(out+msg, "\x1b\x07") || !utf8.ValidString(out+msg) {
				t.Errorf("%q: harmful: %q", args, out+msg)
			}
		}
		tryAll(t, dir, file)
	})
}

// Neither can the reason that it gives for memory that it lacks.
func TestHostileReason(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin")
	dir := t.TempDir()
	if _, msg, _ := procmemCommand(t, "core", "-o", filepath.Join(dir, "core"), strconv.Itoa(p.PID())); !strings.Contains(msg, "the kernel refuses") {
		t.Skip("all can be read here")
	}
	file := fmt.Sprint(dir, "/core.", p.PID())
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		t.Fatal(err)
	}
	// The report is in the last note.
	b := make([]byte, 1<<20)
	if _, err := f.ReadAt(b, size-int64(len(b))); err != nil {
		t.Fatal(err)
	}
	b = bytes.ReplaceAll(b, []byte("the kernel refuses"), []byte(`\u001b[5m  refuses`))
	if _, err := f.WriteAt(b, size-int64(len(b))); err != nil {
		t.Fatal(err)
	}
	if _, msg, status := procmemCommand(t, "dump", file, "-o", filepath.Join(dir, "dump")); status != 3 || !strings.Contains(msg, `\x1b[5m  refuses`) {
		t.Errorf("status %d, %q", status, msg)
	}
}

// Files that are no cores.
func TestNoCore(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, b []byte) string {
		if err := os.WriteFile(path(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path(name)
	}
	if err := syscall.Mkfifo(path("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Symlink("loop", path("loop")); err != nil {
		t.Fatal(err)
	}
	sparse := write("sparse", nil)
	if err := os.Truncate(sparse, 1<<40); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		write("empty", nil): "offset 0x0: not a core file: the file is empty",
		write("text", []byte(strings.Repeat("a\n", 99))): "offset 0x0: not a core file: no ELF header",
		write("zeros", make([]byte, 1<<20)):              "offset 0x0: not a core file: no ELF header",
		sparse:                                           "offset 0x0: not a core file: no ELF header",
		path("fifo"):                                     "not a regular file but a pipe",
		path("socket"):                                   "not a regular file but a socket",
		path("loop"):                                     "too many levels of symbolic links",
		path("none"):                                     "no such file",
		dir:                                              "not a regular file but a directory",
		"/dev/zero":                                      "not a regular file but a device",
		"/dev/null":                                      "not a regular file but a device",
		"/proc/self/exe":                                 "not a core file: ELF ",
		"/proc/thread-self/maps":                         "not a core file",
		"/proc/thread-self/mem":                          "not a core file",
	}
	for file, want := range files {
		for _, args := range commands(file, dir) {
			o := survive(t, args...)
			if o.status != exitFailed || o.stdout != 0 || !strings.Contains(o.stderr, want) || !strings.Contains(o.stderr, file) || strings.Count(o.stderr, "\n") != 1 {
				t.Errorf("%q: status %d: %s", args, o.status, o.stderr)
			}
		}
	}
	// As the program of a process that is no core either, where the word has
	// no slash.
	t.Chdir(dir)
	for word, want := range map[string]string{"text": "no ELF header", "empty": "the file is empty", "fifo": "no such process has this name", "none": "no such process has this name"} {
		if o := survive(t, "info", word); o.status != exitFailed || !strings.Contains(o.stderr, want) {
			t.Errorf("%q: status %d: %s", o.args, o.status, o.stderr)
		}
	}
}

// A table of program headers of the largest size that is believed, which is a
// hole in the file.
func TestSparseHeaders(t *testing.T) {
	core := smallCore(t)
	file := filepath.Join(t.TempDir(), "core")
	b := patched(patched(core[:64], 56, uint16(0xffff)), 40, uint64(64))
	shdr := make([]byte, 64)
	binary.LittleEndian.PutUint32(shdr[44:], 1<<24)
	b = append(patched(b, 32, uint64(128)), shdr...)
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 128+56<<24); err != nil {
		t.Fatal(err)
	}
	survive(t, "info", file)
}
