package harm

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/procmem/procmem/internal/testproc"
)

// twins are two processes with the same number, in two pid namespaces.
type twins struct {
	outer, inner *testproc.Proc
	number       int
	init         int // of the inner namespace, as the outer one knows it
	innerPID     int // likewise
}

// startTwins starts two processes with the same number.
func startTwins(t *testing.T) *twins {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("takes root, to make a pid namespace")
	}
	w := &twins{outer: testproc.Start(t, testproc.Kids, "--ballast", "1M")}
	w.number = w.outer.PID()
	// The number of the next process is one more than what is written there.
	const script = `exec 3<&0; echo $(($1-1)) > /proc/sys/kernel/ns_last_pid || exit; "$0" --ballast 2M <&3 & wait`
	w.inner = testproc.StartCmd(t, exec.Command("unshare", "--pid", "--fork", "--kill-child", "--mount-proc",
		"sh", "-c", script, testproc.Build(t, testproc.Kids), strconv.Itoa(w.number)))
	if got := w.inner.Int(t, "pid"); int(got) != w.number {
		t.Fatalf("the twin has the number %d; want %d", got, w.number)
	}
	w.init = onlyChild(t, w.inner.PID())
	w.innerPID = onlyChild(t, w.init)
	return w
}

// onlyChild returns the one child of a process.
func onlyChild(t testing.TB, pid int) (child int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(b), &child); err != nil || len(strings.Fields(string(b))) != 1 {
		t.Fatalf("children %q of %d: want one", b, pid)
	}
	return child
}

// switchesOf counts how often a process, which is blocked, was woken.
func switchesOf(t testing.TB, pid int) (out string) {
	t.Helper()
	testproc.Until(t, "a blocked process", func() bool { return testproc.State(pid, pid) == 'S' })
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, "ctxt_switches") {
			out += line
		}
	}
	return out
}

// undisturbed runs f and checks that neither process was stopped by it.
func (w *twins) undisturbed(t *testing.T, f func()) {
	t.Helper()
	outer, inner := switchesOf(t, w.number), switchesOf(t, w.innerPID)
	f()
	if got := switchesOf(t, w.number); got != outer {
		t.Errorf("the outer process was stopped:\n%s\nbefore:\n%s", got, outer)
	}
	if got := switchesOf(t, w.innerPID); got != inner {
		t.Errorf("the inner process was stopped:\n%s\nbefore:\n%s", got, inner)
	}
	w.outer.Cmd(t, "ping")
	w.inner.Cmd(t, "ping")
}

// A number of /proc means another process to system calls: nothing is given to
// them, and what can be done by /proc alone is done.
func TestForeignProc(t *testing.T) {
	w := startTwins(t)
	init := strconv.Itoa(w.init)
	bound := t.TempDir()
	for _, way := range []struct {
		name    string
		wrapper []string
		target  *testproc.Proc // whose memory /proc shows
		self    bool           // it shows procmem as well
	}{
		{"a new namespace without a /proc of its own", []string{"nsenter", "--target", init, "--pid"}, w.outer, true},
		{"the /proc of the machine in a container", []string{"nsenter", "--target", init, "--pid", "unshare", "--mount", "sh", "-c",
			`mount --bind /proc "$1" && mount -t proc proc /proc && mount --bind "$1" /proc && shift && exec "$@"`, "sh", bound}, w.outer, true},
		{"the /proc of a container on the machine", []string{"nsenter", "--target", init, "--mount"}, w.inner, false},
	} {
		t.Run(way.name, func(t *testing.T) {
			run := func(args ...any) result {
				t.Helper()
				cmd := command(args...)
				argv := append(way.wrapper, cmd.Args...)
				argv[len(way.wrapper)] = program
				return begin(t, exec.Command(argv[0], argv[1:]...)).wait(t)
			}
			w.refused(t, run)
			w.read(t, run, way.target)
			if got := run("maps", "self"); way.self && (got.status != 0 || !strings.Contains(got.stdout, program)) {
				t.Errorf("self is not procmem: %v", got)
			} else if !way.self && got.status != 1 {
				t.Errorf("self is not shown: %v", got)
			}
		})
	}
}

// refused checks that nothing is done that takes more than /proc.
func (w *twins) refused(t *testing.T, run func(...any) result) {
	t.Helper()
	dir := t.TempDir()
	const why = `^procmem: .*another pid namespace.*remedy: .* (core|dump|threads) --method live [^,]*, or mount a /proc`
	for _, method := range allMethods {
		for _, verb := range []string{"core", "dump"} {
			w.undisturbed(t, func() { run(verb, "--method", method, "-o", filepath.Join(dir, verb), w.number).want(t, 1, why) })
			wantNames(t, dir)
		}
		w.undisturbed(t, func() { run("core", "--max-pause", "1s", "--method", method, "-o", "-", w.number).want(t, 1, why) })
	}
	w.undisturbed(t, func() { run("threads", w.number).want(t, 1, why) })
	w.undisturbed(t, func() { run("diff", w.number, "--after", "1ms").want(t, 2, why) })
	w.undisturbed(t, func() {
		got := run("doctor", w.number)
		if got.status != 1 || !strings.Contains(got.stdout, "another pid namespace") || !strings.Contains(got.stdout, "can be read, but not held still") {
			t.Errorf("doctor: %v", got)
		}
	})
}

// read checks that what is read is what /proc shows.
func (w *twins) read(t *testing.T, run func(...any) result, p *testproc.Proc) {
	t.Helper()
	dir := t.TempDir()
	ballast := p.Map(t, "ballast")
	w.undisturbed(t, func() { run("core", "--method", "live", "-o", filepath.Join(dir, "core"), w.number).want(t, 0, "^$") })
	c := openCore(t, filepath.Join(dir, fmt.Sprintf("core.%d", w.number)))
	for i := range ballast.Pages() {
		got := make([]byte, 4096)
		if _, err := c.ReadAt(got, ballast.Page(i)); err != nil || !bytes.Equal(got, p.Want(t, ballast, i)) {
			t.Fatalf("page %d is not that of the process that /proc shows: %v", i, err)
		}
	}
	w.undisturbed(t, func() { run("dump", "--method", "live", "-o", filepath.Join(dir, "dump"), w.number).want(t, 0, "^$") })
	w.undisturbed(t, func() { run("threads", "--method", "live", w.number).want(t, 0, "^$") })
	w.undisturbed(t, func() {
		got := run("read", w.number, fmt.Sprintf("%v+8", ballast.Page(1)))
		if got.status != 0 || !bytes.Equal([]byte(got.stdout), p.Want(t, ballast, 1)[:8]) {
			t.Errorf("read: %q; want %q", got.stdout, p.Want(t, ballast, 1)[:8])
		}
	})
	w.undisturbed(t, func() {
		got := run("search", w.number, "--hex", fmt.Sprintf("%x", p.Want(t, ballast, 1)[:8]))
		if got.status != 0 || !strings.Contains(got.stdout, fmt.Sprintf("%x", uint64(ballast.Page(1)))) {
			t.Errorf("search: %v", got)
		}
	})
	w.undisturbed(t, func() { run("maps", w.number).want(t, 0, "^$") })
}
