package snapshot

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/procmem/procmem/internal/testproc"
	"github.com/procmem/procmem/process"
)

// asTracer names the process that the test binary is to hold, run by itself:
// a tracer that can be killed.
const asTracer = "PROCMEM_TEST_HOLD"

func TestMain(m *testing.M) {
	if pid, err := strconv.Atoi(os.Getenv(asTracer)); err == nil {
		holdInSteps(pid)
		return
	}
	os.Exit(m.Run())
}

// holdInSteps holds the process, but attaches and asks it to stop in two
// steps, each of which ends with a line on stdout and waits for one on stdin.
func holdInSteps(pid int) {
	in := bufio.NewReader(os.Stdin)
	step := func(what string, err error) {
		fmt.Println(what, err)
		in.ReadString('\n')
	}
	p, err := process.Open(pid)
	if err != nil {
		step("open", err)
		return
	}
	t := newTracer(p)
	t.do(func() { err = t.seizeNew() })
	step("seized", err)
	step("held", t.stop(context.Background()))
	t.release()
}

// steps is a process that runs holdInSteps.
type steps struct {
	t   testing.TB
	cmd *exec.Cmd
	in  *os.File
	out *bufio.Reader
}

func beginSteps(t testing.TB, pid int) *steps {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", asTracer, pid))
	cmd.Stderr = os.Stderr
	r, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdin = r
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &steps{t, cmd, in, bufio.NewReader(out)}
	t.Cleanup(s.kill)
	return s
}

// expect waits for the end of a step.
func (s *steps) expect(what string) {
	s.t.Helper()
	late := time.AfterFunc(30*time.Second, func() { s.cmd.Process.Kill() })
	defer late.Stop()
	line, err := s.out.ReadString('\n')
	if err != nil || strings.TrimSpace(line) != what+" <nil>" {
		s.t.Fatalf("tracer said %q, %v; want %q", line, err, what)
	}
}

// next lets it go on.
func (s *steps) next() { fmt.Fprintln(s.in) }

// kill ends it with SIGKILL.
func (s *steps) kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
	s.in.Close()
}

func open(t testing.TB, p *testproc.Proc) *process.Process {
	t.Helper()
	proc, err := process.Open(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proc.Close() })
	return proc
}

func stop(t testing.TB, p *process.Process) *Snapshot {
	t.Helper()
	s, err := (&freezer{p: p}).stop(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
