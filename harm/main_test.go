package harm

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/testproc"
)

// deadline is how long one run of procmem may take. Nothing hangs.
var deadline = testproc.Deadline()

// program is the command under test, and programs are all copies of it.
var (
	program  string
	programs []string
)

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	if dir := os.Getenv(asServer); dir != "" {
		serve(dir)
		return 0
	}
	// A debugger that crashes must not leave a core in the source tree.
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		fmt.Fprintln(os.Stderr, "harm:", err)
		return 1
	}
	// A shell has what it runs in the background ignore these, and procmem would
	// inherit that. What is caught is not inherited.
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP} {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
	// Other users run it too: see unprivileged.
	dir, err := os.MkdirTemp("", "procmem-harm-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "harm:", err)
		return 1
	}
	program = filepath.Join(dir, "procmem")
	programs = []string{program}
	if built != "" { // there is no compiler here
		program, programs = built, []string{built}
		return m.Run()
	}
	build := exec.Command("go", "build", "-o", program, "../cmd/procmem")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "harm: build procmem: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// result is what one run of procmem said.
type result struct {
	status         int // -1 where a signal ended it
	stdout, stderr string
}

func (r result) String() string {
	return fmt.Sprintf("status %d\nstdout: %s\nstderr: %s", r.status, r.stdout, r.stderr)
}

// run is a procmem that is running.
type run struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	done           chan struct{}
	err            error
}

// begin starts procmem. Where the caller has set cmd.Stdout that is kept. It
// is killed at the end of the test.
func begin(t testing.TB, cmd *exec.Cmd) *run {
	t.Helper()
	r := &run{cmd: cmd, done: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = &r.stdout
	}
	cmd.Stderr = &r.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		r.err = cmd.Wait()
		close(r.done)
	}()
	t.Cleanup(func() {
		r.signal(syscall.SIGKILL)
		<-r.done
	})
	return r
}

func (r *run) pid() int { return r.cmd.Process.Pid }

// signal fails where procmem has ended already.
func (r *run) signal(sig os.Signal) error { return r.cmd.Process.Signal(sig) }

func (r *run) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// wait waits for the end.
func (r *run) wait(t testing.TB) result {
	t.Helper()
	select {
	case <-r.done:
	case <-time.After(deadline):
		var helpers string
		for _, pid := range append(children(r.pid()), r.pid()) {
			helpers += fmt.Sprintf("%d: %s\n", pid, stacks(pid))
		}
		r.signal(syscall.SIGABRT) // on which its runtime says where it is
		select {
		case <-r.done:
		case <-time.After(time.Second):
		}
		t.Fatalf("%v does not end; its processes:\n%s%s", r.cmd.Args, helpers, r.stderr.String())
	}
	var exit *exec.ExitError
	if r.err != nil && !errors.As(r.err, &exit) {
		t.Fatalf("%v: %v", r.cmd.Args, r.err)
	}
	return result{r.cmd.ProcessState.ExitCode(), r.stdout.String(), r.stderr.String()}
}

// stacks tells where the threads of a process are in the kernel, and how they
// have come there.
func stacks(pid int) (out string) {
	for _, tid := range tids(pid) {
		text := func(name string) string {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/%s", pid, tid, name))
			return strings.TrimSpace(string(b))
		}
		out += fmt.Sprintf("\n  %d %s; %s; %s\n%s", tid, text("stat"), text("syscall"), text("schedstat"), text("stack"))
	}
	return out
}

// children returns the ids of the children of a process.
func children(pid int) (out []int) {
	for _, tid := range tids(pid) {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, tid))
		for f := range strings.FieldsSeq(string(b)) {
			var child int
			if _, err := fmt.Sscan(f, &child); err == nil {
				out = append(out, child)
			}
		}
	}
	return out
}

// command is procmem with its arguments, which may be of any type that prints.
func command(args ...any) *exec.Cmd {
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = fmt.Sprint(a)
	}
	return exec.Command(program, words...)
}

// call runs procmem to its end.
func call(t testing.TB, args ...any) result {
	t.Helper()
	return begin(t, command(args...)).wait(t)
}

// want checks the status, and that what a failure says on stderr matches the
// pattern.
// statusOf returns the status of a run that a signal has ended, after it had undone its work: that of
// the signal itself, but of SIGQUIT one as a shell has it.
func statusOf(sig syscall.Signal) int {
	if sig == syscall.SIGQUIT {
		return 128 + int(sig)
	}
	return -1
}

func (r result) want(t testing.TB, status int, pattern string) {
	t.Helper()
	if r.status != status || !regexp.MustCompile(pattern).MatchString(r.stderr) {
		t.Fatalf("got %v\nwant status %d and %q on stderr", r, status, pattern)
	}
}

// openCore opens a core and checks what every core has.
func openCore(t testing.TB, path string) *core.File {
	t.Helper()
	c, err := core.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if c.Report() == nil || len(c.Truncated()) > 0 || len(c.Image().Threads) == 0 {
		t.Fatalf("%s: report %v, truncated %v, %d threads", path, c.Report(), c.Truncated(), len(c.Image().Threads))
	}
	return c
}

// names lists what is in a folder.
func names(t testing.TB, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

// wantNames checks what is in a folder.
func wantNames(t testing.TB, dir string, want ...string) {
	t.Helper()
	if got := strings.Join(names(t, dir), " "); got != strings.Join(want, " ") {
		t.Fatalf("%s holds %q; want %q", dir, got, want)
	}
}

// held reports whether every thread of the process is stopped by a tracer.
func held(pid int) bool {
	for _, tid := range tids(pid) {
		if testproc.State(pid, tid) != 't' {
			return false
		}
	}
	return true
}

// stopped reports whether every thread of the process is stopped by a signal.
func stopped(pid int) bool {
	for _, tid := range tids(pid) {
		if testproc.State(pid, tid) != 'T' {
			return false
		}
	}
	return true
}

// untraced reports that no thread of the process has a tracer or is stopped by
// one.
func untraced(pid int) bool {
	for _, tid := range tids(pid) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", pid, tid))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended
		}
		if err != nil || !strings.Contains(string(status), "\nTracerPid:\t0\n") || testproc.State(pid, tid) == 't' {
			return false
		}
	}
	return true
}

func tids(pid int) []int {
	list, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	var out []int
	for _, e := range list {
		var tid int
		if _, err := fmt.Sscan(e.Name(), &tid); err == nil {
			out = append(out, tid)
		}
	}
	return out
}

// unharmed checks that a target runs: nobody traces it, none of its threads
// is stopped, and it answers.
func unharmed(t testing.TB, p *testproc.Proc) {
	t.Helper()
	// The kernel ends the tracing of a dead tracer by itself, and a thread
	// that goes on needs its turn on a processor.
	testproc.Until(t, "nobody to trace the target", func() bool { return untraced(p.PID()) })
	for _, tid := range tids(p.PID()) {
		if s := testproc.State(p.PID(), tid); s == 'T' {
			t.Fatalf("thread %d is stopped", tid)
		}
	}
	p.Cmd(t, "ping")
}

// switches returns how often each thread was scheduled. That of a blocked
// thread grows whenever it is stopped and let go, and only then.
func switches(t testing.TB, p *testproc.Proc) string {
	t.Helper()
	var out []string
	for _, tid := range p.TIDs() {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", p.PID(), tid))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if strings.Contains(line, "ctxt_switches") {
				out = append(out, fmt.Sprintf("%d %s", tid, strings.TrimSpace(line)))
			}
		}
	}
	return strings.Join(out, "\n")
}

// neverStopped runs f and checks that the target, all whose threads are
// blocked, was not stopped by it.
func neverStopped(t testing.TB, p *testproc.Proc, f func()) {
	t.Helper()
	p.WaitBlocked(t, len(p.TIDs()))
	before := switches(t, p)
	f()
	if after := switches(t, p); after != before {
		t.Fatalf("the target was stopped:\n%s\nbefore:\n%s", after, before)
	}
}

// pipe returns a pipe of the smallest size.
func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 4096)
	return r, w
}

// writing reports whether a thread of the process waits for a write to its
// stdout to end.
func writing(pid int) bool {
	for _, tid := range tids(pid) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/syscall", pid, tid))
		if err == nil && strings.HasPrefix(string(b), fmt.Sprintf("%d 0x1 ", unix.SYS_WRITE)) {
			return true
		}
	}
	return false
}

// beginStuck starts procmem with a stdout that nobody reads, and returns when
// it cannot go on writing: so tests have it there for as long as they want.
func beginStuck(t testing.TB, args ...any) *run {
	t.Helper()
	_, w := pipe(t)
	cmd := command(args...)
	cmd.Stdout = w
	b := begin(t, cmd)
	w.Close()
	testproc.Until(t, "procmem to fill the pipe", func() bool {
		if b.ended() {
			t.Fatalf("procmem ended: %v", b.wait(t))
		}
		return writing(b.pid())
	})
	return b
}

// beginHolding starts a core or a dump by method stop, and stops procmem in
// turn when it holds the target: so tests have it there for as long as they
// want. It goes on with SIGCONT.
func beginHolding(t testing.TB, pid int, verb string) *run {
	t.Helper()
	for range 1000 {
		b := begin(t, command(verb, "--method", "stop", "-o", filepath.Join(t.TempDir(), verb), pid))
		for !b.ended() && !held(pid) {
		}
		b.signal(syscall.SIGSTOP)
		testproc.Until(t, "SIGSTOP", func() bool { return b.ended() || stopped(b.pid()) })
		if !b.ended() && held(pid) {
			return b
		}
		b.signal(syscall.SIGKILL)
		if got := b.wait(t); got.status > 0 {
			t.Fatal(got)
		}
		// It was quicker.
	}
	t.Fatal("procmem is too quick to be stopped while it holds the target")
	return nil
}

// end sends a signal to a run that beginHolding has stopped, and waits.
func (r *run) end(t testing.TB, sig syscall.Signal) result {
	t.Helper()
	r.signal(sig)
	r.signal(syscall.SIGCONT)
	return r.wait(t)
}
