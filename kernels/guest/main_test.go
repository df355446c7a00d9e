package guest

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"

	"github.com/procmem/procmem/internal/testproc"
)

var inGuest = flag.Bool("in-guest", false, "this is a virtual machine of package kernels")

func TestMain(m *testing.M) {
	flag.Parse()
	if !*inGuest {
		fmt.Println("these tests run in virtual machines: make kernels")
		return
	}
	os.Exit(m.Run())
}

// program is procmem.
var program = os.Getenv("PROCMEM_TEST_PROGRAM")

// user runs a program with its rights.
type user struct {
	name string
	id   uint32
}

var (
	root   = user{"root", 0}
	nobody = user{"nobody", 65534}
)

func (u user) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	if u.id != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: u.id, Gid: u.id}}
	}
	return cmd
}

// start starts a helper program.
func (u user) start(t *testing.T, v testproc.Variant, args ...string) *testproc.Proc {
	t.Helper()
	return testproc.StartCmd(t, u.command(testproc.Build(t, v), args...))
}

// result is what one run of procmem said.
type result struct {
	args           []string
	status         int
	stdout, stderr string
}

func (r result) String() string {
	return fmt.Sprintf("procmem %q: status %d\nstdout: %.2000s\nstderr: %s", r.args, r.status, r.stdout, r.stderr)
}

// call runs procmem to its end. Arguments may be of any type that prints.
func (u user) call(t *testing.T, args ...any) result {
	t.Helper()
	r := result{}
	for _, a := range args {
		r.args = append(r.args, fmt.Sprint(a))
	}
	cmd := u.command(program, r.args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	r.status, r.stdout, r.stderr = cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
	return r
}

// want checks the status, and what is printed: on stdout where that is 0, else on either.
func (r result) want(t *testing.T, status int, pattern string) {
	t.Helper()
	text := r.stdout
	if status != 0 {
		text += r.stderr
	}
	if r.status != status || !regexp.MustCompile(pattern).MatchString(text) {
		t.Errorf("%v\nwant status %d and %q", r, status, pattern)
	}
}

// unharmed checks that nobody traces a target, that none of its threads is stopped, and that it
// answers.
func unharmed(t *testing.T, p *testproc.Proc) {
	t.Helper()
	for _, th := range p.TIDs() {
		if s := testproc.State(p.PID(), th); s == 't' || s == 'T' {
			t.Errorf("thread %d is in state %c", th, s)
		}
	}
	p.Cmd(t, "ping")
}
