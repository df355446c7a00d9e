package harm

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/testproc"
)

// cgroup makes a control group that is gone with the test, of version 1 or 2,
// and moves a process into it.
func cgroup(t *testing.T, controller string, pid int) (dir string) {
	t.Helper()
	dir = newGroup(t, controller, func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	if err := os.WriteFile(dir+"/cgroup.procs", fmt.Append(nil, pid), 0); err != nil {
		t.Skip(err)
	}
	return dir
}

// inMemoryGroup starts a process in a control group of its own, to which all
// of its memory is charged.
func inMemoryGroup(t *testing.T, start func() *testproc.Proc) (p *testproc.Proc, dir string) {
	t.Helper()
	home, err := homeGroup("memory")
	if err != nil {
		t.Skip(err)
	}
	dir = newGroup(t, "memory", func() {})
	move := func(to string) {
		if err := os.WriteFile(to+"/cgroup.procs", fmt.Append(nil, os.Getpid()), 0); err != nil {
			t.Skip(err)
		}
	}
	move(dir)
	defer move(home)
	return start(), dir
}

// homeGroup is the folder of the control group of this process.
func homeGroup(controller string) (string, error) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(f) == 3 && f[1] == controller:
			return filepath.Join("/sys/fs/cgroup", controller, f[2]), nil
		case len(f) == 3 && f[1] == "" && !isDir("/sys/fs/cgroup/"+controller):
			return filepath.Join("/sys/fs/cgroup", f[2]), nil
		}
	}
	return "", fmt.Errorf("no control group for %s here", controller)
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// newGroup makes a control group. empty is called when it should be removed
// and still has processes.
func newGroup(t *testing.T, controller string, empty func()) (dir string) {
	t.Helper()
	root := "/sys/fs/cgroup"
	if b, err := os.ReadFile(root + "/cgroup.controllers"); err != nil {
		root = filepath.Join(root, controller)
	} else if !strings.Contains(" "+string(b), " "+controller) {
		t.Skipf("no control group for %s here", controller)
	} else if err := os.WriteFile(root+"/cgroup.subtree_control", []byte("+"+controller), 0); err != nil {
		t.Skip(err)
	}
	dir = filepath.Join(root, fmt.Sprintf("procmem-test-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("no control group can be made here: %v", err)
	}
	t.Cleanup(func() {
		// It is empty once the processes in it are reaped.
		if b, _ := os.ReadFile(dir + "/cgroup.procs"); len(b) > 0 {
			empty()
		}
		testproc.Until(t, "the control group to be removed", func() bool {
			err := os.Remove(dir)
			return err == nil || errors.Is(err, os.ErrNotExist)
		})
	})
	return dir
}

// limit writes a number to the first of these files that there is, in the
// order of the versions.
func limit(t *testing.T, dir string, n int64, names ...string) {
	t.Helper()
	for _, name := range names {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if err := os.WriteFile(path, fmt.Append(nil, n), 0); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Skipf("%s has none of %q", dir, names)
}

func number(t *testing.T, dir string, names ...string) (n int64) {
	t.Helper()
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		if _, err := fmt.Sscan(string(b), &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	t.Skipf("%s has none of %q", dir, names)
	return 0
}

// noForkHere checks what each method does with a target that can have no child:
// those that need one say why, the others find a way.
func noForkHere(t *testing.T, p *testproc.Proc, why string) {
	before := look(t, p.PID())
	forEachMethod(t, injecting, func(t *testing.T, method string) {
		dir := t.TempDir()
		if method == "fork" || method == "precopy" {
			call(t, "core", "--method", method, "-o", dir+"/core", p.PID()).want(t, 1, "^procmem: .*"+why)
			wantNames(t, dir)
		} else {
			c := take(t, p.PID(), method)
			c.want(t, 0, "")
			if c.report.Method != "stop" || !c.report.Consistent {
				t.Errorf("a process that cannot fork: %+v", c.report)
			}
		}
		undone(t, p.PID(), before)
		unharmed(t, p)
	})
}

// The control group of the target has no room for another process.
func TestPidsLimit(t *testing.T) {
	p := testproc.Start(t, testproc.Kids, "--ballast", ballast)
	p.Cmd(t, "threads 3")
	dir := cgroup(t, "pids", p.PID())
	limit(t, dir, number(t, dir, "pids.current"), "pids.max")
	if _, err := p.TryCmd(t, "fork"); err == nil {
		t.Fatal("the target can fork")
	}
	noForkHere(t, p, "(?i)temporarily unavailable|pids|processes|RLIMIT_NPROC")
}

// The user of the target may have no more processes.
func TestProcessesLimit(t *testing.T) {
	u := unprivileged(t)
	p := u.start(t, testproc.Kids, "--ballast", ballast)
	p.Cmd(t, "threads 3")
	p.Cmd(t, "processes 1")
	if _, err := p.TryCmd(t, "fork"); err == nil {
		t.Fatal("the target can fork")
	}
	noForkHere(t, p, "(?i)temporarily unavailable|pids|processes|RLIMIT_NPROC")
}

// The control group of the target has hardly any memory left. What is copied
// because of a fork may be too much; then it is not the target that dies.
func TestMemoryLimit(t *testing.T) {
	const size, room = 64 << 20, 4 << 20
	forEachMethod(t, allMethods, func(t *testing.T, method string) {
		p, group := inMemoryGroup(t, func() *testproc.Proc {
			return testproc.Start(t, testproc.Many, "fill", fmt.Sprint(size), "--writer", "-1")
		})
		w := writer{p, p.Fill(t)}
		limit(t, group, number(t, group, "memory.usage_in_bytes", "memory.current")+room, "memory.limit_in_bytes", "memory.max")
		before := look(t, p.PID())
		dir := t.TempDir()
		path := filepath.Join(dir, fmt.Sprintf("core.%d", p.PID()))
		r := begin(t, command("core", "--json", "--method", method, "-o", filepath.Join(dir, "core"), p.PID()))
		// In the middle of its copying all of the memory is written.
		for !r.ended() && written(path+".partial") < size/8 {
		}
		r.signal(syscall.SIGSTOP)
		testproc.Until(t, "SIGSTOP", func() bool { return r.ended() || stopped(r.pid()) })
		inTime := !r.ended() && !held(p.PID())
		if inTime {
			p.Cmd(t, "writer 0")
			testproc.Until(t, "all memory to be written", func() bool { return w.CmdInts(t, "writes")[0] > size/4096 })
		}
		r.signal(syscall.SIGCONT)
		got := r.wait(t)
		undone(t, p.PID(), before)
		w.sum(t)
		left := names(t, dir)
		switch used := methodOf(got, method); {
		case used == "fork" && got.status == 1 && strings.Contains(got.stderr, "MiB left, and a fork may take"):
			wantNames(t, dir)
		case got.status == 0, inTime && used == "fork" && got.status == 3 && strings.Contains(got.stderr, "missing"):
			openCore(t, path)
		case inTime && used == "fork" && got.status == 1 && strings.HasPrefix(got.stderr, "procmem: ") && len(left) == 0:
		default:
			t.Errorf("left %q after %v", left, got)
		}
		t.Logf("written meanwhile: %v; status %d %s", inTime, got.status, got.stderr)
	})
}

// limitedWriter starts a process that has filled size bytes, in a control group
// with a limit, and does not write yet.
func limitedWriter(t *testing.T, size, bytes int64) (w writer, group string) {
	t.Helper()
	p, group := inMemoryGroup(t, func() *testproc.Proc {
		return testproc.Start(t, testproc.Many, "fill", fmt.Sprint(size), "--writer", "-1")
	})
	limit(t, group, bytes, "memory.limit_in_bytes", "memory.max")
	return writer{p, p.Fill(t)}, group
}

// There is no room for copies of all that the target may write during a fork:
// its copy would be ended, and at times the target with it. So it is not made.
func TestNoRoomForCopies(t *testing.T) {
	w, _ := limitedWriter(t, 36<<20, 48<<20)
	w.Cmd(t, "writer 0")
	pid := w.PID()
	before := look(t, pid)
	const why = `memory control group .* has \d+ MiB left, and a fork may take \d+ MiB`
	dir := t.TempDir()
	call(t, "core", "--method", "fork", "-o", dir+"/core", pid).want(t, 1, "^procmem: .*"+why)
	wantNames(t, dir)
	c := take(t, pid, "auto")
	c.want(t, 0, "^$")
	if c.report.Method == "fork" || !c.report.Consistent || !regexp.MustCompile("fork not possible .*"+why).MatchString(c.report.Why) {
		t.Errorf("auto: %+v", c.report)
	}
	// Lines of prose are broken.
	if got := call(t, "doctor", pid); !regexp.MustCompile("method fork +not possible: .*" + why).MatchString(strings.Join(strings.Fields(got.stdout), " ")) {
		t.Errorf("doctor: %v", got)
	}
	undone(t, pid, before)
	unharmed(t, w.Proc)
}

// Where there is room for copies, they fit, all of them, also where that room is
// taken by pages of files.
func TestRoomForCopies(t *testing.T) {
	const size, bytes = 128 << 20, 320 << 20
	for _, cached := range []bool{false, true} {
		t.Run(fmt.Sprint("cached ", cached), func(t *testing.T) {
			w, group := limitedWriter(t, size, bytes)
			pid := w.PID()
			if cached {
				fillCache(t, group, bytes)
			}
			before := look(t, pid)
			for tries := 0; !w.writeAllDuringFork(t, before); tries++ {
				if tries == 100 {
					t.Fatal("procmem is too quick to be stopped while there is a copy")
				}
			}
			undone(t, pid, before)
			unharmed(t, w.Proc)
		})
	}
}

// writeAllDuringFork takes a core by fork, and has all memory written while
// there is the copy. It returns false where it was too late for that.
func (w writer) writeAllDuringFork(t *testing.T, before traces) bool {
	t.Helper()
	dir, pid := t.TempDir(), w.PID()
	w.Cmd(t, "writer -1")
	r := begin(t, command("core", "--json", "--method", "fork", "-o", filepath.Join(dir, "core"), pid))
	children := func() string {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		return string(b)
	}
	none := children()
	for !r.ended() && children() == none {
	}
	testproc.Until(t, "the process to go on", func() bool { return r.ended() || !held(pid) })
	r.signal(syscall.SIGSTOP)
	testproc.Until(t, "SIGSTOP", func() bool { return r.ended() || stopped(r.pid()) })
	inTime := look(t, pid).children != before.children
	writes := w.CmdInts(t, "writes")[0]
	w.Cmd(t, "writer 0")
	testproc.Until(t, "all memory to be written", func() bool { return w.CmdInts(t, "writes")[0] > writes+int64(w.fill.Size())/4096 })
	inTime = inTime && !r.ended()
	r.signal(syscall.SIGCONT)
	r.wait(t).want(t, 0, "^$")
	openCore(t, filepath.Join(dir, fmt.Sprintf("core.%d", pid)))
	return inTime
}

// fillCache has the pages of a file charged to a control group until it is full.
func fillCache(t *testing.T, group string, size int64) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(make([]byte, size))
	err = join(err, f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
	if err != nil {
		t.Fatal(err)
	}
	// Twice, which makes the pages active.
	cmd := exec.Command("sh", "-c", `echo $$ > "$0/cgroup.procs" && cat "$1" "$1" > /dev/null`, group, name)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if used := number(t, group, "memory.usage_in_bytes", "memory.current"); used < size*3/4 {
		t.Fatalf("%d bytes are used of %d", used, size)
	}
}

// methodOf is the method that a run has used, or the one it was told to use.
func methodOf(r result, asked string) string {
	var said report
	if json.Unmarshal([]byte(r.stdout), &said) != nil || said.Method == "" {
		return asked
	}
	return said.Method
}
