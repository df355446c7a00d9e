package harm

import (
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/testproc"
)

// Another process may have the memory of the target (clone(2) with CLONE_VM and
// without CLONE_THREAD), and writes to it: it is held, too.
func TestSharers(t *testing.T) {
	forEachMethod(t, allMethods, func(t *testing.T, method string) {
		p := testproc.Start(t, testproc.Witness, "--process", "--pages", "4096", "--ballast", "33M")
		for range *dumps {
			sweepOn(t, p)
			c := take(t, p.PID(), method)
			c.want(t, 0, "^$")
			if steps := c.steps(t, p.Addr(t, "base"), int(p.Int(t, "pages"))); steps > 1 || !c.report.Consistent {
				t.Fatalf("%d steps; %+v", steps, c.report)
			}
			if n := len(c.Image().Threads); n != 1 {
				t.Errorf("%d threads, of which one is the process's", n)
			}
			c.done(t)
		}
		untracedBy(t, int(p.Int(t, "process")))
		sweepOn(t, p)
		unharmed(t, p)
	})
}

// sweepOn waits until the witness has written all of its pages again.
func sweepOn(t *testing.T, p *testproc.Proc) {
	t.Helper()
	sweeps := p.CmdInts(t, "sweeps")[0]
	testproc.Until(t, "the witness to go on", func() bool { return p.CmdInts(t, "sweeps")[0] > sweeps+1 })
}

// untracedBy waits until nobody traces a process: what a process held that has
// ended, the kernel lets go.
func untracedBy(t *testing.T, pid int) {
	t.Helper()
	testproc.Until(t, "the other process to be let go", func() bool { return untraced(pid) })
}

// A process that shares the memory and cannot be held makes a core that is not one
// moment, which says so.
func TestSharerTracedByAnother(t *testing.T) {
	forEachMethod(t, allMethods, func(t *testing.T, method string) {
		p := testproc.Start(t, testproc.Witness, "--process", "--pages", "4096", "--ballast", "33M")
		runtime.LockOSThread() // which traces it, until it ends with the test
		if err := unix.PtraceSeize(int(p.Int(t, "process"))); err != nil {
			t.Fatal(err)
		}
		c := take(t, p.PID(), method)
		c.want(t, 0, "^$")
		if c.report.Consistent || !strings.Contains(c.report.Reason, "shares its memory") || !strings.Contains(c.report.Reason, "traces it") {
			t.Errorf("%+v", c.report)
		}
		unharmed(t, p)
	})
}

// The child of a vfork has the memory of its parent until it executes a program.
func TestVforkChild(t *testing.T) {
	forEachMethod(t, allMethods, func(t *testing.T, method string) {
		p := testproc.Start(t, testproc.Kids, "--ballast", "33M")
		p.Cmd(t, "threads 3")
		p.Cmd(t, "vfork")
		c := take(t, p.PID(), method)
		if !c.report.Consistent {
			t.Errorf("%+v", c.report)
		}
		p.Cmd(t, "ping") // the child goes on, and lets its parent go
		unharmed(t, p)
	})
}
