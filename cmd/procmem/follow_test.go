package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
)

// chainsSource is a program with pointers of each kind in the array words. It
// tells where they lead to, in the protocol of testproc.
const chainsSource = `
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <signal.h>
#include <unistd.h>

struct node { void *next; };

char text[] = "a string of the program, which is longer than what is shown of one in a line of words";
long number = 0x1234567;
struct node ring[2], self, steps[9];
void *words[16];

// libc has one too.
char *strfry(char *s) { return s; }

__attribute__((noinline)) int add_one(int n) { return n + 1; }

int main(void) {
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	void *local = &number;
	char *heap = malloc(64);
	void **link = malloc(sizeof *link);
	strcpy(heap, "on the heap");
	*link = heap;
	for (int i = 0; i < 8; i++) steps[i].next = &steps[i + 1];
	ring[0].next = &ring[1];
	ring[1].next = &ring[0];
	self.next = &self;

	// A file of one page, mapped twice as long: nothing is behind its end.
	int fd = open("page", O_RDWR | O_CREAT, 0600);
	char page[4096];
	memset(page, 0xff, sizeof page);
	memcpy(page + sizeof page - 2, "ab", 2);
	if (write(fd, page, sizeof page) != sizeof page) return 1;
	char *file = mmap(NULL, 2 * sizeof page, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	char *gone = mmap(NULL, sizeof page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(gone, sizeof page);

	words[0] = text;
	words[1] = &link;
	words[2] = &words[2];
	words[3] = &ring[0];
	words[4] = &steps[0];
	words[5] = add_one;
	words[6] = (void *)42;
	words[7] = (void *)0x6c6c6568; // "hell"
	words[8] = file + sizeof page;
	words[9] = file + sizeof page - 2;
	words[10] = &local;
	words[11] = gone;
	words[12] = &self;

	printf("pid %d\nword %zu\n", getpid(), sizeof(void *));
#define TELL(name) printf(#name " %#lx\n", (long)name)
	void **address_of_link = (void **)&link;
	void *address_of_local = &local;
	TELL(words); TELL(text); TELL(address_of_link); TELL(link); TELL(heap); TELL(ring); TELL(&self); TELL(steps);
	TELL(add_one); TELL(file); TELL(gone); TELL(address_of_local); TELL(&number);
	printf("ready\n");
	fflush(stdout);
	char c;
	while (read(0, &c, 1) > 0) {}
	return 0;
}
`

// startChains compiles and runs the program above.
func startChains(t *testing.T, flags ...string) *testproc.Proc {
	t.Helper()
	dir := t.TempDir()
	source, program := filepath.Join(dir, "chains.c"), filepath.Join(dir, "chains")
	if err := os.WriteFile(source, []byte(chainsSource), 0o644); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-O1", "-g", "-pie", "-fPIE", "-Wl,--build-id", "-o", program, source}, flags...)
	if msg, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		if os.Getenv("PROCMEM_TEST_ALL") == "1" {
			t.Fatalf("gcc: %v\n%s", err, msg)
		}
		t.Skipf("gcc: %v\n%s", err, msg)
	}
	return testproc.StartCmd(t, exec.Command(program))
}

// followed is a word as read --follow --json prints it.
type followed struct {
	Address, Value procmem.Addr
	Chain          []struct {
		Address                 procmem.Addr
		Region, Mapping, Symbol string
	}
	To struct {
		Kind, Text, Hex, Error string
		Value                  procmem.Addr
	} `json:"leads_to"`
}

// String is what the tests compare: the chain, and what it leads to.
func (f *followed) String() string {
	var b strings.Builder
	for _, l := range f.Chain {
		fmt.Fprintf(&b, "%v %s %s, ", l.Address, l.Region, l.Symbol)
	}
	fmt.Fprintf(&b, "%s", f.To.Kind)
	switch f.To.Kind {
	case "number", "loop", "depth":
		fmt.Fprintf(&b, " %v", f.To.Value)
	case "unreadable":
		fmt.Fprintf(&b, " %q %s", f.To.Error, f.To.Hex)
	}
	if f.To.Text != "" {
		fmt.Fprintf(&b, " %q", f.To.Text)
	}
	return b.String()
}

// Pointers of every kind lead where the program says: in the process, in its core and in a
// compressed core, of 64 and of 32 bits.
func TestFollow(t *testing.T) {
	for name, flags := range map[string][]string{"64": nil, "32": {"-m32"}} {
		t.Run(name, func(t *testing.T) {
			p := startChains(t, flags...)
			pid := strconv.Itoa(p.PID())
			dir := t.TempDir()
			ok(t, "core", "-a", "-o", filepath.Join(dir, "plain"), pid)
			ok(t, "core", "-a", "--compress", "zstd", "-o", filepath.Join(dir, "packed"), pid)
			for _, target := range []string{pid, filepath.Join(dir, "plain."+pid), filepath.Join(dir, "packed."+pid+".zst")} {
				checkFollow(t, p, target)
			}
		})
	}
}

func checkFollow(t *testing.T, p *testproc.Proc, target string) {
	t.Helper()
	at := func(key string, off int64) string { return (p.Addr(t, key) + procmem.Addr(off)).String() }
	word := p.Int(t, "word")
	const text = "a string of the program, which is longer than what is shown of one in a line of words"
	var depth string
	for i := range int64(followDepth) {
		symbol := "steps"
		if i > 0 {
			symbol = fmt.Sprintf("steps+%#x", i*word)
		}
		depth += at("steps", i*word) + " data " + symbol + ", "
	}
	second := fmt.Sprintf("ring+%#x", word)
	beyond, cut := ` data , unreadable "`+procmem.ErrUnreadable.Error()+`" `, ""
	if _, err := strconv.Atoi(target); err == nil {
		cut = beyond + "6162"
	} else { // a core has zeros there
		beyond, cut = " data , number 0x0", " data , number 0x6261"
	}
	want := []string{
		at("text", 0) + " data text, string " + strconv.Quote(text[:followText]),
		at("address_of_link", 0) + " stack , " + at("link", 0) + " heap , " + at("heap", 0) + ` heap , string "on the heap"`,
		"loop " + at("words", 2*word),
		at("ring", 0) + " data ring, " + at("ring", word) + " data " + second + ", loop " + at("ring", 0),
		depth + "depth " + at("steps", followDepth*word),
		at("add_one", 0) + " code add_one, code",
		"number 0x2a",
		`number 0x6c6c6568 "hell"`,
		at("file", 4096) + beyond,
		at("file", 4094) + cut,
		at("address_of_local", 0) + " stack , " + at("&number", 0) + " data number, number 0x1234567",
		"number " + at("gone", 0),
		at("&self", 0) + " data self, loop " + at("&self", 0),
		"number 0x0",
	}
	out := ok(t, "read", "--follow", "--json", target, "sym:words+0+"+strconv.FormatInt(int64(len(want))*word, 10))
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%s: %d lines:\n%s", target, len(lines), out)
	}
	for i, line := range lines {
		var f followed
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if f.Address != p.Addr(t, "words")+procmem.Addr(int64(i)*word) {
			t.Errorf("%s: word %d is at %v", target, i, f.Address)
		}
		if got := f.String(); got != want[i] {
			t.Errorf("%s: word %d:\n got %s\nwant %s", target, i, got, want[i])
		}
	}
	checkFollowText(t, p, target, word)
}

// checkFollowText checks how some of the lines look as text.
func checkFollowText(t *testing.T, p *testproc.Proc, target string, word int64) {
	t.Helper()
	hex := func(v procmem.Addr, digits int64) string { return fmt.Sprintf("%0*x", digits, uint64(v)) }
	line := func(i int64, value procmem.Addr, rest string) string {
		return hex(p.Addr(t, "words")+procmem.Addr(i*word), 16) + "  0x" + hex(value, 2*word) + rest
	}
	number := p.Addr(t, "&number")
	want := map[int64]string{
		0: line(0, p.Addr(t, "text"), `  chains\+0x[0-9a-f]+ <text> -> "a string of .*"\.\.\.`),
		1: line(1, p.Addr(t, "address_of_link"), `  \[stack\]\+0x[0-9a-f]+ -> `+p.Addr(t, "link").String()+` \[heap\]\+0x[0-9a-f]+ -> `+
			p.Addr(t, "heap").String()+` \[heap\]\+0x[0-9a-f]+ -> "on the heap"`),
		2:  line(2, p.Addr(t, "words")+procmem.Addr(2*word), `  `+(p.Addr(t, "words")+procmem.Addr(2*word)).String()+` \(loop\)`),
		5:  line(5, p.Addr(t, "add_one"), `  chains\+0x[0-9a-f]+ <add_one> -> ([0-9a-f]{2} ){7}[0-9a-f]{2}`),
		6:  line(6, 42, ``),
		7:  line(7, 0x6c6c6568, `  "hell"`),
		10: line(10, p.Addr(t, "address_of_local"), `  \[stack\]\+0x[0-9a-f]+ -> `+number.String()+` chains\+0x[0-9a-f]+ <number> -> 0x1234567`),
	}
	lines := strings.Split(ok(t, "read", "--follow", target, fmt.Sprintf("%v", p.Addr(t, "words"))), "\n")
	for i, pattern := range want {
		if !regexp.MustCompile("^" + pattern + "$").MatchString(lines[i]) {
			t.Errorf("%s: line %d is\n%s\nwant\n%s", target, i, lines[i], pattern)
		}
	}
	// 16 words: the last three are zeros, of which two are squeezed, and the end.
	last := hex(p.Addr(t, "words")+procmem.Addr(followWords*word), 16)
	if len(lines) != 17 || lines[14] != "*" || lines[15] != last {
		t.Errorf("%s: the end is %q", target, lines[13:])
	}
}

// A core without the files has no strings of theirs, and without the same files
// on this machine no symbols.
func TestFollowCore(t *testing.T) {
	p := startChains(t)
	pid := strconv.Itoa(p.PID())
	path := filepath.Join(t.TempDir(), "core")
	ok(t, "core", "-o", path, pid)
	words := fmt.Sprintf("%v+%d", p.Addr(t, "words"), 6*p.Int(t, "word"))
	out, msg, status := procmemCommand(t, "read", "--follow", path+"."+pid, words)
	if status != 0 || !strings.Contains(out, "<add_one> -> ") || strings.Contains(out, "(not in the core file)") || !strings.Contains(msg, "which has the same build id") {
		t.Errorf("status %d, %s%s", status, out, msg)
	}
	fails(t, 1, `ambiguous name: strfry is 0x[0-9a-f]+ \(strfry of chains\), 0x[0-9a-f]+ \(strfry of libc.so.6\); give one`,
		"read", pid, "sym:strfry")
	if err := os.Rename(p.Path, p.Path+".old"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // without the file, and with another in its place
		if out := ok(t, "read", "--follow", path+"."+pid, words); strings.Contains(out, "<") || !strings.Contains(out, "chains+0x") {
			t.Error(out)
		}
		fails(t, 1, `no such symbol: .* called words`, "read", path+"."+pid, "sym:words")
		b, err := os.ReadFile(testproc.Build(t, testproc.Kids))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p.Path, b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// The process has its own file still.
	if os.Getuid() == 0 {
		if out := ok(t, "read", "--follow", pid, words); !strings.Contains(out, "<add_one>") {
			t.Error(out)
		}
	}
}
