package testproc

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/procmem/procmem"
)

// deadline is how long anything may take.
var deadline = Deadline()

// Proc is a helper program that runs.
type Proc struct {
	Facts   map[string]string // what it announced; see the package comment
	Threads []Thread          // those that it named, in order
	Dir     string            // its working directory, removed at the end of the test
	Path    string            // of the program

	maps   []Map
	cmd    *exec.Cmd
	stdin  *os.File
	stdout *os.File
	lines  *bufio.Reader
	waited sync.Once
	err    error // of waiting
}

// Thread is a thread that a helper named.
type Thread struct {
	Name  string
	TID   int
	Place string // where it is blocked
}

// Start builds v, runs it, and returns when it says that it is ready. At the end of the test it
// is killed and waited for. The programs take 4 KiB for a page, so the test is skipped where
// pages are larger. StartCmd is for tests that need no page.
func Start(t testing.TB, v Variant, args ...string) *Proc {
	t.Helper()
	if size := os.Getpagesize(); size != procmem.PageSize {
		t.Skipf("testproc: a page has %d bytes here", size)
	}
	return StartCmd(t, exec.Command(Build(t, v), args...))
}

// StartCmd is Start for a command that the caller made with a path of Build. So SysProcAttr
// (another user, a namespace), Env or a wrapper can be set. Dir, Stdin, Stdout and Stderr are
// not the caller's.
func StartCmd(t testing.TB, cmd *exec.Cmd) *Proc {
	t.Helper()
	p := &Proc{cmd: cmd, Path: cmd.Path}
	if err := p.start(t); err != nil {
		t.Fatalf("testproc: start %s: %v", cmd.Path, err)
	}
	p.ReadFacts(t)
	return p
}

func (p *Proc) start(t testing.TB) error {
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	if p.Dir, err = os.MkdirTemp(cache, tempName("run")); err != nil {
		return err
	}
	t.Cleanup(func() { _ = os.RemoveAll(p.Dir) })
	if err := os.Chmod(p.Dir, 0o755); err != nil {
		return err
	}
	if a := p.cmd.SysProcAttr; a != nil && a.Credential != nil {
		if err := os.Chown(p.Dir, int(a.Credential.Uid), int(a.Credential.Gid)); err != nil {
			return err
		}
	}
	if p.cmd.SysProcAttr == nil {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	// It gets a group of its own, whose leader has its parent outside of it. The group of the
	// test may be orphaned, in CI, and then ignores SIGTSTP.
	p.cmd.SysProcAttr.Setpgid = true
	p.cmd.Dir = p.Dir
	childIn, stdin, err := os.Pipe()
	if err != nil {
		return err
	}
	defer childIn.Close()
	stdout, childOut, err := os.Pipe()
	if err != nil {
		return errors.Join(err, stdin.Close())
	}
	defer childOut.Close()
	// A file and no pipe: Wait must not depend on children of the helper.
	stderr, err := os.Create(filepath.Join(p.Dir, "stderr"))
	if err != nil {
		return errors.Join(err, stdin.Close(), stdout.Close())
	}
	defer stderr.Close()
	p.stdin, p.stdout, p.lines = stdin, stdout, bufio.NewReader(stdout)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = childIn, childOut, stderr
	t.Cleanup(func() {
		p.CloseStdin()
		_ = stdout.Close()
	})
	if err := startFromLastingThread(p.cmd); err != nil {
		return err
	}
	t.Cleanup(func() { p.end(t) })
	return nil
}

// end kills the program and waits for it.
func (p *Proc) end(t testing.TB) {
	if t.Failed() { // it may have ended, and that be why
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
		t.Logf("testproc: %s: %s%v%s%s", p.cmd.Path, stat, err, p.stderr(), memoryLeft())
	}
	p.Kill()
	done := make(chan error, 1)
	go func() {
		_, err := p.Wait()
		done <- err
	}()
	select {
	case err := <-done:
		// Without a child, a tracer in this process has had its status.
		if err != nil && !errors.Is(err, syscall.ECHILD) {
			t.Errorf("testproc: wait for %s: %v", p.cmd.Path, err)
		}
	case <-time.After(deadline):
		t.Errorf("testproc: %s (pid %d) was killed and does not end: a thread of this test may still trace it", p.cmd.Path, p.PID())
	}
}

// memoryLeft tells how much memory the machine and the control group of the tests have.
func memoryLeft() (out string) {
	for _, path := range []string{"/proc/meminfo", "/proc/self/cgroup", "/sys/fs/cgroup/memory/memory.failcnt", "/proc/sys/vm/overcommit_memory"} {
		b, err := os.ReadFile(path)
		if err == nil {
			out += fmt.Sprintf("\n%s: %.180s", path, b)
		}
	}
	return out
}

// startFromLastingThread starts cmd from an OS thread that never ends. Helpers ask to be killed
// when the thread that started them ends, and threads of tests that use ptrace do end.
func startFromLastingThread(cmd *exec.Cmd) error {
	starter.Do(func() {
		go func() {
			runtime.LockOSThread()
			for s := range starts {
				s.result <- s.cmd.Start()
			}
		}()
	})
	result := make(chan error)
	starts <- startRequest{cmd, result}
	return <-result
}

type startRequest struct {
	cmd    *exec.Cmd
	result chan error
}

var (
	starter sync.Once
	starts  = make(chan startRequest)
)

// ReadFacts reads what the program announces until it is ready. Start does so; it is needed
// again after a helper has executed another one.
func (p *Proc) ReadFacts(t testing.TB) {
	t.Helper()
	p.Facts, p.maps, p.Threads = map[string]string{}, nil, nil
	for {
		line := p.Recv(t)
		if line == "ready" {
			return
		}
		key, value, _ := strings.Cut(line, " ")
		switch key {
		case "map", "needle", "thread", "path", "reg", "area", "no":
			name, rest, _ := strings.Cut(value, " ")
			key, value = key+" "+name, rest
			if err := p.parse(line); err != nil {
				t.Fatalf("testproc: %s said %q: %v", p.cmd.Path, line, err)
			}
		}
		p.Facts[key] = value
	}
}

func (p *Proc) parse(line string) error {
	f := strings.Fields(line)
	switch f[0] {
	case "thread":
		if len(f) != 4 {
			return errors.New("want thread NAME TID PLACE")
		}
		tid, err := strconv.Atoi(f[2])
		if err != nil {
			return err
		}
		p.Threads = append(p.Threads, Thread{f[1], tid, f[3]})
	case "map":
		m, err := parseMap(f[1:])
		if err != nil {
			return err
		}
		p.maps = append(p.maps, m)
	}
	return nil
}

// PID returns the process id, as the test sees it.
func (p *Proc) PID() int { return p.cmd.Process.Pid }

// TID returns the id of the thread that the helper named so.
func (p *Proc) TID(t testing.TB, name string) int {
	t.Helper()
	for _, th := range p.Threads {
		if th.Name == name {
			return th.TID
		}
	}
	t.Fatalf("testproc: no thread %q", name)
	return 0
}

// Send writes a command.
func (p *Proc) Send(t testing.TB, format string, args ...any) {
	t.Helper()
	err := p.stdin.SetWriteDeadline(time.Now().Add(deadline))
	if err == nil {
		_, err = fmt.Fprintf(p.stdin, format+"\n", args...)
	}
	if err != nil {
		t.Fatalf("testproc: write to %s: %v%s", p.cmd.Path, err, p.stderr())
	}
}

// Recv reads a line of an answer.
func (p *Proc) Recv(t testing.TB) string {
	t.Helper()
	err, line := p.stdout.SetReadDeadline(time.Now().Add(deadline)), ""
	if err == nil {
		line, err = p.lines.ReadString('\n')
	}
	if err != nil {
		t.Fatalf("testproc: read from %s: %v%s", p.cmd.Path, err, p.stderr())
	}
	return strings.TrimSuffix(line, "\n")
}

// Cmd sends a command and returns its answer without the first word. The test fails if the
// answer begins with "error".
func (p *Proc) Cmd(t testing.TB, format string, args ...any) string {
	t.Helper()
	answer, err := p.TryCmd(t, format, args...)
	if err != nil {
		t.Fatalf("testproc: %s: %v", fmt.Sprintf(format, args...), err)
	}
	return answer
}

// TryCmd is Cmd for a command that may fail.
func (p *Proc) TryCmd(t testing.TB, format string, args ...any) (string, error) {
	t.Helper()
	p.Send(t, format, args...)
	word, rest, _ := strings.Cut(p.Recv(t), " ")
	if word == "error" {
		return "", errors.New(rest)
	}
	return rest, nil
}

// CmdInts is Cmd for an answer that is numbers.
func (p *Proc) CmdInts(t testing.TB, format string, args ...any) []int64 {
	t.Helper()
	answer := p.Cmd(t, format, args...)
	var ns []int64
	for f := range strings.FieldsSeq(answer) {
		n, err := strconv.ParseInt(f, 0, 64)
		if err != nil {
			t.Fatalf("testproc: %s: answer %q: %v", fmt.Sprintf(format, args...), answer, err)
		}
		ns = append(ns, n)
	}
	return ns
}

// Check has torture look at itself. It returns what went wrong, "" if nothing did, and all
// counts.
func (p *Proc) Check(t testing.TB) (wrong string, counts map[string]int64) {
	t.Helper()
	counts = map[string]int64{}
	for f := range strings.FieldsSeq(p.Cmd(t, "check")) {
		name, value, _ := strings.Cut(f, "=")
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			t.Fatalf("testproc: check: %q: %v", f, err)
		}
		// Those with a plus grow as long as all is well.
		name, grows := strings.CutPrefix(name, "+")
		if counts[name] = n; !grows && n != 0 {
			wrong += f + " "
		}
	}
	if wrong = strings.TrimSpace(wrong); wrong != "" {
		wrong += p.stderr()
	}
	return wrong, counts
}

func (p *Proc) stderr() string {
	b, err := os.ReadFile(filepath.Join(p.Dir, "stderr"))
	if err != nil || len(b) == 0 {
		return ""
	}
	return "; its stderr:\n" + string(b)
}

// Kill sends SIGKILL.
func (p *Proc) Kill() { _ = p.cmd.Process.Kill() }

// CloseStdin ends the program as the death of its parent would.
func (p *Proc) CloseStdin() { _ = p.stdin.Close() }

// Wait waits until the program has ended. Only this and the end of the test take its exit
// status. A tracer in the same process, which would share it, has it for itself until then.
func (p *Proc) Wait() (*os.ProcessState, error) {
	p.waited.Do(func() { p.err = p.cmd.Wait() })
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		return p.cmd.ProcessState, nil
	}
	return p.cmd.ProcessState, p.err
}

// State returns the letter of the process's state, or 0 if it is gone.
func (p *Proc) State() byte { return State(p.PID(), p.PID()) }

// State returns the letter of a thread's state, or 0 if it is gone.
func State(pid, tid int) byte {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/stat", pid, tid))
	if err != nil {
		return 0
	}
	if i := strings.LastIndexByte(string(b), ')'); i >= 0 && i+2 < len(b) {
		return b[i+2]
	}
	return 0
}

// TIDs returns the threads that there are.
func (p *Proc) TIDs() []int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.PID()))
	if err != nil {
		return nil
	}
	var tids []int
	for _, e := range entries {
		if tid, err := strconv.Atoi(e.Name()); err == nil {
			tids = append(tids, tid)
		}
	}
	return tids
}

// WaitBlocked waits until at least n threads sleep.
func (p *Proc) WaitBlocked(t testing.TB, n int) {
	t.Helper()
	Until(t, fmt.Sprintf("%d blocked threads", n), func() bool {
		blocked := 0
		for _, tid := range p.TIDs() {
			if State(p.PID(), tid) == 'S' {
				blocked++
			}
		}
		return blocked >= n
	})
}

// WaitState waits until the process is in the state, such as 'Z'.
func (p *Proc) WaitState(t testing.TB, state byte) {
	t.Helper()
	Until(t, fmt.Sprintf("state %c", state), func() bool { return p.State() == state })
}

// Until looks at a condition until it holds, and fails the test if that takes too long.
func Until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("testproc: waited %v for %s in vain", deadline, what)
		}
	}
}
