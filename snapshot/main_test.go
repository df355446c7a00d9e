package snapshot

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/internal/testproc"
	"github.com/procmem/procmem/process"
)

// asTracer names the process that the test binary is to hold, run by itself:
// a tracer that can be killed.
const asTracer = "PROCMEM_TEST_HOLD"

// Other things that the test binary does when it is run by itself.
const (
	// asTaker names the process that it is to take a moment of, and the method.
	asTaker = "PROCMEM_TEST_TAKE"
	// asForkReader has it be a target in which a fork waits until it is read of.
	asForkReader = "PROCMEM_TEST_FORK_READER"
)

func TestMain(m *testing.M) {
	if method, pid, ok := strings.Cut(os.Getenv(asTaker), " "); ok {
		n, _ := strconv.Atoi(pid)
		takeInSteps(n, Method(method))
		return
	}
	if os.Getenv(asForkReader) != "" {
		readForks()
		return
	}
	if pid, err := strconv.Atoi(os.Getenv(asTracer)); err == nil {
		holdInSteps(pid)
		return
	}
	os.Exit(m.Run())
}

// holdInSteps holds the process, but attaches and asks it to stop in two steps. Each step ends
// with a line on stdout and waits for one on stdin.
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
	t := ptracer.New(p)
	t.Do(func() { err = t.SeizeNew() })
	step("seized", err)
	step("held", t.Stop(context.Background()))
	t.Release()
}

// takeInSteps takes a moment and keeps it.
func takeInSteps(pid int, method Method) {
	in := bufio.NewReader(os.Stdin)
	p, err := process.Open(pid)
	var s *Snapshot
	if err == nil {
		s, err = Take(context.Background(), p, Options{Method: method, Prepare: into(testproc.NewPages()), Want: func(*procmem.Image, procmem.Memory) []procmem.Range {
			fmt.Println("begun <nil>")
			in.ReadString('\n')
			return []procmem.Range{everything}
		}})
	}
	fmt.Println("taken", err)
	in.ReadString('\n')
	s.Close()
}

// readForks makes a userfaultfd that tells of forks, and a thread that would
// read of them.
func readForks() {
	const eventFork, minorOfShared, modeMissing, modeMinor = 1 << 1, 1 << 10, 1, 4
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
	check := func(what string, errno syscall.Errno) {
		if errno != 0 {
			fmt.Println("no events", what, errno)
			fmt.Println("ready")
			bufio.NewReader(os.Stdin).ReadString('\n')
			os.Exit(0)
		}
	}
	check("userfaultfd", errno)
	features, flags, mode := uint64(eventFork), unix.MAP_PRIVATE, uint64(modeMissing)
	if os.Getenv(asForkReader) == "minor" {
		features, flags, mode = features|minorOfShared, unix.MAP_SHARED, modeMinor
	}
	api := [3]uint64{0xaa, features, 0}
	_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, 0xc018aa3f, uintptr(unsafe.Pointer(&api)))
	check("UFFDIO_API", errno)
	mem, err := unix.Mmap(-1, 0, page, unix.PROT_READ|unix.PROT_WRITE, flags|unix.MAP_ANONYMOUS)
	if err != nil {
		panic(err)
	}
	reg := [4]uint64{uint64(uintptr(unsafe.Pointer(&mem[0]))), page, mode, 0}
	_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, 0xc020aa00, uintptr(unsafe.Pointer(&reg)))
	check("UFFDIO_REGISTER", errno)
	go func() {
		for {
			unix.Read(int(fd), make([]byte, 64))
		}
	}()
	fmt.Println("ready")
	in := bufio.NewReader(os.Stdin)
	for {
		if _, err := in.ReadString('\n'); err != nil {
			return
		}
		fmt.Println("pong")
	}
}

// steps is a process that runs holdInSteps or takeInSteps.
type steps struct {
	t   testing.TB
	cmd *exec.Cmd
	in  *os.File
	out *bufio.Reader
}

func beginSteps(t testing.TB, pid int) *steps {
	t.Helper()
	return beginAs(t, fmt.Sprintf("%s=%d", asTracer, pid))
}

// beginTake runs takeInSteps.
func beginTake(t testing.TB, pid int, method Method) *steps {
	t.Helper()
	return beginAs(t, fmt.Sprintf("%s=%s %d", asTaker, method, pid))
}

func beginAs(t testing.TB, env string) *steps {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), env)
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

// stop holds a process until Release, however little memory it has.
func stop(t testing.TB, p *process.Process) *Snapshot {
	t.Helper()
	f := planned(t, p, Options{}, nil)
	f.s.Method = MethodStop
	if err := f.holdOpen(t.Context()); err != nil {
		t.Fatal(err)
	}
	return f.s
}

// planned returns the plan of a pause that has not begun.
func planned(t testing.TB, p *process.Process, o Options, store Store) *pauser {
	t.Helper()
	l, err := lookAt(p)
	if err != nil {
		t.Fatal(err)
	}
	f := newPauser(l, o, store)
	t.Cleanup(func() { f.s.Close() })
	if err := f.plan(); err != nil {
		t.Fatal(err)
	}
	return f
}

// into has memory that is copied early go into a store.
func into(store Store) func(*procmem.Image, procmem.Sparse) (Store, error) {
	return func(*procmem.Image, procmem.Sparse) (Store, error) { return store, nil }
}
