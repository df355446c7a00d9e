package main

import (
	"bytes"
	"encoding/hex"
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

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/candidates"
	"github.com/procmem/procmem/internal/testproc"
	"github.com/procmem/procmem/search"
)

// linesOf returns the addresses that the lines of a search begin with.
func linesOf(t *testing.T, out string) (found []procmem.Addr) {
	t.Helper()
	for line := range strings.Lines(out) {
		a, err := procmem.ParseAddr(strings.Fields(line)[0])
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, a)
	}
	return found
}

// All that a process announces is found in it, with one pass for all patterns,
// ascending, in its core, and in its compressed core.
func TestSearchNeedles(t *testing.T) {
	zoo := testproc.Start(t, testproc.Zoo, "--nospin", "--without", "uffd,secret")
	pid := strconv.Itoa(zoo.PID())
	dir := t.TempDir()
	for _, args := range [][]string{{"-o", dir + "/core"}, {"-o", dir + "/zst", "--compress", "zstd"}} {
		if _, msg, status := procmemCommand(t, append([]string{"core", pid}, args...)...); status != 0 && status != 3 {
			t.Fatal(msg)
		}
	}
	var want []procmem.Addr
	var lines strings.Builder
	for key := range zoo.Facts {
		if name, ok := strings.CutPrefix(key, "needle "); ok && name != "rodata" {
			a, b := zoo.Needle(t, name)
			want = append(want, a)
			fmt.Fprintln(&lines, hex.EncodeToString(b))
		}
	}
	slices.Sort(want)
	file := filepath.Join(dir, "needles")
	if err := os.WriteFile(file, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{pid, dir + "/core." + pid, dir + "/zst." + pid + ".zst"} {
		out, msg, status := procmemCommand(t, "search", target, "--hex", "-f", file)
		if got := linesOf(t, out); status != 0 || !slices.Equal(got, want) {
			t.Errorf("%s: status %d: found at %v, want %v: %s", target, status, got, want, msg)
		}
	}
}

// An interrupted search that saves leaves nothing half-written, and keeps what was there
// before.
func TestSearchInterrupted(t *testing.T) {
	zoo := testproc.Start(t, testproc.Kids, "--ballast", "16M")
	pid := strconv.Itoa(zoo.PID())
	saved := filepath.Join(t.TempDir(), "saved")
	if _, msg, status := procmemCommand(t, "search", pid, "--type", "u64", "--in", "[stack]", "--save", saved); status != 0 {
		t.Fatal(msg)
	}
	before, err := os.ReadFile(saved)
	if err != nil {
		t.Fatal(err)
	}
	// Nobody reads what it prints, so it does not end.
	cmd := exec.CommandContext(t.Context(), "procmem", "search", pid, "--type", "u8", "0..255", "--save", saved, "--max-results", "1000000000")
	var msg bytes.Buffer
	cmd.Stderr = &msg
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(saved + ".partial"); err != nil {
		t.Error(err)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if killedBy(cmd.ProcessState) != syscall.SIGINT || msg.String() != "procmem: stopped by SIGINT\n" {
		t.Errorf("%v: %s", cmd.ProcessState, &msg)
	}
	if _, err := os.Stat(saved + ".partial"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something is left: %v", err)
	}
	if after, err := os.ReadFile(saved); err != nil || !bytes.Equal(before, after) {
		t.Errorf("what was there before is another now: %v", err)
	}
}

// A reader that goes away ends it.
func TestSearchBrokenPipe(t *testing.T) {
	zoo := testproc.Start(t, testproc.Kids, "--ballast", "16M")
	pid := strconv.Itoa(zoo.PID())
	for _, args := range [][]string{{"--type", "u8", "0..255"}, {"--type", "u8", "0..255", "--json"}} {
		cmd := exec.CommandContext(t.Context(), "procmem", append([]string{"search", pid}, args...)...)
		var msg bytes.Buffer
		cmd.Stderr = &msg
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		out.Close()
		cmd.Wait()
		if killedBy(cmd.ProcessState) != syscall.SIGPIPE || msg.Len() > 0 {
			t.Errorf("%v: %v: %s", args, cmd.ProcessState, &msg)
		}
	}
}

// What was found shows although the search goes on, and nothing follows.
func TestFlusher(t *testing.T) {
	flushed := make(chan int, 1)
	n := 0
	f := newFlusher(func() error {
		flushed <- n
		return io.ErrShortWrite
	})
	f.Lock()
	n = 7
	if err := f.wrote(); err != nil {
		t.Error(err)
	}
	f.Unlock()
	if got := <-flushed; got != 7 {
		t.Errorf("%d is flushed, want 7", got)
	}
	f.Lock()
	if err := f.wrote(); err != io.ErrShortWrite {
		t.Errorf("%v, want %v", err, io.ErrShortWrite)
	}
	f.Unlock()
	<-flushed
	if err := f.end(); err != io.ErrShortWrite {
		t.Errorf("%v, want %v", err, io.ErrShortWrite)
	}
}

// Candidates go with one program of one process.
func TestSearchOtherProgram(t *testing.T) {
	kids := testproc.Start(t, testproc.Kids)
	pid := strconv.Itoa(kids.PID())
	saved := filepath.Join(t.TempDir(), "saved")
	if _, msg, status := procmemCommand(t, "search", pid, "--type", "u32", "--save", saved); status != 0 {
		t.Fatal(msg)
	}
	if _, msg, status := procmemCommand(t, "search", pid, "--from", saved, "--unchanged", "--count"); status != 0 {
		t.Fatal(msg)
	}
	kids.Send(t, "exec %s", kids.Path)
	kids.ReadFacts(t)
	out, msg, status := procmemCommand(t, "search", pid, "--from", saved, "--unchanged", "--save", saved)
	if status != exitTrouble || out != "" || !strings.Contains(msg, "the program that process "+pid+" was before") {
		t.Errorf("status %d: %s%s", status, out, msg)
	}
	for _, c := range []struct {
		was, now candidates.Origin
		want     string
	}{
		{candidates.Origin{PID: 5, Start: 1}, candidates.Origin{PID: 5, Start: 2}, "another process that had the pid 5"},
		{candidates.Origin{PID: 5, Boot: "a"}, candidates.Origin{PID: 5, Boot: "b"}, "another process that had the pid 5"},
		{candidates.Origin{PID: 5}, candidates.Origin{PID: 6}, "of process 5, and this is process 6"},
		{candidates.Origin{PID: 5}, candidates.Origin{PID: 5}, ""},
		{candidates.Origin{Core: "a"}, candidates.Origin{PID: 5}, ""},
		{candidates.Origin{PID: 5}, candidates.Origin{Core: "a"}, ""},
	} {
		if err := sameTarget("f", c.was, c.now); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v then %v: %v, want %q", c.was, c.now, err, c.want)
		}
	}
	kids.Kill()
	kids.WaitState(t, 'Z')
	if _, msg, status := procmemCommand(t, "search", pid, "x"); status != exitTrouble || msg == "" {
		t.Errorf("a zombie: status %d: %s", status, msg)
	}
}

// A file of candidates that is cut off or changed is refused, wherever that is,
// and nothing is saved then.
func TestSearchDamagedCandidates(t *testing.T) {
	kids := testproc.Start(t, testproc.Kids, "--ballast", "4M")
	pid := strconv.Itoa(kids.PID())
	dir := t.TempDir()
	saved, bad, next := filepath.Join(dir, "saved"), filepath.Join(dir, "bad"), filepath.Join(dir, "next")
	if _, msg, status := procmemCommand(t, "search", pid, "--type", "u16", "--save", saved); status != 0 {
		t.Fatal(msg)
	}
	whole, err := os.ReadFile(saved)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(at int) []byte {
		b := slices.Clone(whole)
		b[at] ^= 1
		return b
	}
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"the last byte is missing":  {whole[:len(whole)-1], "bad: the file of candidates is damaged: at offset .*: it is cut off there"},
		"half of it":                {whole[:len(whole)/2], "cut off"},
		"nothing":                   {nil, "bad: not a file of candidates"},
		"a value is another":        {flip(len(whole) - 100), "wrong checksum"},
		"the head":                  {flip(40), "wrong checksum of the head"},
		"something follows the end": {append(slices.Clone(whole), 1), "something follows the end"},
		"a core":                    {[]byte("\x7fELF"), "not a file of candidates"},
	} {
		if err := os.WriteFile(bad, c.b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, msg, status := procmemCommand(t, "search", pid, "--from", bad, "--unchanged", "--save", next, "--count")
		if ok, _ := regexp.MatchString(c.want, msg); status != exitTrouble || !ok || strings.Count(msg, "\n") != 1 {
			t.Errorf("%s: status %d: %s", name, status, msg)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// A core that is cut off is searched as far as it goes, and that it does not go
// further is told.
func TestSearchTruncatedCore(t *testing.T) {
	zoo := testproc.Start(t, testproc.Kids)
	pid := strconv.Itoa(zoo.PID())
	path := filepath.Join(t.TempDir(), "core")
	if _, msg, status := procmemCommand(t, "core", "-o", path, pid); status != 0 {
		t.Fatal(msg)
	}
	b, err := os.ReadFile(path + "." + pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b[:len(b)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	out, msg, status := procmemCommand(t, "search", path, "\x7fELF", "--count")
	if n, err := strconv.Atoi(strings.TrimSpace(out)); status != exitTrouble || err != nil || n == 0 || !strings.Contains(msg, "truncated") {
		t.Errorf("status %d: %s%s", status, out, msg)
	}
}

func TestFormatValue(t *testing.T) {
	b := []byte{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc1}
	for _, c := range []struct {
		typ    search.Type
		n      int
		little string
		big    string
	}{
		{search.U8, 1, "254", "254"},
		{search.I8, 1, "-2", "-2"},
		{search.U16, 2, "65534", "65279"},
		{search.I16, 2, "-2", "-257"},
		{search.U32, 4, "4294967294", "4278190079"},
		{search.I32, 4, "-2", "-16777217"},
		{search.U64, 8, "13979173243358019582", "18374686479671623617"},
		{search.I64, 8, "-4467570830351532034", "-72057594037927999"},
		{search.F64, 8, "-8.589934591999998e+09", "-5.4861240687936503e+303"},
		{search.F32, 4, "NaN", "-1.7014117e+38"},
		{search.Ptr, 4, "0xfffffffe", "0xfeffffff"},
	} {
		if l, g := formatValue(c.typ, b[:c.n], false), formatValue(c.typ, b[:c.n], true); l != c.little || g != c.big {
			t.Errorf("%v: %s and %s, want %s and %s", c.typ, l, g, c.little, c.big)
		}
	}
}

func TestPermMask(t *testing.T) {
	for _, c := range []struct {
		mask string
		fits string
		not  string
	}{
		{"rw-", "rw-p rw-s", "r--p rwxp -w-p"},
		{"rw-p", "rw-p", "rw-s"},
		{"..x", "r-xp --xs", "rw-p"},
		{"?w?s", "rw-s -wxs", "rw-p r--s"},
		{"---", "---p", "r--p"},
	} {
		m, err := parsePermMask(c.mask)
		if err != nil {
			t.Fatal(err)
		}
		for i, list := range []string{c.fits, c.not} {
			for s := range strings.FieldsSeq(list) {
				p, err := procmem.ParsePerm(s)
				if err != nil {
					t.Fatal(err)
				}
				if m.fits(p) != (i == 0) {
					t.Errorf("%s fits %s: %v", c.mask, s, m.fits(p))
				}
			}
		}
	}
}
