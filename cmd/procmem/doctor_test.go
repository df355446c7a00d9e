package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/testproc"
)

// doctorSays runs doctor, and compares its promise with what core does.
func doctorSays(t *testing.T, pid int, want string, wrapper ...string) string {
	t.Helper()
	run := func(args ...string) (string, int) {
		cmd := exec.Command("procmem", args...)
		if len(wrapper) > 0 {
			cmd = exec.Command(wrapper[0], append(wrapper[1:], cmd.Args...)...)
		}
		out, err := cmd.Output()
		if _, ok := err.(*exec.ExitError); err != nil && !ok {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	number := strconv.Itoa(pid)
	out, _ := run("doctor", number)
	if !regexp.MustCompile("(?m)" + want).MatchString(out) {
		t.Errorf("doctor says %s\nwant %s", out, want)
	}
	_, status := run("core", "-o", filepath.Join(t.TempDir(), "core"), number)
	if will := strings.Contains(out, "will work"); will != (status == exitDone) {
		t.Errorf("core exits with %d, and doctor has said\n%s", status, out)
	}
	return out
}

// What limits a core has a row, and nothing above it promises more.
func TestDoctorConditions(t *testing.T) {
	if unix.Getuid() != 0 {
		t.Skip("takes root")
	}
	t.Run("vfork", func(t *testing.T) {
		p := testproc.Start(t, testproc.Kids)
		p.CmdInts(t, "vfork")
		p.WaitState(t, 'D')
		out := doctorSays(t, p.PID(), `^-- state D +1 thread cannot be stopped .*: \d+ \(in vfork\)$`)
		if !strings.Contains(out, "a core of it will lack registers\n") {
			t.Errorf("doctor says %s", out)
		}
	})
	t.Run("proc", func(t *testing.T) {
		in := []string{"unshare", "-p", "-f"}
		if out, err := exec.Command(in[0], append(in[1:], "true")...).CombinedOutput(); err != nil {
			t.Skipf("%v: %s", err, out)
		}
		p := testproc.Start(t, testproc.Kids)
		doctorSays(t, p.PID(), `^no pid namespace +/proc shows the processes of another pid namespace`, in...)
	})
	t.Run("supervisor", func(t *testing.T) {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		s := &testproc.Supervisor{Judge: func(testproc.Call) testproc.Verdict { return testproc.Verdict{} }}
		cmd := exec.Command("sleep", "1000")
		s.Supervise(t, cmd, unix.SYS_PERSONALITY)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		s.Attach(t, cmd.Process.Pid)
		testproc.Until(t, "sleep to run", func() bool {
			exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", cmd.Process.Pid))
			return err == nil && exe != self
		})
		doctorSays(t, cmd.Process.Pid, `^-- target seccomp +a filter on the target: .*; .* \(pid `+strconv.Itoa(os.Getpid())+`\)`)
		cmd.Process.Kill()
		cmd.Wait()
		s.Wait(t)
	})
	for version, group := range testproc.Freezers(t) {
		t.Run(version, func(t *testing.T) {
			p := testproc.Start(t, testproc.Kids)
			group.Add(t, p.PID())
			group.Freeze(t)
			group.WaitFrozen(t)
			defer group.Thaw(t)
			doctorSays(t, p.PID(), `^-- frozen +by its control group`)
		})
	}
}
