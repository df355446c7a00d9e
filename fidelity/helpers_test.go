package fidelity

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/procmem/procmem/internal/testproc"
)

// patience returns how long a tool may take: as long as there is time for the
// tests at all, since nobody knows how busy the machine is. A tool that hangs
// is killed in time for the test to say so and to end what it has started.
func patience(t testing.TB) time.Duration {
	if d, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if end, ok := d.Deadline(); ok {
			return time.Until(end) - 15*time.Second
		}
	}
	return time.Hour
}

// binDir holds the programs that the tests build.
var binDir string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	var err error
	if binDir, err = os.MkdirTemp("", "procmem-fidelity-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(binDir)
	if err := goBuild(procmemPath(), "../cmd/procmem"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func procmemPath() string { return filepath.Join(binDir, "procmem") }

func goBuild(out string, args ...string) error {
	cmd := exec.Command("go", append([]string{"build", "-o", out}, args...)...)
	if msg, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd.Args, err, msg)
	}
	return nil
}

// delve builds the debugger that tools/go.mod names, once.
var delve = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binDir, "dlv")
	return path, goBuild(path, "-modfile=../tools/go.mod", "github.com/go-delve/delve/cmd/dlv")
})

// missing ends a test for which something is not installed.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("PROCMEM_TEST_ALL") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// need returns the path of a program, the first of the names that there is.
func need(t testing.TB, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	missing(t, "not installed: %s", strings.Join(names, ", "))
	return ""
}

// output is what a tool said.
type output struct {
	stdout, stderr string
	status         int
}

// run runs a program to its end. A status other than 0 is the caller's to
// judge; not to have run at all, or to hang, fails the test.
func run(t testing.TB, name string, args ...string) output {
	t.Helper()
	return runCmd(t, exec.Command(need(t, name), args...))
}

func runCmd(t testing.TB, cmd *exec.Cmd) output {
	t.Helper()
	out, err := runFor(t, patience(t), cmd)
	if err != nil {
		t.Fatalf("%v: %v, %v\n%.4000s%.4000s", cmd.Args, err, cmd.ProcessState, out.stdout, out.stderr)
	}
	return out
}

// runFor runs a program that is killed, with context.DeadlineExceeded, when it
// takes longer than it may.
func runFor(t testing.TB, limit time.Duration, cmd *exec.Cmd) (output, error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stderr = &stderr
	if cmd.Stdout == nil {
		cmd.Stdout = &stdout
	}
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C", "DEBUGINFOD_URLS=", "HOME="+binDir)
	cmd.WaitDelay = limit // for a child that it may have left with our pipe
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	hangs := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	var exit *exec.ExitError
	if !hangs.Stop() {
		err = context.DeadlineExceeded
	}
	out := output{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
	if errors.As(err, &exit) && out.status >= 0 {
		err = nil
	}
	return out, err
}

// lldb runs lldb. Version 14 hangs now and then, with any core, while its
// threads load symbols; it is then given another try.
func lldb(t testing.TB, args ...string) string {
	t.Helper()
	const tries = 3
	for try := 1; ; try++ {
		cmd := exec.Command(need(t, "lldb"), args...)
		out, err := runFor(t, min(2*time.Minute, patience(t)/tries), cmd)
		switch {
		case err == nil:
			return out.ok(t)
		case try == tries || !errors.Is(err, context.DeadlineExceeded):
			t.Fatalf("%v: %v, %v\n%.4000s%.4000s", cmd.Args, err, cmd.ProcessState, out.stdout, out.stderr)
		}
		t.Logf("lldb hangs: once more")
	}
}

// ok returns what a tool printed on stdout, and fails if its status was not 0.
func (o output) ok(t testing.TB) string {
	t.Helper()
	if o.status != 0 {
		t.Fatalf("status %d\n%.4000s%.4000s", o.status, o.stdout, o.stderr)
	}
	return o.stdout
}

// hold stops processes with SIGSTOP, in this order, until the test ends or
// the result is called, and returns when each of their threads has stopped.
func hold(t testing.TB, pids ...int) (release func()) {
	t.Helper()
	var once sync.Once
	release = func() {
		once.Do(func() {
			for _, pid := range pids {
				_ = syscall.Kill(pid, syscall.SIGCONT)
			}
		})
	}
	t.Cleanup(release)
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatalf("stop process %d: %v", pid, err)
		}
		testproc.Until(t, fmt.Sprintf("all threads of %d to stop", pid), func() bool { return stopped(pid) })
	}
	return release
}

// stopped reports whether every thread of a process has stopped. An exited
// leader stays a zombie.
func stopped(pid int) bool {
	for _, tid := range tids(pid) {
		switch testproc.State(pid, tid) {
		case 'T', 'Z', 'X', 0:
		default:
			return false
		}
	}
	return true
}

// stoppedAgain waits until a process that was held, and then traced, is as it
// was before. A thread that its tracer lets go takes a moment for that, in
// which it runs nothing of its own.
func stoppedAgain(t testing.TB, pid int) {
	t.Helper()
	testproc.Until(t, "the process to be stopped as before", func() bool { return stopped(pid) })
}

// tids returns the threads of a process, ascending.
func tids(pid int) []int {
	return numbers(fmt.Sprintf("/proc/%d/task", pid))
}

// living returns those that are not zombies.
func living(pid int) []int {
	var alive []int
	for _, tid := range tids(pid) {
		if s := testproc.State(pid, tid); s != 'Z' && s != 'X' && s != 0 {
			alive = append(alive, tid)
		}
	}
	return alive
}

// children returns the child processes of a process of one thread.
func children(t testing.TB, pid int) []int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for f := range strings.FieldsSeq(string(b)) {
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, n)
	}
	return pids
}

// numbers returns the names in a folder that are numbers, ascending.
func numbers(dir string) []int {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var ns []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			ns = append(ns, n)
		}
	}
	slices.Sort(ns) // the folder's order is that of words
	return ns
}

// startReady runs a program that is not one of testproc's, but prints "ready"
// on a line of its own. It ends with the test.
func startReady(t testing.TB, cmd *exec.Cmd) *testproc.Proc {
	t.Helper()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	return testproc.StartCmd(t, cmd)
}
