package main

import (
	"encoding/hex"
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

	"github.com/google/pprof/profile"

	"github.com/procmem/procmem/internal/testproc"
)

// stackAnswer is what stacks --json prints.
type stackAnswer struct {
	Interrupted int
	Stacks      []struct {
		Samples int
		Threads []struct {
			TID  int
			Name string
			Call string
		}
		Frames []struct {
			PC       string
			Function string
			Inlined  bool
		}
		Stop string
	}
}

func stacksOf(t *testing.T, args ...string) (a stackAnswer) {
	t.Helper()
	out, msg, status := procmemCommand(t, append([]string{"stacks", "--json"}, args...)...)
	if status != 0 {
		t.Fatalf("%v: status %d: %s", args, status, msg)
	}
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		t.Fatal(err)
	}
	return a
}

// frames returns the addresses of the frames of each thread.
func (a stackAnswer) frames() map[int]string {
	out := map[int]string{}
	for _, s := range a.Stacks {
		var pcs []string
		for _, f := range s.Frames {
			if !f.Inlined {
				pcs = append(pcs, f.PC)
			}
		}
		for _, th := range s.Threads {
			out[th.TID] = strings.Join(pcs, " ")
		}
	}
	return out
}

var (
	euThread  = regexp.MustCompile(`^TID (\d+):`)
	euAddress = regexp.MustCompile(`^#\d+ +0x0*([0-9a-f]+)`)
)

// euStack returns the frames of each thread that eu-stack finds.
func euStack(t *testing.T, args ...string) map[int]string {
	t.Helper()
	out, err := exec.Command("eu-stack", append([]string{"-n", "0"}, args...)...).Output()
	if len(out) == 0 {
		t.Fatalf("eu-stack %v: %v", args, err)
	}
	found, tid := map[int]string{}, 0
	for line := range strings.Lines(string(out)) {
		if m := euThread.FindStringSubmatch(line); m != nil {
			tid, _ = strconv.Atoi(m[1])
		}
		if m := euAddress.FindStringSubmatch(line); m != nil {
			found[tid] = strings.TrimSpace(found[tid] + " 0x" + m[1])
		}
	}
	return found
}

// The stacks of a process that does nothing are those that eu-stack finds, of the process and of
// its core.
func TestStacksOracle(t *testing.T) {
	if _, err := exec.LookPath("eu-stack"); err != nil {
		t.Skip("eu-stack is not installed")
	}
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--without", "uffd,secret")
	pid := strconv.Itoa(p.PID())
	prefix := filepath.Join(t.TempDir(), "c")
	if _, msg, status := procmemCommand(t, "core", "-o", prefix, pid); status != 0 {
		t.Fatal(msg)
	}
	core := prefix + "." + pid
	for _, c := range []struct {
		name         string
		ours, theirs map[int]string
	}{
		{"core", stacksOf(t, core).frames(), euStack(t, "--core", core)},
		{"process", stacksOf(t, pid).frames(), euStack(t, "-p", pid)},
		{"both", stacksOf(t, pid).frames(), stacksOf(t, core).frames()},
	} {
		if len(c.ours) < 8 {
			t.Errorf("%s: %d threads", c.name, len(c.ours))
		}
		for tid, frames := range c.ours {
			if frames != c.theirs[tid] {
				t.Errorf("%s: thread %d: %s, want %s", c.name, tid, frames, c.theirs[tid])
			}
		}
	}
}

// A core of gdb names files without their permissions.
func TestStacksOfGDB(t *testing.T) {
	if _, err := exec.LookPath("gdb"); err != nil {
		t.Skip("gdb is not installed")
	}
	p := testproc.Start(t, testproc.Many, "threads", "3")
	pid := strconv.Itoa(p.PID())
	core := filepath.Join(t.TempDir(), "core")
	cmd := exec.Command("gdb", "-nx", "-batch", "-p", pid, "-ex", "generate-core-file "+core)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ours := stacksOf(t, core).frames()
	for tid, frames := range stacksOf(t, pid).frames() {
		if ours[tid] != frames {
			t.Errorf("thread %d: %s, and in the process %s", tid, ours[tid], frames)
		}
	}
}

// A program that does not expect EINTR may die of a moment, as the help says.
func TestStacksInterrupted(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	tid := p.CmdInts(t, "frail")[0]
	a := stacksOf(t, strconv.Itoa(p.PID()))
	if a.Interrupted != 1 {
		t.Errorf("%d calls may have returned EINTR, want that of thread %d", a.Interrupted, tid)
	}
	state, err := p.Wait()
	if err != nil || state.ExitCode() != 7 {
		t.Errorf("the program ended with %v, %v, want the status 7 of EINTR", state, err)
	}
}

// Threads that start and end meanwhile are on stacks whole, or not at all.
func TestStacksStorm(t *testing.T) {
	p := testproc.Start(t, testproc.Many, "storm", "20")
	a := stacksOf(t, strconv.Itoa(p.PID()), "--every", "1ms", "-n", "20")
	whole := 0
	for _, s := range a.Stacks {
		if s.Stop == "end of the stack" {
			whole += s.Samples
		}
	}
	if whole == 0 {
		t.Errorf("no stack is whole: %+v", a)
	}
}

// No name of a thread harms a terminal, or breaks a line of folded stacks.
func TestStacksNames(t *testing.T) {
	p := testproc.Start(t, testproc.Odd)
	for _, name := range []string{"\x1b[31mred", "a;b 7\n", "\u202eright"} {
		p.Cmd(t, "thread %s", hex.EncodeToString([]byte(name)))
	}
	pid := strconv.Itoa(p.PID())
	for _, args := range [][]string{{"stacks", pid}, {"stacks", "--each", pid}, {"stacks", "--fold", pid}} {
		out, _, _ := procmemCommand(t, args...)
		if strings.ContainsAny(out, "\x1b\u202e") || strings.Contains(out, "7\n;") {
			t.Errorf("%v prints what a name holds:\n%q", args, out)
		}
	}
	out, _, _ := procmemCommand(t, "stacks", "--fold", pid)
	for line := range strings.Lines(out) {
		if !regexp.MustCompile(`^[^;]+(;[^;]+)+ \d+\n$`).MatchString(line) {
			t.Errorf("not a folded stack: %q", line)
		}
	}
}

// The profile is one that the reader of pprof takes, with functions, lines and names of threads.
func TestStacksPprof(t *testing.T) {
	p := testproc.Start(t, testproc.Many, "threads", "40")
	path := filepath.Join(t.TempDir(), "profile")
	out, msg, status := procmemCommand(t, "stacks", "--every", "1ms", "-n", "5", "--pprof", path, strconv.Itoa(p.PID()))
	if status != 0 || out != "" {
		t.Fatalf("status %d: %s%s", status, out, msg)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	prof, err := profile.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	var blocked int64
	for _, s := range prof.Sample {
		for _, l := range s.Location {
			for _, at := range l.Line {
				if at.Function.Name == "block" && at.Line > 0 && l.Mapping.File == p.Path && s.Label["thread"][0] == "many" {
					blocked += s.Value[0]
				}
			}
		}
	}
	if blocked != 200 || prof.Period != 1e6 || len(prof.SampleType) != 2 {
		t.Errorf("%d samples in block, want 200: %v", blocked, prof)
	}
}

// Control-C ends the moments, and the process goes on.
func TestStacksInterrupt(t *testing.T) {
	p := testproc.Start(t, testproc.Many, "threads", "3")
	cmd := exec.Command("procmem", "stacks", "--every", "1ms", "-n", "1000000", strconv.Itoa(p.PID()))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// It has a handler when it holds the process for the first time.
	awaitTraced(t, p.PID())
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the status says how it ended
	if s := cmd.ProcessState.Sys().(syscall.WaitStatus); !s.Signaled() || s.Signal() != syscall.SIGINT {
		t.Errorf("it ended with %v, want SIGINT", cmd.ProcessState)
	}
	if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID())); err != nil || !strings.Contains(string(status), "TracerPid:\t0\n") {
		t.Errorf("the process is still traced: %s, %v", status, err)
	}
}

// awaitTraced waits until something traces a process.
func awaitTraced(t *testing.T, pid int) {
	t.Helper()
	for t.Context().Err() == nil {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(b), "TracerPid:\t0\n") {
			return
		}
	}
}
