package harm

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/procmem/procmem/internal/testproc"
)

// servedTarget is a target that maps a file of a server, or runs one.
func servedTarget(t *testing.T, how string) (*testproc.Proc, *testproc.Fuse, string) {
	t.Helper()
	fuse := testproc.MountFuse(t, t.TempDir())
	var p *testproc.Proc
	var r string
	if how == "program" {
		b, err := os.ReadFile(testproc.Build(t, testproc.Kids.With(testproc.StaticPIE)))
		if err != nil {
			t.Fatal(err)
		}
		// By a shell: this process must not wait for its own file system between fork
		// and exec, where the Go runtime waits for it, and so does the server.
		p = testproc.StartCmd(t, exec.Command("/bin/sh", "-c", `exec "$0" "$@"`, fuse.Put("kids", b), "--ballast", "40M"))
		r = "kids"
	} else {
		path := fuse.Put("data", bytes.Repeat([]byte("0123456789abcdef"), 64<<10))
		p = testproc.Start(t, testproc.Kids, "--ballast", "40M")
		n := p.CmdInts(t, "map %s %s", path, how)
		r = fmt.Sprintf("%#x+%#x", n[0], n[1])
	}
	t.Cleanup(fuse.Answer)
	p.Cmd(t, "threads 2")
	return p, fuse, r
}

// A mapped file whose server does not answer keeps no command from its end, which says
// which file it is; what cannot be had is missing.
func TestServerDoesNotAnswer(t *testing.T) {
	all := []string{
		"core -a --method stop", "core -a --method fork", "core -a --method precopy", "core -a", "core -a --method live",
		"core --compress zstd", "dump", "read", "search", "maps", "doctor", "threads",
	}
	some := []string{"core -a", "core -a --method fork", "dump", "search", "maps"}
	for how, commands := range map[string][]string{"private": all, "shared": some, "text": some, "program": some} {
		for _, words := range commands {
			t.Run(how+"/"+words, func(t *testing.T) {
				t.Parallel() // most of it is waiting
				p, fuse, mapped := servedTarget(t, how)
				fuse.Hang()
				pid, dir := strconv.Itoa(p.PID()), t.TempDir()
				args := strings.Fields(words)
				switch args[0] {
				case "core":
					args = append(args, "-o", dir+"/core", pid)
				case "dump":
					args = append(args, "-o", dir+"/dump", pid)
				case "read":
					args = append(args, pid, mapped)
				case "search":
					args = append(args, pid, "89abcdef")
				default:
					args = append(args, pid)
				}
				cmd := exec.Command(program, args...)
				r := begin(t, cmd).wait(t)
				if r.status < 0 || r.status > 3 {
					t.Errorf("%v", r)
				}
				if how == "shared" && strings.HasSuffix(words, "fork") {
					r.want(t, 1, "a copy of it could not end before that answers")
				} else if args[0] == "core" && r.status != 0 && r.status != 3 || args[0] == "maps" && r.status != 0 {
					t.Errorf("%v", r)
				}
				if words == "dump" && !strings.Contains(r.stderr, "waiting for the file "+fuse.Dir) {
					t.Errorf("it does not say what it waits for: %v", r)
				}
				fuse.Answer()
				unharmed(t, p)
			})
		}
	}
}

// The first signal ends it, and lets the target go, whatever is waited for.
func TestSignalWhileServerHangs(t *testing.T) {
	for _, words := range []string{"core -a --method stop", "core -a --method fork", "core -a --method precopy", "core -a", "dump", "search", "read"} {
		t.Run(words, func(t *testing.T) {
			t.Parallel()
			p, fuse, mapped := servedTarget(t, "private")
			fuse.Hang()
			args := append(strings.Fields(words), strconv.Itoa(p.PID()))
			switch args[0] {
			case "core":
				args = append(args, "-o", t.TempDir()+"/core")
			case "dump":
				args = append(args, "-o", t.TempDir()+"/dump")
			case "search":
				args = append(args, "89abcdef")
			case "read":
				args = append(args, mapped)
			}
			r := begin(t, exec.Command(program, args...))
			fuse.WaitAsked(t)
			r.signal(syscall.SIGTERM)
			began := time.Now()
			testproc.Until(t, "the target to be let go", func() bool { return untraced(p.PID()) })
			r.wait(t)
			if took := time.Since(began); took > deadline/2 {
				t.Errorf("it took %v", took)
			}
			fuse.Answer()
			unharmed(t, p)
		})
	}
}

// asServer has the test program serve a file system in this folder, and be a target.
const asServer = "PROCMEM_TEST_SERVE"

// serve is a target that serves the file system that its core is to be written to.
func serve(dir string) {
	fuse, err := testproc.ServeFuse(dir)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fuse.Discard = true
	ballast := make([]byte, 96<<20)
	for i := range ballast {
		ballast[i] = byte(i>>12) | 1
	}
	fmt.Println("ready")
	os.Stdin.Read(make([]byte, 1))
	fuse.Close()
	fmt.Println("done", ballast[4096])
}

// startServer starts a target that serves a file system, and returns where.
func startServer(t *testing.T) (target *exec.Cmd, dir string, end func()) {
	t.Helper()
	dir = t.TempDir()
	target = exec.Command(os.Args[0])
	target.Env = append(os.Environ(), asServer+"="+dir)
	in, err := target.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := target.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := target.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		target.Process.Kill()
		target.Wait()
		syscall.Unmount(dir, syscall.MNT_DETACH)
	})
	line := make([]byte, 64)
	if n, err := out.Read(line); string(line[:n]) != "ready\n" {
		t.Fatalf("%q, %v", line[:n], err)
	}
	return target, dir, func() {
		if !untraced(target.Process.Pid) {
			t.Error("it is still held")
		}
		in.Close()
		if n, _ := out.Read(line); !strings.HasPrefix(string(line[:n]), "done") {
			t.Errorf("the target says %q", line[:n])
		}
	}
}

// A process may serve the file system that its own core goes to, which it cannot while it
// is held: it is let go, and procmem fails.
func TestTargetServesTheOutput(t *testing.T) {
	for _, words := range []string{"core -a --method stop", "core --compress zstd --method stop", "core -a --method precopy", "core -a --method fork", "core -a"} {
		t.Run(words, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			target, dir, end := startServer(t)
			r := begin(t, exec.Command(program, append(strings.Fields(words), "-o", dir+"/core", strconv.Itoa(target.Process.Pid))...)).wait(t)
			if strings.HasSuffix(words, "stop") {
				r.want(t, 1, "takes nothing: the process was let go")
			} else if r.status > 1 {
				t.Errorf("%v", r)
			}
			end()
		})
	}
}

// The first signal lets it go at once.
func TestSignalWhileTargetServesTheOutput(t *testing.T) {
	target, dir, end := startServer(t)
	r := begin(t, exec.Command(program, "core", "-a", "--method", "stop", "-o", dir+"/core", strconv.Itoa(target.Process.Pid)))
	looks := 0 // in which a thread of procmem waits for the server
	testproc.Until(t, "procmem to wait for the target", func() bool {
		waits := false
		for _, tid := range tids(r.pid()) {
			where, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/wchan", r.pid(), tid))
			waits = waits || string(where) == "request_wait_answer"
		}
		if looks++; !waits {
			looks = 0
		}
		return r.ended() || looks == 50
	})
	r.signal(syscall.SIGTERM)
	r.wait(t).want(t, statusOf(syscall.SIGTERM), "stopped by SIGTERM")
	end()
}
