package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
)

// heldSource is a program that holds the content of a file in memory, the
// second half of it in a mapping of its own.
const heldSource = `
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv) {
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	long size = argc == 3 ? atol(argv[2]) : 0;
	int fd = open(argv[1], O_RDONLY);
	// With a free page on both sides, or a string could go on there.
	char *room = mmap(NULL, size + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(room, 4096);
	munmap(room + 4096 + size, 4096);
	char *held = room + 4096;
	if (mprotect(held, size, PROT_READ | PROT_WRITE) || read(fd, held, size) != size) return 1;
	if (mprotect(held + size / 2, size - size / 2, PROT_READ)) return 1;
	printf("pid %d\nheld %p %p\nready\n", getpid(), held, held + size);
	fflush(stdout);
	char c;
	while (read(0, &c, 1) > 0) {}
	return 0;
}
`

// hold runs the program above on some whole pages.
func hold(t *testing.T, content []byte) (p *testproc.Proc, file string) {
	t.Helper()
	dir := t.TempDir()
	source, program, file := filepath.Join(dir, "held.c"), filepath.Join(dir, "held"), filepath.Join(dir, "content")
	for name, b := range map[string][]byte{source: []byte(heldSource), file: content} {
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if msg, err := exec.Command("gcc", "-O1", "-o", program, source).CombinedOutput(); err != nil {
		if os.Getenv("PROCMEM_TEST_ALL") == "1" {
			t.Fatalf("gcc: %v\n%s", err, msg)
		}
		t.Skipf("gcc: %v\n%s", err, msg)
	}
	return testproc.StartCmd(t, exec.Command(program, file, strconv.Itoa(len(content)))), file
}

// encode writes a text as one of the encodings of strings(1).
func encode(text string, encoding string) []byte {
	var b []byte
	for _, c := range utf16.Encode([]rune(text)) {
		switch encoding {
		case "s", "S":
			b = append(b, byte(c))
		case "l":
			b = binary.LittleEndian.AppendUint16(b, c)
		case "b":
			b = binary.BigEndian.AppendUint16(b, c)
		case "L":
			b = binary.LittleEndian.AppendUint32(b, uint32(c))
		case "B":
			b = binary.BigEndian.AppendUint32(b, uint32(c))
		}
	}
	return b
}

var encodings = []string{"s", "S", "l", "b", "L", "B"}

// stringsContent is random bytes, printable ones and zeros by turns. It has texts of each
// encoding at any alignment, across pages, the two mappings, and the blocks that are read at
// once. One text is longer than a block.
func stringsContent(size int) []byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, size)
	for at := 0; at < size; {
		n := min(1+rnd.IntN(300), size-at)
		kind := rnd.IntN(4)
		for i := range n {
			switch c := byte(rnd.Uint32()); kind {
			case 0:
				b[at+i] = c
			case 1:
				b[at+i] = ' ' + c%95
			case 2:
				b[at+i] = c & -(c & 1)
			}
		}
		at += n
	}
	for i := 1; i < size>>12; i++ { // across pages
		text := encode(fmt.Sprintf("page %d\tis here", i), encodings[i%len(encodings)])
		copy(b[i<<12-rnd.IntN(len(text)+1):], text)
	}
	for _, at := range []int{size / 2, 256 << 10, 1 << 20, 2 << 20} {
		text := encode("this one lies across a border", encodings[rnd.IntN(2)])
		copy(b[at-7:], text)
	}
	copy(b[size/4:], bytes.Repeat([]byte("long "), 60<<10))
	copy(b[size-8:], "the end.")
	return b
}

// Every string that strings(1) finds in a dump of memory is found in memory, at
// its address, and nothing else.
func TestStringsLikeBinutils(t *testing.T) {
	content := stringsContent(3 << 20)
	p, file := hold(t, content)
	held := p.Range(t, "held")
	pid := strconv.Itoa(p.PID())
	prefix := filepath.Join(t.TempDir(), "core")
	ok(t, "core", "-o", prefix, pid)
	ok(t, "core", "--compress", "zstd", "-o", prefix, pid)
	for _, e := range encodings {
		for _, n := range []string{"1", "4", "11"} {
			want := tool(t, "strings", "-a", "-t", "x", "-e", e, "-n", n, file)
			targets := []string{pid, prefix + "." + pid, prefix + "." + pid + ".zst"}
			if n != "4" {
				targets = targets[:1]
			}
			for _, target := range targets {
				got := ok(t, "strings", "--in", held.String(), "-e", e, "-n", n, target)
				compareStrings(t, fmt.Sprintf("%s -e %s -n %s", target, e, n), got, want, held.Start)
			}
		}
	}
	// Without --in too, among all others.
	all := map[string]bool{}
	for line := range strings.Lines(ok(t, "strings", pid)) {
		all[line] = true
	}
	for line := range strings.Lines(ok(t, "strings", "--in", held.String(), pid)) {
		if !all[line] {
			t.Fatalf("strings of the whole process lack %.200q", line)
		}
	}
	if len(all) < 5_000 {
		t.Errorf("%d strings in the whole process", len(all))
	}
}

// compareStrings compares what procmem prints with what strings(1) does, whose
// offsets begin at an address.
func compareStrings(t *testing.T, what, got, want string, start procmem.Addr) {
	t.Helper()
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if w[i] == g[i] && w[i] == "" {
			continue
		}
		off, text, _ := strings.Cut(strings.TrimLeft(w[i], " "), " ")
		n, err := strconv.ParseUint(off, 16, 64)
		if err != nil {
			t.Fatalf("%s: strings says %q", what, w[i])
		}
		if line := fmt.Sprintf("%7x %s", uint64(start)+n, text); g[i] != line {
			t.Errorf("%s: line %d is\n%.200q, want\n%.200q", what, i, g[i], line)
			return
		}
	}
	if len(g) != len(w) || len(w) < 100 {
		t.Errorf("%s: %d lines, want %d", what, len(g), len(w))
	}
}

// The radix of addresses, JSON, ranges, and exit statuses.
func TestStringsOutput(t *testing.T) {
	content := make([]byte, 72<<12)
	copy(content[100:], "first string")
	copy(content[36<<12-6:], "across the mappings")
	copy(content[40<<12:], encode("wide \"text\"", "l"))
	copy(content[50<<12:], bytes.Repeat([]byte("0123456789abcdef"), 18<<12/16))
	copy(content[70<<12:], "Gr\xfc\xdfe")
	p, _ := hold(t, content)
	pid := strconv.Itoa(p.PID())
	held := p.Range(t, "held")
	in := held.String()
	at := func(off int) uint64 { return uint64(held.Start) + uint64(off) }
	for radix, format := range map[string]string{"x": "%x ", "d": "%d ", "o": "%o ", "none": ""} {
		prefix := ""
		if format != "" {
			prefix = fmt.Sprintf(format, at(100))
		}
		if out := ok(t, "strings", "-t", radix, "--in", in, pid); !strings.HasPrefix(out, prefix+"first string\n") {
			t.Errorf("-t %s: %.100q", radix, out)
		}
	}
	out := ok(t, "strings", "--in", in, pid)
	want := fmt.Sprintf("%x first string\n%x across the mappings\n%x %s\n", at(100), at(36<<12-6), at(50<<12), content[50<<12:68<<12])
	if out != want {
		t.Errorf("%.200q... of %d bytes, want %.200q... of %d", out, len(out), want, len(want))
	}
	if out := ok(t, "strings", "--in", in, "-e", "S", "-n", "5", "-t", "none", pid); !strings.HasSuffix(out, "\nGr\xfc\xdfe\n") {
		t.Errorf("-e S: %q", out[len(out)-20:])
	}
	// Several ranges, in whatever order; a string ends where its range does.
	out = ok(t, "strings", "-t", "none", "--in", fmt.Sprintf("%#x+9", at(36<<12-6)), "--in", fmt.Sprintf("%#x+9", at(100)), pid)
	if out != "first str\nacross th\n" {
		t.Errorf("of two ranges: %q", out)
	}
	if out := ok(t, "strings", "--in", in, "-n", "65536", "-t", "none", pid); len(out) != 18<<12+1 {
		t.Errorf("-n 65536: %d bytes", len(out))
	}

	type object struct {
		Start procmem.Addr
		Bytes int
		Text  string
	}
	var got []object
	for line := range strings.Lines(ok(t, "strings", "--json", "-e", "l", "--in", in, pid)) {
		var o object
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatal(err)
		}
		got = append(got, o)
	}
	if len(got) != 1 || got[0] != (object{held.Start + 40<<12, 22, `wide "text"`}) {
		t.Errorf("JSON: %v", got)
	}
	joined, next := "", held.Start+50<<12
	for line := range strings.Lines(ok(t, "strings", "--json", "--in", fmt.Sprintf("%#x+%d", at(50<<12), 18<<12), pid)) {
		var o object
		if err := json.Unmarshal([]byte(line), &o); err != nil || o.Start != next || o.Bytes != len(o.Text) || o.Bytes > 64<<10 {
			t.Fatalf("%v: %.100s", err, line)
		}
		joined += o.Text
		next += procmem.Addr(o.Bytes)
	}
	if joined != string(content[50<<12:68<<12]) {
		t.Errorf("the pieces of a long string have %d bytes", len(joined))
	}
}

func TestStringsUsage(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "none,nonetouched,secret")
	pid := strconv.Itoa(p.PID())
	fails(t, 2, "TARGET is missing", "strings")
	fails(t, 2, "want x, d, o or none", "strings", "-t", "b", pid)
	fails(t, 2, "is not one of s, S, l, b, L, B", "strings", "-e", "u", pid)
	fails(t, 2, "want 1 or more", "strings", "-n", "0", pid)
	fails(t, 2, "want 1 to 65536", "strings", "-n", "65537", pid)
	fails(t, 2, "parse range", "strings", "--in", "0x", pid)
	fails(t, 1, "no such mapping", "strings", "--in", "[none]", pid)
	fails(t, 1, "no process", "strings", "999999999")
	if m := p.Map(t, "secret"); !m.Empty() {
		fails(t, 3, "refuses|never read", "strings", pid)
		fails(t, 3, m.Start.String(), "strings", "--in", m.Range.String(), pid)
	}
}
