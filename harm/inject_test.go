package harm

import (
	"fmt"
	"os/exec"
	"regexp"
	"syscall"
	"testing"

	"github.com/procmem/procmem/internal/testproc"
)

// ballast makes a target too large for auto to hold it while it is copied.
const ballast = "64M"

// explained checks that a method was used, or that it says why not: it fails
// with a message, or falls back to another and tells so. Auto does not fail.
func explained(t *testing.T, p *testproc.Proc, method string) {
	t.Helper()
	before := look(t, p.PID())
	dir := t.TempDir()
	r := call(t, "core", "--json", "--method", method, "-o", dir+"/core", p.PID())
	undone(t, p.PID(), before)
	switch {
	case r.status == 1 && method != "auto" && method != "stop":
		wantNames(t, dir)
		r.want(t, 1, `^procmem: .{20,}\n$`)
	case r.status == 0 || r.status == 3:
		c := taken{result: r}
		c.parse(t)
		openCore(t, fmt.Sprintf("%s/core.%d", dir, p.PID()))
		used := c.report.Method
		if !c.report.Consistent || method != "auto" && used != method && c.report.Why == "" && !regexp.MustCompile(used).MatchString(r.stderr) {
			t.Errorf("method %s: nothing explains %+v, %s", method, c.report, r.stderr)
		}
		t.Logf("%s: method %s, why %q", method, used, c.report.Why)
	default:
		t.Errorf("method %s: %v", method, r)
	}
	t.Logf("%s: status %d %s", method, r.status, r.stderr)
}

// A filter kills who makes a userfaultfd or forks; nobody does so in the
// target's name.
func TestSeccomp(t *testing.T) {
	for _, filter := range []string{"kill", "errno", "strict"} {
		t.Run(filter, func(t *testing.T) {
			forEachMethod(t, allMethods, func(t *testing.T, method string) {
				p := testproc.Start(t, testproc.Kids, "--ballast", ballast)
				p.Cmd(t, "threads 3")
				p.Cmd(t, "seccomp %s", filter)
				explained(t, p, method)
				unharmed(t, p)
			})
		})
	}
}

// No thread is in a system call, where one could be run in its place.
func TestNobodyIsBlocked(t *testing.T) {
	forEachMethod(t, allMethods, func(t *testing.T, method string) {
		p := testproc.Start(t, testproc.Kids, "--ballast", ballast)
		p.Cmd(t, "compute")
		explained(t, p, method)
		syscall.Kill(p.PID(), syscall.SIGUSR1)
		if got := p.Recv(t); got != "done" {
			t.Errorf("the target says %q", got)
		}
		unharmed(t, p)
	})
}

// The target may not have another file.
func TestFilesLimit(t *testing.T) {
	forEachMethod(t, allMethods, func(t *testing.T, method string) {
		p := testproc.Start(t, testproc.Kids, "--ballast", ballast)
		p.Cmd(t, "threads 2")
		p.Cmd(t, "files 0")
		explained(t, p, method)
		unharmed(t, p)
	})
}

// A target with another kind of system calls, and one that notices if any of
// them goes wrong.
func TestOtherTargets(t *testing.T) {
	for _, tc := range []testproc.Toolchain{testproc.M32, testproc.StaticPIE, testproc.Musl, testproc.NoPIE} {
		t.Run(string(tc), func(t *testing.T) {
			forEachMethod(t, allMethods, func(t *testing.T, method string) {
				p := testproc.Start(t, testproc.Torture.With(tc))
				explained(t, p, method)
				notices(t, p)
				unharmed(t, p)
			})
		})
	}
}

// notices fails the test if torture has noticed anything.
func notices(t *testing.T, p *testproc.Proc) {
	t.Helper()
	if wrong, counts := p.Check(t); wrong != "" {
		t.Errorf("the target says %s; all its counts: %v", wrong, counts)
	}
}

// A target of another user, which has no rights, or procmem has none.
func TestTargetWithoutRights(t *testing.T) {
	u := unprivileged(t)
	forEachMethod(t, allMethods, func(t *testing.T, method string) {
		p := testproc.Start(t, testproc.Kids, "--ballast", ballast)
		p.Cmd(t, "threads 3")
		p.Cmd(t, "setuid %d", nobody)
		before := look(t, p.PID())
		c := take(t, p.PID(), method)
		c.want(t, 0, "^$")
		if method != "auto" && c.report.Method != method {
			t.Errorf("method %s: %s", c.report.Method, c.report.Why)
		}
		undone(t, p.PID(), before)
		unharmed(t, p)

		p = u.start(t, testproc.Torture)
		before = look(t, p.PID())
		c = takenBy(t, p.PID(), u.dir(t), func(args ...any) result { return u.call(t, args...) }, "--method", method)
		if method != "auto" && c.report.Method != method {
			t.Errorf("method %s: %s", c.report.Method, c.report.Why)
		}
		undone(t, p.PID(), before)
		notices(t, p)
		c.checkMap(t, p, p.Map(t, "ballast"))
	})
}

// A target that is the first process of its pid namespace, as in a container.
func TestTargetInNamespace(t *testing.T) {
	unprivileged(t) // namespaces take root
	forEachMethod(t, allMethods, func(t *testing.T, method string) {
		cmd := exec.Command(testproc.Build(t, testproc.Torture))
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
		p := testproc.StartCmd(t, cmd)
		if pid := p.Int(t, "pid"); pid != 1 {
			t.Fatalf("the target has pid %d in its namespace", pid)
		}
		before := look(t, p.PID())
		c := take(t, p.PID(), method)
		c.want(t, 0, "^$")
		if method != "auto" && c.report.Method != method {
			t.Errorf("method %s: %s", c.report.Method, c.report.Why)
		}
		undone(t, p.PID(), before)
		notices(t, p)
		c.checkMap(t, p, p.Map(t, "ballast"))
	})
}
