package harm

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
)

// A target that ends while it is held: what could not be read is listed.
func TestKilledWhileHeld(t *testing.T) {
	for _, verb := range []string{"core", "dump"} {
		t.Run(verb, func(t *testing.T) {
			const aDumpKnowsNothing = 1 // mapping by mapping, of what there is
			want := map[string]int{"core": 3, "dump": aDumpKnowsNothing}[verb]
			for range 20 {
				p := testproc.Start(t, testproc.Many, "fill", "64M")
				r := beginHolding(t, p.PID(), verb)
				p.Kill()
				p.WaitState(t, 'Z')
				switch got := r.end(t, syscall.SIGCONT); got.status {
				case 0: // it had read all
				case want:
					got.want(t, want, `(?m)^procmem: .*(: the process is gone|is a zombie)`)
					return
				default: // it had read nothing
					got.want(t, 1, `^procmem: .*(: the process is gone|is a zombie)`)
				}
			}
			t.Error("procmem is too quick to be stopped before it has read all")
		})
	}
}

// outcome checks how a run on a target that was dying ended: done, done with
// data missing that is listed, or failed with a reason and nothing left.
func outcome(t testing.TB, r result, dir string) {
	t.Helper()
	left := names(t, dir)
	switch {
	case r.status == 0 && r.stderr == "", r.status == 3 && strings.Contains(r.stderr, "procmem: "):
		if len(left) != 1 || strings.HasSuffix(left[0], ".partial") {
			t.Fatalf("left %q after %v", left, r)
		}
		if strings.HasPrefix(left[0], "core.") {
			openCore(t, filepath.Join(dir, left[0]))
		}
	case r.status == 1 && len(left) == 0:
		// One line that says what has become of the process.
		if strings.Count(r.stderr, "\n") != 1 || !strings.HasPrefix(r.stderr, "procmem: ") ||
			!(strings.Contains(r.stderr, "gone") || strings.Contains(r.stderr, "ended") || strings.Contains(r.stderr, "exited") ||
				strings.Contains(r.stderr, "no process has pid") || strings.Contains(r.stderr, "zombie")) {
			t.Errorf("not a clear message: %v", r)
		}
	default:
		t.Fatalf("left %q after %v", left, r)
	}
}

// The target ends, or becomes another program, at any moment.
func TestTargetEnds(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	methods := allMethods
	zoo := testproc.Build(t, testproc.Zoo)
	for _, c := range []struct {
		name string
		end  func(p *testproc.Proc)
		runs bool
	}{
		{"exits", func(p *testproc.Proc) { p.Send(t, "exit") }, false},
		{"is killed", func(p *testproc.Proc) { p.Kill() }, false},
		{"execs", func(p *testproc.Proc) { p.Send(t, "exec %s --only anon --nospin", zoo) }, true},
		{"execs by another thread", func(p *testproc.Proc) { p.Send(t, "threadexec %s --only anon --nospin", zoo) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			statuses := map[int]int{}
			for trial := range 24 {
				verb := []string{"core", "core", "dump"}[trial%3]
				p := testproc.Start(t, testproc.Kids)
				p.Cmd(t, "threads 5")
				dir := t.TempDir()
				args := []any{verb, "-o", filepath.Join(dir, verb), p.PID()}
				if verb == "core" {
					args = append(args, "--method", methods[trial%len(methods)])
				}
				r := begin(t, command(args...))
				if trial%2 == 0 { // once it is attached to
					for !r.ended() && untraced(p.PID()) {
					}
				} else {
					time.Sleep(time.Duration(random.IntN(6000)) * time.Microsecond)
				}
				c.end(p)
				got := r.wait(t)
				statuses[got.status]++
				outcome(t, got, dir)
				testproc.Until(t, "the helper of procmem to end", func() bool { return len(helpers()) == 0 })
				if c.runs {
					p.ReadFacts(t)
					unharmed(t, p)
					if now := look(t, p.PID()); now.children != "" {
						t.Errorf("the target has the children %s", now.children)
					}
				}
				p.Kill()
			}
			t.Logf("statuses %v", statuses)
		})
	}
}

// A target that starts programs all the time.
func TestTargetForks(t *testing.T) {
	forEachMethod(t, allMethods, func(t *testing.T, method string) {
		p := testproc.Start(t, testproc.Kids, "--ballast", "16M")
		dir := t.TempDir()
		for range *dumps {
			r := begin(t, command("core", "--force", "--method", method, "-o", dir+"/core", p.PID()))
			for !r.ended() {
				p.Cmd(t, "fork")
				p.Cmd(t, "reap")
			}
			r.wait(t).want(t, 0, "^$")
			unharmed(t, p)
			openCore(t, fmt.Sprintf("%s/core.%d", dir, p.PID()))
		}
		if now := look(t, p.PID()); now.children != "" {
			t.Errorf("the target has the children %s", now.children)
		}
	})
}

// Threads start and end all the time. Each core is whole, and has registers
// for each thread.
func TestStorm(t *testing.T) {
	forEachMethod(t, allMethods, testStorm)
}

func testStorm(t *testing.T, method string) {
	p := testproc.Start(t, testproc.Many, "storm", "30")
	for range 8 {
		c := take(t, p.PID(), method)
		c.want(t, 0, "^$")
		img := c.Image()
		if n := len(img.Threads); n < 30 {
			t.Errorf("%d threads; want 30 or more", n)
		}
		for k := range img.Threads {
			th := &img.Threads[k]
			_, sp, ok := img.Arch.PC(th)
			var word [8]byte
			if _, err := c.ReadAt(word[:], sp); !ok || err != nil || len(th.Regset(procmem.NTX86XState)) == 0 {
				t.Errorf("thread %d: registers %v, stack %v", th.TID, ok, err)
			}
		}
		c.done(t)
	}
	unharmed(t, p)
	before := p.CmdInts(t, "storm")[0]
	testproc.Until(t, "the storm to go on", func() bool { return p.CmdInts(t, "storm")[0] > before })
}

// The main thread has exited, and the others live: everything works as before it did.
func TestLeaderHasExited(t *testing.T) {
	p := testproc.Start(t, testproc.Kids, "--ballast", ballast)
	p.Cmd(t, "threads 3")
	p.Cmd(t, "leaderexit")
	dir, before := t.TempDir(), look(t, p.PID())
	for _, method := range append([]string{"live"}, allMethods...) {
		t.Run(method, func(t *testing.T) {
			c := take(t, p.PID(), method)
			c.want(t, 0, "")
			if n := len(c.Image().Threads); n != 4 || method == "auto" && c.report.Method == "stop" || method != "auto" && c.report.Method != method {
				t.Errorf("%d threads; want 4; %+v", n, c.report)
			}
			call(t, "dump", "--method", method, "-o", dir+"/dump-"+method, p.PID()).want(t, 0, "^$")
			undone(t, p.PID(), before)
		})
	}
	if r := call(t, "diff", "--after", "1ms", p.PID()); r.status > 1 {
		t.Errorf("diff: %v", r)
	}
	doctor := call(t, "doctor", p.PID())
	doctor.want(t, 0, "^$")
	if strings.Contains(doctor.stdout, "not possible") {
		t.Errorf("doctor: %v", doctor)
	}
	for _, args := range [][]any{{"maps"}, {"info"}, {"threads"}, {"threads", "-r"}, {"strings"}, {"search", "testproc"}, {"read", "[stack]"}} {
		rest := append([]any{args[0], p.PID()}, args[1:]...)
		if r := call(t, rest...); r.status != 0 || r.stderr != "" || r.stdout == "" {
			t.Errorf("%v: %v", rest, r)
		}
	}
	unharmed(t, p)
	p.Kill()
	p.Wait()
	for _, verb := range []string{"core", "dump", "maps", "threads"} {
		args := []any{verb, p.PID()}
		if verb == "dump" {
			args = append(args, "-o", dir+"/gone")
		}
		call(t, args...).want(t, 1, "^procmem: no process has pid")
	}
}

// A zombie has no memory.
func TestZombie(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	zombie := p.CmdInts(t, "zombie")[0]
	dir := t.TempDir()
	call(t, "core", "-o", dir+"/core", zombie).want(t, 1, "^procmem: .* is a zombie")
	wantNames(t, dir)
}
