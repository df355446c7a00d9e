package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/procmem/procmem/internal/testproc"
)

// killedBy returns the signal that has ended a command, or 0.
func killedBy(s *os.ProcessState) syscall.Signal {
	if w := s.Sys().(syscall.WaitStatus); w.Signaled() {
		return w.Signal()
	}
	return 0
}

// watched is a running command that watches, and what it has printed.
type watched struct {
	*exec.Cmd
	lines  *bufio.Scanner
	stderr strings.Builder
}

func startWatch(t *testing.T, args ...string) *watched {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	w := &watched{Cmd: exec.CommandContext(ctx, "procmem", args...)}
	w.Cmd.Stderr = &w.stderr
	out, err := w.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	w.lines = bufio.NewScanner(out)
	return w
}

// next reads a line, which must match.
func (w *watched) next(t *testing.T, pattern string) string {
	t.Helper()
	if !w.lines.Scan() || !regexp.MustCompile(pattern).MatchString(w.lines.Text()) {
		t.Fatalf("%q, want %s: %s", w.lines.Text(), pattern, &w.stderr)
	}
	return w.lines.Text()
}

// In a pipe, watching prints a line for each change, with its time. It ends with the process.
func TestWatch(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--without", "uffd,secret")
	pid := strconv.Itoa(p.PID())
	p.Cmd(t, "zero anon 0")
	page := p.Map(t, "anon").Start
	saved := filepath.Join(t.TempDir(), "hits")
	if _, msg, status := procmemCommand(t, "search", pid, "--type", "u64", "0", "--in", page.String()+"+16", "--save", saved); status != 0 {
		t.Fatal(msg)
	}
	const clock = `^[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}  `
	hits := startWatch(t, "search", pid, "--from", saved, "--watch")
	numbers := startWatch(t, "read", pid, page.String()+"+8", "-f", "u64", "--watch")
	bytes := startWatch(t, "read", pid, page.String()+"+20", "--watch")
	objects := startWatch(t, "read", pid, page.String()+"+8", "-f", "u64", "--watch", "--json")
	hits.next(t, clock+page.String()+`  \[anon@[0-9a-f]+\]\+0x0  0$`)
	hits.next(t, clock+(page+8).String()+`  .*  0$`)
	numbers.next(t, clock+page.String()+`  .*  0$`)
	bytes.next(t, clock+page.String()+`  .*  (00 ){15}00  \.{16}$`)
	bytes.next(t, clock+(page+16).String()+`  .*  00 00 00 00  \.{4}$`)
	objects.next(t, `"value":"0","hex":"0{16}"}$`)
	p.Cmd(t, "touch anon 0")
	hits.next(t, clock+page.String()+`  .*  0 -> [1-9][0-9]*$`)
	hits.next(t, clock+(page+8).String()+`  .*  0 -> [1-9][0-9]*$`)
	numbers.next(t, clock+page.String()+`  .*  0 -> [1-9][0-9]*$`)
	bytes.next(t, clock+page.String()+`  .*  (00 ){15}00  \.{16} -> .* `)
	var o struct {
		Time               time.Time
		Start, Value, Was  string
		Bytes              int
		Mapping, Hex, Path string
	}
	if err := json.Unmarshal([]byte(objects.next(t, "^{")), &o); err != nil || o.Start != page.String() || o.Was != "0" || o.Value == "0" || o.Bytes != 8 || time.Since(o.Time) > time.Hour {
		t.Errorf("%v: %+v", err, o)
	}
	p.Kill()
	for _, w := range []*watched{hits, numbers, bytes, objects} {
		for w.lines.Scan() { // bytes may have more
		}
		if err := w.Wait(); err != nil || w.stderr.String() != "procmem: the process has ended, or executes another program\n" {
			t.Errorf("%v: %s", err, &w.stderr)
		}
	}
}

// Watching ends when nobody reads any more, though nothing changes. It ends by Control-C.
func TestWatchEnds(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--without", "uffd,secret")
	args := []string{"read", strconv.Itoa(p.PID()), p.Map(t, "anon").Start.String() + "+8", "-f", "u64", "--watch"}
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "procmem", args...)
	var msg strings.Builder
	cmd.Stdout, cmd.Stderr = in, &msg
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	bufio.NewScanner(out).Scan()
	out.Close()
	if _ = cmd.Wait(); killedBy(cmd.ProcessState) != syscall.SIGPIPE || msg.Len() > 0 {
		t.Errorf("%v: %s", cmd.ProcessState, &msg)
	}

	w := startWatch(t, args...)
	w.next(t, ".")
	if err := w.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if _ = w.Wait(); killedBy(w.ProcessState) != syscall.SIGINT || w.stderr.Len() > 0 {
		t.Errorf("%v: %s", w.ProcessState, &w.stderr)
	}
}

// The number of values is bounded, and that is told.
func TestWatchBounded(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--without", "uffd,secret")
	w := startWatch(t, "read", strconv.Itoa(p.PID()), p.Map(t, "anon").Start.String()+"+4096", "-f", "u8", "--watch")
	for range maxWatched {
		w.next(t, ".")
	}
	p.Kill()
	if w.lines.Scan() {
		t.Errorf("one more: %s", w.lines.Text())
	}
	if _ = w.Wait(); !strings.Contains(w.stderr.String(), "procmem: the first 1000 of 4096 values are watched\n") {
		t.Error(&w.stderr)
	}
}

// On a terminal the values are shown again in the same place: in tmux there are as many lines as
// values, and the shell goes on below them.
func TestWatchTerminal(t *testing.T) {
	if _, err := exec.LookPath("tmux"); err != nil {
		if os.Getenv("PROCMEM_TEST_ALL") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--without", "uffd,secret")
	p.Cmd(t, "zero anon 0")
	page := p.Map(t, "anon").Start
	socket := filepath.Join(t.TempDir(), "tmux")
	tmux := func(args ...string) string {
		out, err := exec.CommandContext(t.Context(), "tmux", append([]string{"-S", socket, "-f", "/dev/null"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("tmux %q: %v: %s", args, err, out)
		}
		return string(out)
	}
	shows := func(pattern string) {
		t.Helper()
		deadline := time.Now().Add(time.Minute)
		for !regexp.MustCompile(pattern).MatchString(tmux("capture-pane", "-p", "-t", "w")) {
			if time.Now().After(deadline) {
				t.Fatalf("want %s:\n%s", pattern, tmux("capture-pane", "-p", "-t", "w"))
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	tmux("new-session", "-d", "-s", "w", "-x", "100", "-y", "8", "env", "PS1=shell$ ", "ENV=", "sh", "-i")
	defer func() { _ = exec.Command("tmux", "-S", socket, "kill-server").Run() }()
	shows(`shell\$`)
	send := func(n int) {
		tmux("send-keys", "-t", "w", fmt.Sprintf("clear; procmem read %d %v+%d -f u64 --watch", p.PID(), page, 8*n), "Enter")
	}
	send(2)
	row := func(i int, rest string) string {
		return fmt.Sprintf(`%v  +\[anon@[0-9a-f]+\]\+0x%x  %s\n`, page, i, rest)
	}
	shows(`^` + row(0, `0`) + fmt.Sprintf(`%v  .*  0\n\n`, page+8))
	p.Cmd(t, "touch anon 0")
	shows(`^` + row(0, `[1-9][0-9]*  was 0 until [0-9:.]{12}`) + fmt.Sprintf(`%v  .*  [1-9][0-9]*  was 0 until [0-9:.]{12}\n\n`, page+8))
	tmux("send-keys", "-t", "w", "C-c")
	shows(`^0x.*\n0x.*\n\^?C?\n?shell\$`)
	tmux("send-keys", "-t", "w", "echo status $?", "Enter")
	shows(`status 130\n`)
	send(20) // more than there are lines
	shows(`^(0x.*\n){6}14 more: the terminal has no room for them\n`)
	tmux("send-keys", "-t", "w", "C-c")
	shows(`shell\$ ?\n*$`)
}
