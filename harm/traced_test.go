package harm

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/procmem/procmem/internal/testproc"
)

// A target that somebody traces is refused and explained; the tracer does not
// notice. What needs no tracing works.
func TestTraced(t *testing.T) {
	for _, tracer := range []string{"strace", "gdb", "a child"} {
		t.Run(tracer, func(t *testing.T) {
			p := testproc.Start(t, testproc.Kids)
			p.Cmd(t, "threads 2")
			var name string
			var end func()
			switch tracer {
			case "a child":
				name = fmt.Sprintf(`kids \(pid %d\)`, p.CmdInts(t, "trace")[0])
				end = func() { p.Cmd(t, "reap") }
			default:
				path, err := exec.LookPath(tracer)
				if err != nil {
					t.Skip(err)
				}
				cmd := exec.Command(path, "-p", fmt.Sprint(p.PID()))
				if tracer == "gdb" {
					cmd = exec.Command(path, "-nx", "-q", "-p", fmt.Sprint(p.PID()), "-ex", "continue")
				} else {
					cmd.Args = append(cmd.Args, "-f", "-qq")
				}
				in, err := cmd.StdinPipe() // gdb ends with its stdin
				if err != nil {
					t.Fatal(err)
				}
				r := begin(t, cmd)
				name = fmt.Sprintf(`%s \(pid %d\)`, tracer, r.pid())
				end = func() {
					in.Close()
					r.signal(syscall.SIGINT)
					r.signal(syscall.SIGTERM)
					r.wait(t)
				}
				testproc.Until(t, tracer+" to let the target run", func() bool {
					for _, tid := range tids(p.PID()) {
						if testproc.State(p.PID(), tid) != 'S' {
							return false
						}
					}
					return !untraced(p.PID())
				})
			}
			dir := t.TempDir()
			want := fmt.Sprintf(`^procmem: process %d is already traced by %s.*--method live.*\n$`, p.PID(), name)
			neverStopped(t, p, func() {
				call(t, "core", "-o", dir+"/core", p.PID()).want(t, 1, want)
				forEachMethod(t, allMethods, func(t *testing.T, method string) {
					call(t, "core", "--method", method, "-o", dir+"/core", p.PID()).want(t, 1, want)
				})
				call(t, "dump", "-o", dir+"/dump", p.PID()).want(t, 1, want)
				call(t, "threads", p.PID()).want(t, 1, "already traced")
				wantNames(t, dir)
				call(t, "core", "--method", "live", "-o", dir+"/live", p.PID()).want(t, 0, "^$")
				openCore(t, fmt.Sprintf("%s/live.%d", dir, p.PID()))
			})
			if untraced(p.PID()) {
				t.Error("the tracer has gone")
			}
			p.Cmd(t, "ping")
			end()
			syscall.Kill(p.PID(), syscall.SIGCONT) // gdb may leave it stopped
			unharmed(t, p)
			call(t, "core", "-o", dir+"/core", p.PID()).want(t, 0, "^$")
			unharmed(t, p)
		})
	}
}

// The parent in vfork cannot be stopped: it has a place, and the core says
// that this is all that is known.
func TestVfork(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	child := int(p.CmdInts(t, "vfork")[0])
	p.WaitState(t, 'D')
	if r := call(t, "doctor", "--json", p.PID()); !strings.Contains(r.stdout, fmt.Sprintf(`"asleep":[{"tid":%d,"call":"vfork"}]`, p.PID())) {
		t.Errorf("doctor: %v", r)
	}
	if r := call(t, "doctor", p.PID()); !strings.Contains(r.stdout, "-- state D         1 thread cannot be stopped") {
		t.Errorf("doctor: %v", r)
	}
	dir := t.TempDir()
	call(t, "core", "-o", dir+"/core", p.PID()).want(t, 3, fmt.Sprintf("^procmem: thread %d: it does not stop: it waits in the kernel and cannot be interrupted .state D, in vfork", p.PID()))
	c := openCore(t, fmt.Sprintf("%s/core.%d", dir, p.PID()))
	img := c.Image()
	pc, sp, ok := img.Arch.PC(&img.Threads[0])
	var word [8]byte
	if _, err := c.ReadAt(word[:], sp); !ok || pc == 0 || err != nil || img.Threads[0].Err == nil {
		t.Errorf("pc %v, sp %v (%v), %v, error %v", pc, sp, err, ok, img.Threads[0].Err)
	}
	if s := testproc.State(child, child); s != 'S' || !untraced(child) {
		t.Errorf("the child is in state %c", s)
	}
	p.Send(t, "go on")
	if got := p.Recv(t); got != "ok" {
		t.Errorf("the parent says %q", got)
	}
	unharmed(t, p)
}
