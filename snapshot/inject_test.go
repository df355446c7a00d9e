package snapshot

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/inject"
	"github.com/procmem/procmem/internal/testproc"
)

// Where no thread is blocked, one that computes does.
func TestCallInRunningThread(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	p.Cmd(t, "compute")
	testproc.Until(t, "the thread to compute", func() bool { return p.State() == 'R' })
	before := testproc.TracesOf(t, p.PID())
	proc := open(t, p)
	for _, m := range []Method{MethodFork, MethodPrecopy} {
		s, err := Take(t.Context(), proc, Options{Method: m, Prepare: into(testproc.NewPages())})
		if err != nil {
			t.Fatalf("%s: %v", m, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		testproc.UntouchedSince(t, p.PID(), before)
	}
	syscall.Kill(p.PID(), syscall.SIGUSR1)
	if got := p.Recv(t); got != "done" {
		t.Errorf("it says %q", got)
	}
}

// Calls that a filter of the target would kill it for are made, where that may
// be lifted.
func TestCallUnderSeccomp(t *testing.T) {
	for _, how := range []string{"kill", "errno", "strict"} {
		p := testproc.Start(t, testproc.Kids)
		p.Cmd(t, "seccomp %s", how)
		proc := open(t, p)
		before := testproc.TracesOf(t, p.PID())
		for _, m := range []Method{MethodFork, MethodPrecopy} {
			s, err := Take(t.Context(), proc, Options{Method: m, Prepare: into(testproc.NewPages())})
			if err != nil {
				if !capable(unix.CAP_SYS_ADMIN) && strings.Contains(err.Error(), inject.ErrSeccomp.Error()) {
					continue
				}
				t.Fatalf("%s, %s: %v", how, m, err)
			}
			if err := s.Close(); err != nil {
				t.Errorf("%s, %s: %v", how, m, err)
			}
		}
		testproc.UntouchedSince(t, p.PID(), before)
		p.Cmd(t, "ping")
	}
}

// helpers returns the helper processes of a target.
func helpers(pid int) (out []int) {
	list, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range list {
		b, _ := os.ReadFile(path)
		if string(b) == "core-helper"+"\x00"+strconv.Itoa(pid)+"\x00" {
			k, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			out = append(out, k)
		}
	}
	return out
}
