package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/procmem/procmem/internal/testproc"
)

// Words that are no target, for every command: status 1 or 2, one line that
// says why, nothing on stdout, and nothing left behind.
func TestBadTargets(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	const gone = "2147483647"
	words := map[string]struct {
		status int
		text   string
	}{
		"":                            {2, "it is empty"},
		"0":                           {2, "no process has the id 0"},
		"-1":                          {2, "unknown shorthand flag"},
		"--":                          {2, "is missing: usage"},
		"99999999999":                 {2, "below 2^31"},
		"18446744073709551616":        {2, "below 2^31"},
		gone:                          {1, "no process has pid " + gone},
		"abc":                         {1, "no such process has this name"},
		"+1":                          {1, "no such process has this name"},
		"1e3":                         {1, "no such process has this name"},
		"0x":                          {1, "no such process has this name"},
		"0x10":                        {1, "no such process has this name"},
		"1 2":                         {1, "no such process has this name"},
		"%s%n":                        {1, `"%s%n"`},
		"..":                          {1, "no such process has this name"},
		"\n":                          {1, `"\n"`},
		"\x1b[31m":                    {1, `"\x1b[31m"`},
		"\xff\xfe":                    {1, `"\xff\xfe"`},
		"a/b/c":                       {1, "a/b/c: no such file or directory"},
		"./\x1b[31m":                  {1, "no such file or directory"},
		"/proc/self/environ":          {1, "not a core file"},
		"/proc/0/mem":                 {2, "no process has the id 0"},
		"/proc/1x/mem":                {1, "/proc/1x/mem: no such file or directory"},
		"/":                           {1, "a directory"},
		strings.Repeat("x", 100_000):  {1, "no such process has this name"},
		strings.Repeat("./x", 10_000): {1, "file name too long"},
		strings.Repeat("9", 100_000):  {2, "below 2^31"},
	}
	for word, want := range words {
		for _, argv := range [][]string{{"maps"}, {"info"}, {"threads"}, {"read", "0x10"}, {"dump", "-o", "d"}, {"core"}, {"doctor"}} {
			args := slices.Insert(slices.Clone(argv), 1, word)
			out, msg, status := procmemCommand(t, args...)
			name, want := strings.Join(argv, " "), want
			pidOnly := argv[0] == "core" || argv[0] == "doctor"
			switch {
			case argv[0] == "doctor" && word == gone:
				if status != 1 || !strings.Contains(out, want.text) || msg != "" {
					t.Errorf("%s %.50q: status %d, %s%s", name, word, status, out, msg)
				}
				continue
			case pidOnly && strings.Contains(word, "/") && word != "/proc/0/mem":
				want.status, want.text = 1, "this is a file"
			case word == "--" && argv[0] == "dump":
				want.text = `unexpected argument "d"`
			}
			if status != want.status || !strings.Contains(msg, want.text) || out != "" || !strings.HasPrefix(msg, "procmem: ") || strings.Count(msg, "\n") != 1 {
				t.Errorf("%s %.50q: status %d, want %d: %s%.500s", name, word, status, want.status, out, msg)
			}
			if strings.Contains(msg, "\x1b") || strings.Contains(msg, "panic") {
				t.Errorf("%s %.50q: %q", name, word, msg)
			}
		}
	}
	if left, _ := os.ReadDir("."); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Words that are no range, of a process and of its core.
func TestBadRanges(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	pid := strconv.Itoa(p.PID())
	prefix := filepath.Join(t.TempDir(), "core")
	if _, msg, status := procmemCommand(t, "core", "-o", prefix, pid); status != 0 {
		t.Fatal(msg)
	}
	for word, want := range map[string]struct {
		status int
		text   string
	}{
		"":                                   {2, "a range is missing"},
		"0x":                                 {2, "want hexadecimal digits after 0x"},
		"0xg":                                {2, "want hexadecimal digits after 0x"},
		"0x1-":                               {2, "an address is missing"},
		"0x1-0x":                             {2, "not an address"},
		"0x1--0x2":                           {2, "not an address"},
		"0x1-0x2-0x3":                        {2, "follows the range"},
		"0x2-0x1":                            {2, "below the start"},
		"0x1-0x1":                            {2, "empty"},
		"0x1+0":                              {2, "empty"},
		"0x1+":                               {2, "a number is missing"},
		"0x1+-1":                             {2, "not a number"},
		"0x1+1Z":                             {2, "unknown unit"},
		"0x1+1.5K":                           {2, "whole number"},
		"0x1+99999999999999999999":           {2, "64 bits"},
		"0x1+18446744073709551615":           {2, "out of range"},
		"0x1+16777216T":                      {2, "64 bits"},
		"0x12345678123456781":                {2, "64 bits"},
		"0xffffffffffffffff":                 {2, "out of range"},
		"0xffffffffffffffff+1":               {2, "out of range"},
		"+0x10":                              {2, "nothing is in front"},
		"-":                                  {2, "nothing is in front"},
		"0x10-0x20":                          {1, "0x10: not mapped (16 bytes)"},
		"0x0-0x10000":                        {1, "0x0: not mapped (65536 bytes)"},
		"0xdead000000000000+1T":              {1, "0xdead000000000000: not mapped"},
		"0x8000000000000000-0x8000000000001": {2, "below the start"},
		"nothing":                            {1, "none is named nothing"},
		"[nothing]":                          {1, "no such mapping"},
		"[stack]x":                           {2, "follows the name"},
		"[stack]+0+0":                        {2, "empty"},
		"[stack]+0+18446744073709551616":     {2, "64 bits"},
		"[stack]+18446744073709551615":       {2, "out of range"},
		"[stack]+16384T+4":                   {1, "not mapped (4 bytes)"},
		"libc.so.6+x":                        {2, "not a number"},
		"\x1b[31m":                           {1, `\x1b[31m`},
		strings.Repeat("a", 100_000):         {1, "no such mapping"},
		strings.Repeat("+", 100_000):         {2, "nothing is in front"},
		"a" + strings.Repeat("+1", 40_000):   {1, "no such mapping"},
		"sym:a" + strings.Repeat("+1", 9000): {1, "no such symbol"},
	} {
		for _, target := range []string{pid, prefix + "." + pid} {
			for _, format := range []string{"raw", "ptr"} {
				out, msg, status := procmemCommand(t, "read", target, "--format", format, "--", word)
				if status != want.status || !strings.Contains(msg, want.text) || out != "" || strings.ContainsAny(msg, "\x1b") || strings.Contains(msg, "panic") {
					t.Errorf("%s %.50q: status %d, want %d: %q %.300s", target, word, status, want.status, out, msg)
				}
			}
		}
	}
}

// What is asked of several ranges is all or nothing where a word is wrong,
// and as much as there is where memory is.
func TestReadSeveral(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin")
	pid := strconv.Itoa(p.PID())
	m := p.Map(t, "anon")
	a, want := p.Needle(t, "data")
	good := a.String() + "+" + strconv.Itoa(len(want))
	if out, _, status := procmemCommand(t, "read", pid, good, "0x"); status != 2 || out != "" {
		t.Errorf("status %d, %q", status, out)
	}
	if out, _, status := procmemCommand(t, "read", pid, good, "nothing"); status != 1 || out != "" {
		t.Errorf("status %d, %q", status, out)
	}
	out, msg, status := procmemCommand(t, "read", pid, "0x10+1", good, (m.End-4).String()+"+8", good)
	if status != 1 || out != string(want)+string(p.Want(t, m, m.Pages()-1)[4092:])+string(want) {
		t.Errorf("status %d, %q", status, out)
	}
	begins := func(start string, off int) string {
		return fmt.Sprintf("procmem: %s-0x[0-9a-f]+ is at offset %d of the output\n", start, off)
	}
	told := begins("0x10", 0) + `0x10: not mapped \(1 byte\)\n` + begins(a.String(), 0) + begins((m.End-4).String(), len(want)) +
		m.End.String() + `: not mapped \(4 bytes\)\n` + begins(a.String(), len(want)+4) +
		"procmem: nothing is mapped there, for which the kernel has the error EIO: procmem maps " + pid + " lists what is mapped\n"
	if !regexp.MustCompile("^" + told + "$").MatchString(msg) {
		t.Errorf("%q", msg)
	}
	// A mapping that is all zeros and was never touched is read as such, and
	// not brought into being.
	untouched := p.Map(t, "untouched")
	out, _, status = procmemCommand(t, "read", pid, untouched.String())
	if status != 0 || uint64(len(out)) != untouched.Size() || strings.Trim(out, "\x00") != "" {
		t.Errorf("status %d, %d bytes", status, len(out))
	}
}

// A full disk is an error. So is a reader of a core that goes away; one of a listing may, and
// procmem ends as others do.
func TestStdoutGone(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--without", "uffd,secret")
	pid := strconv.Itoa(p.PID())
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	r, closed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer closed.Close()
	r.Close()
	for _, args := range [][]string{{"maps", pid}, {"maps", "--json", pid}, {"threads", pid}, {"threads", "-r", pid}, {"threads", "--json", pid},
		{"info", pid}, {"info", "--json", pid}, {"doctor", pid}, {"doctor", "--json", pid}, {"read", pid, p.Map(t, "anon").String()},
		{"read", pid, p.Map(t, "anon").String(), "--json"}, {"read", pid, p.Map(t, "anon").String(), "-f", "hex"}, {"read", pid, p.Map(t, "anon").String(), "-f", "u8"},
		{"core", "-o", "-", pid}, {"dump", "-o", "-", pid}} {
		for _, stdout := range []*os.File{full, closed} {
			cmd := exec.Command("procmem", args...)
			var msg strings.Builder
			cmd.Stdout, cmd.Stderr = stdout, &msg
			err := cmd.Run()
			want := "no space left on device"
			if stdout == closed && args[0] != "core" && args[0] != "dump" {
				if killedBy(cmd.ProcessState) != syscall.SIGPIPE || msg.Len() > 0 {
					t.Errorf("%v: %v: %s", args, err, msg.String())
				}
				continue
			}
			if stdout == closed {
				want = "the reader of the output has closed it"
			}
			if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(msg.String(), want) || strings.Count(msg.String(), "\n") != 1 {
				t.Errorf("%v: %v: %s", args, err, msg.String())
			}
		}
	}
	p.Cmd(t, "ping")
	p.WaitState(t, 'S')
}
