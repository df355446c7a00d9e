package main

import (
	"bufio"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
)

// What a process has changed is found at the addresses where it did so: at boundaries of pages
// and mappings, in a core and in the process.
func TestDiffFindsChanges(t *testing.T) {
	zoo := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "anon,memfd,shared,file,thp", "--memfd", "16M")
	pid := strconv.Itoa(zoo.PID())
	prefix := filepath.Join(t.TempDir(), "core")
	core := prefix + "." + pid
	if _, msg, status := procmemCommand(t, "core", "-a", "-o", prefix, pid); status != 0 {
		t.Fatal(msg)
	}
	var in []string
	for _, m := range zoo.Maps() {
		in = append(in, "--in", m.Range.String())
	}
	out, msg, status := procmemCommand(t, append([]string{"diff", core, pid}, in...)...)
	if status != 0 || !strings.HasPrefix(out, "no difference; ") {
		t.Fatalf("before: status %d, %s%s", status, out, msg)
	}
	// Of each mapping the first and the last page, and one that was not there.
	want := map[procmem.Addr]bool{}
	for _, m := range zoo.Maps() {
		pages := []int{0, int(m.Size()/procmem.PageSize) - 1}
		if m.Name == "memfd" {
			pages = append(pages, 777)
		}
		for _, page := range pages {
			what := "zero"
			if !slices.ContainsFunc(zoo.Want(t, m, page), func(b byte) bool { return b != 0 }) {
				what = "touch"
			}
			zoo.Cmd(t, "%s %s %d", what, m.Name, page)
			want[m.Start+procmem.Addr(page)*procmem.PageSize] = true
		}
	}
	for _, args := range [][]string{{core, pid}, {pid, core}} {
		out, msg, status = procmemCommand(t, append(append([]string{"diff", "--json", "--hex"}, args...), in...)...)
		if status != 1 {
			t.Fatalf("status %d, %s%s", status, out, msg)
		}
		got := map[procmem.Addr]bool{}
		for line := range strings.Lines(out) {
			var v struct {
				Kind  string
				Start procmem.Addr
			}
			if err := json.Unmarshal([]byte(line), &v); err != nil {
				t.Fatal(err)
			}
			if v.Kind == "range" {
				got[v.Start.PageDown()] = true
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%v: changes in the pages %v, want %v", args, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
	}
}

// A process that is at work is not what it was.
func TestDiffAfter(t *testing.T) {
	witness := testproc.Start(t, testproc.Witness, "--pages", "64")
	pid := strconv.Itoa(witness.PID())
	base := witness.Addr(t, "base")
	var out, msg string
	testproc.Until(t, "a change", func() bool {
		var status int
		if out, msg, status = procmemCommand(t, "diff", pid, "--after", "1ms", "--in", base.String()+"+256K"); status > 1 {
			t.Fatalf("status %d: %s", status, msg)
		}
		return status == 1
	})
	if !strings.Contains(out, base.String()[:6]) || !strings.Contains(out, "bytes changed in") || !strings.Contains(msg, " was held for ") {
		t.Errorf("%s%s", out, msg)
	}
}

// A waiting diff can be interrupted, and leaves nothing behind.
func TestDiffAfterInterrupted(t *testing.T) {
	kids := testproc.Start(t, testproc.Kids)
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "procmem", "diff", strconv.Itoa(kids.PID()), "--after", "10h")
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	var told []string
	for lines.Scan() {
		if told = append(told, lines.Text()); strings.Contains(lines.Text(), "was held for") {
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait()
	if killedBy(cmd.ProcessState) != syscall.SIGINT || len(told) != 2 || !strings.Contains(told[1], "stopped by SIGINT") {
		t.Errorf("%v: %q", cmd.ProcessState, told)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if kids.State() != 'S' {
		t.Errorf("the target is in state %c", kids.State())
	}
}

// Whatever a core is cut off at: trouble, or no core.
func TestDiffCutOff(t *testing.T) {
	kids := testproc.Start(t, testproc.Kids)
	dir := t.TempDir()
	if _, msg, status := procmemCommand(t, "core", "-o", filepath.Join(dir, "core"), strconv.Itoa(kids.PID())); status != 0 {
		t.Fatal(msg)
	}
	whole := filepath.Join(dir, "core."+strconv.Itoa(kids.PID()))
	b, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(dir, "cut")
	for i := range 12 {
		if err := os.WriteFile(cut, b[:len(b)*i/12], 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{whole, cut}, {cut, whole}, {cut, cut}} {
			if o := survive(t, append([]string{"diff"}, args...)...); o.status != exitTrouble || o.stderr == "" {
				t.Errorf("%d of 12: %v: status %d, %s", i, args, o.status, o.stderr)
			}
		}
	}
	// Of a core that is damaged some bytes differ, or it is no core.
	for i := range 40 {
		bad := append([]byte(nil), b...)
		bad[i*97%4096] ^= 0xff
		if err := os.WriteFile(cut, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, msg, status := procmemCommand(t, "diff", whole, cut); status < 0 || status > exitTrouble || strings.Contains(msg, "goroutine") {
			t.Errorf("byte %d: status %d, %s", i*97%4096, status, msg)
		}
	}
}
