package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/procmem/procmem/internal/testproc"
)

// remarkable are the system calls that security agents look at.
const remarkable = "ptrace,process_vm_readv,process_vm_writev,process_madvise,kcmp,pidfd_open,pidfd_getfd,pidfd_send_signal," +
	"userfaultfd,memfd_create,bpf,perf_event_open,setns,unshare,kill,execve,openat,openat2"

// TestWatched compares what docs/allow-listing.md promises with what strace sees of each command.
func TestWatched(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed")
	}
	page, err := os.ReadFile("../../docs/allow-listing.md")
	if err != nil {
		t.Fatal(err)
	}
	read := []string{"process_vm_readv"}
	held := slices.Concat(read, []string{"PTRACE_SEIZE", "PTRACE_INTERRUPT", "PTRACE_GETREGS", "PTRACE_DETACH"})
	probed := slices.Concat(read, []string{"kcmp"})
	stop := slices.Concat(probed, []string{"PTRACE_SEIZE", "PTRACE_INTERRUPT", "PTRACE_GETREGS", "PTRACE_GETFPREGS", "PTRACE_GETREGSET",
		"PTRACE_GETSIGMASK", "PTRACE_PEEKSIGINFO", "PTRACE_DETACH"})
	fork := slices.Concat(stop, []string{"PTRACE_SETOPTIONS", "PTRACE_SETREGS", "PTRACE_SYSCALL", "PTRACE_GET_SYSCALL_INFO", "PTRACE_GETEVENTMSG",
		"PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG",
		"pidfd_open", "pidfd_send_signal", "kill"})
	precopy := slices.Concat(fork, []string{"pidfd_getfd", "userfaultfd"})
	p := testproc.Start(t, testproc.Kids, "--ballast", "4M")
	pid := strconv.Itoa(p.PID())
	for _, c := range []struct {
		row  string // of the page
		own  []string
		can  []string // what the page promises, with what it refers to
		must []string // what makes the run worth looking at
		args []string
	}{
		{"`maps`", nil, nil, nil, []string{"maps", pid}},
		{"`info`, `read`", read, read, read, []string{"read", pid, "[stack]"}},
		{"`info`, `read`", read, read, read, []string{"search", pid, "none such"}},
		{"`doctor`", []string{"kcmp", "PTRACE_SEIZE", "userfaultfd"}, slices.Concat(probed, []string{"PTRACE_SEIZE", "userfaultfd"}), []string{"PTRACE_SEIZE"}, []string{"doctor", pid}},
		{"`core --method live`", nil, read, read, []string{"core", "--method", "live", pid}},
		{"`threads`, `core --method stop`", stop[1:], stop, stop[len(probed):], []string{"core", "--force", "--method", "stop", pid}},
		{"`threads`, `core --method stop`", stop[1:], stop, stop[len(probed):], []string{"threads", pid}},
		{"`stacks`", held[1:], held, held[1:], []string{"stacks", pid}},
		{"`core --method fork`", fork[len(stop):], fork, []string{"PTRACE_SETREGS", "pidfd_open"}, []string{"core", "--force", "--method", "fork", pid}},
		{"`core --method precopy`", precopy[len(fork):], precopy, []string{"PTRACE_SETREGS", "pidfd_getfd"}, []string{"core", "--force", "--method", "precopy", pid}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			row := rowOf(t, string(page), c.row)
			for _, call := range c.own {
				if !strings.Contains(row, call) {
					t.Errorf("the row of %s lacks %s", c.row, call)
				}
			}
			seen := straced(t, c.args)
			for call := range seen.calls {
				if !slices.Contains(c.can, call) {
					t.Errorf("%s is called, which the page does not say", call)
				}
			}
			for _, call := range c.must {
				if !seen.calls[call] {
					t.Errorf("%s is not called, but the page says so", call)
				}
			}
			files := section(t, string(page), "## Files")
			for name := range seen.files {
				if slices.Contains(c.args, name) { // a word may be the name of a core
					continue
				}
				if !strings.Contains(files, "`"+name+"`") && (!strings.HasPrefix(name, "/") || !strings.Contains(files, name)) {
					t.Errorf("%s is opened, which the page does not say", name)
				}
			}
			for line := range seen.written {
				if !strings.Contains(line, "/comm") && !strings.Contains(line, "/oom_score_adj") {
					t.Errorf("opened for writing: %s", line)
				}
			}
		})
	}
}

func rowOf(t *testing.T, page, begin string) string {
	t.Helper()
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "| "+begin) {
			return line
		}
	}
	t.Fatalf("docs/allow-listing.md has no row of %s", begin)
	return ""
}

func section(t *testing.T, page, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut(page, heading+"\n")
	if !ok {
		t.Fatalf("docs/allow-listing.md has no %s", heading)
	}
	text, _, _ := strings.Cut(rest, "\n## ")
	return text
}

// trace is what strace has seen, each once.
type trace struct{ calls, files, written map[string]bool }

var (
	tracedCall = regexp.MustCompile(`^\d+ +(\w+)\((PTRACE_\w+|0x4211)?`)
	tracedOpen = regexp.MustCompile(`^\d+ +openat2?\((?:AT_FDCWD|\d+), "([^"]+)"`)
	numbers    = regexp.MustCompile(`\d+`)
)

func straced(t *testing.T, args []string) trace {
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	cmd := exec.Command("strace", append([]string{"-f", "-qq", "--seccomp-bpf", "-e", "trace=" + remarkable, "-e", "signal=none", "-o", log, "procmem"}, args...)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil && args[0] != "search" { // which finds nothing
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	seen := trace{map[string]bool{}, map[string]bool{}, map[string]bool{}}
	for line := range strings.Lines(string(b)) {
		m := tracedCall.FindStringSubmatch(line)
		switch {
		case m == nil, m[1] == "execve": // the program, and its helper
		case strings.HasPrefix(m[1], "openat"):
			seen.open(line)
		case m[2] == "0x4211": // unknown to older releases of strace
			seen.calls["PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG"] = true
		case m[2] != "":
			seen.calls[m[2]] = true
		default:
			seen.calls[m[1]] = true
		}
	}
	return seen
}

// open notes a file below /proc by the name that the page has for it.
func (s trace) open(line string) {
	m := tracedOpen.FindStringSubmatch(line)
	if m == nil {
		return
	}
	name := m[1]
	switch {
	case strings.HasPrefix(name, "/proc/self/fd/"):
		name = "/proc/self/fd/"
	case strings.HasPrefix(name, "/proc/"):
		if rest, ok := strings.CutPrefix(numbers.ReplaceAllString(name, "N"), "/proc/N"); ok {
			name = strings.TrimPrefix(rest, "/")
		}
	case strings.HasPrefix(name, "/"), strings.HasPrefix(name, "core."), name == ".":
		return // no file of a process
	}
	name = strings.Replace(numbers.ReplaceAllString(name, "N"), "task/N", "task/TID", 1)
	for _, folder := range []string{"map_files/", "ns/", "fd/"} {
		if before, _, ok := strings.Cut(name, folder); ok {
			name = before + folder
		}
	}
	if name == "" || name == "task" { // the folder itself
		name += "/"
	}
	s.files[name] = true
	if name == "/proc/self/fd/" {
		return // a file of procmem's own, opened again
	}
	if strings.Contains(line, "O_WRONLY") || strings.Contains(line, "O_RDWR") {
		s.written[strings.TrimSpace(line)] = true
	}
}
