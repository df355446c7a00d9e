package snapshot

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/procmem/procmem/internal/inject"
	"github.com/procmem/procmem/internal/testproc"
	"github.com/procmem/procmem/process"
)

// inNamespace starts kids and has it ask for another namespace for its
// children.
func inNamespace(t *testing.T, what string, args ...string) *testproc.Proc {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("takes root, to make a namespace")
	}
	p := testproc.Start(t, testproc.Kids, append([]string{"--ballast", "64M"}, args...)...)
	p.Cmd(t, "unshare %s", what)
	return p
}

// The first child in a pid namespace is its init, and its end lets no other follow. A copy of
// the process would be that child, so no thread may make it.
func TestForkPreparedNamespace(t *testing.T) {
	for _, what := range []string{"pid", "time"} {
		t.Run(what, func(t *testing.T) {
			p := inNamespace(t, what)
			for _, m := range []Method{MethodFork, MethodPrecopy} {
				_, err := Take(t.Context(), open(t, p), Options{Method: m, Prepare: into(testproc.NewPages())})
				if err == nil || !strings.Contains(err.Error(), process.ErrPreparedNamespace.Error()) {
					t.Errorf("%s: %v; want %v", m, err, process.ErrPreparedNamespace)
				}
			}
			all, err := Estimates(open(t, p), Options{})
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range all {
				if e.Method != MethodStop && !errors.Is(e.Err, process.ErrPreparedNamespace) {
					t.Errorf("estimate of fork: %v", e.Err)
				}
			}
			s := takeBy(t, p, MethodAuto, Options{})
			checkBallast(t, p, s)
			s.Close()
			for range 3 {
				p.Cmd(t, "fork")
			}
			p.Cmd(t, "ping")
		})
	}
}

// The same, found out when the process is held.
func TestForkPreparedMeanwhile(t *testing.T) {
	p := inNamespace(t, "pid")
	for _, task := range []string{inject.TaskFork, inject.TaskTrack} {
		k, err := inject.Start(open(t, p), inject.Job{Task: task})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Listen(t.Context()); err == nil {
			t.Errorf("%s: a child was made", task)
		}
		k.Close()
	}
	for range 3 {
		p.Cmd(t, "fork")
	}
}

// What counts is the thread in which the copy is made.
func TestForkPreparedThread(t *testing.T) {
	elsewhere := testproc.StartCmd(t, exec.Command("unshare", "--pid", "--fork", "--kill-child", testproc.Build(t, testproc.Kids)))
	p := testproc.Start(t, testproc.Kids, "--ballast", "1M")
	p.Cmd(t, "threads 2")
	inner := childOf(t, elsewhere.PID())
	p.Cmd(t, "unshare pid /proc/%d/ns/pid", inner)
	before := testproc.TracesOf(t, p.PID())
	s := takeBy(t, p, MethodFork, Options{})
	checkBallast(t, p, s)
	ns := func(pid int) string {
		link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
		if err != nil {
			t.Fatal(err)
		}
		return link
	}
	if got, want := ns(childOf(t, p.PID())), ns(p.PID()); got != want {
		t.Errorf("the copy is in %s; want %s", got, want)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	testproc.UntouchedSince(t, p.PID(), before)
	p.Cmd(t, "ping")
}
