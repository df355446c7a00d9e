package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/forkroom"
	"github.com/procmem/procmem/internal/testproc"
)

// takeBy takes a moment by a method, in which no thread may be missing.
func takeBy(t testing.TB, p *testproc.Proc, method Method, o Options) *Snapshot {
	t.Helper()
	o.Method = method
	if o.Prepare == nil {
		o.Prepare = into(testproc.NewPages())
	}
	s, err := Take(t.Context(), open(t, p), o)
	if err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	t.Cleanup(func() { s.Close() })
	if s.Method != method && method != MethodAuto {
		t.Fatalf("method %s was asked for, and %s taken", method, s.Method)
	}
	for i := range s.Image().Threads {
		if th := &s.Image().Threads[i]; th.Err != nil {
			t.Errorf("%s: thread %d: %v", method, th.TID, th.Err)
		}
	}
	return s
}

// checkBallast compares all of the ballast of a process with a moment.
func checkBallast(t testing.TB, p *testproc.Proc, s *Snapshot) {
	t.Helper()
	ballast := p.Map(t, "ballast")
	for i := range ballast.Pages() {
		got := make([]byte, page)
		if _, err := s.ReadAt(got, ballast.Page(i)); err != nil || !bytes.Equal(got, p.Want(t, ballast, i)) {
			t.Fatalf("page %d: %v", i, err)
		}
	}
}

// childOf returns the one child of a process.
func childOf(t testing.TB, pid int) int {
	t.Helper()
	f := strings.Fields(testproc.TracesOf(t, pid).Children)
	if len(f) != 1 {
		t.Fatalf("children %v; want one", f)
	}
	var child int
	fmt.Sscan(f[0], &child)
	return child
}

func exists(pid int) bool { return syscall.Kill(pid, 0) == nil }

// The copy never runs, is the first to go where memory is short, and leaves
// nothing behind.
func TestForkLeavesNothing(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--only", "anon,dontfork,shared")
	p.WaitBlocked(t, 8)
	before := testproc.TracesOf(t, p.PID())
	for range 3 {
		s := takeBy(t, p, MethodFork, Options{})
		child := childOf(t, p.PID())
		if got, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", child)); err != nil || string(got) != "1000\n" {
			t.Errorf("oom_score_adj of the copy is %q, %v; want 1000", got, err)
		}
		if st := testproc.State(child, child); st != 't' {
			t.Errorf("the copy is in state %c; want t", st)
		}
		if now := testproc.TracesOf(t, p.PID()); now.Tracers != 0 || now.FDs != before.FDs {
			t.Errorf("while the copy is there, the target has %+v; before: %+v", now, before)
		}
		if _, err := s.Release(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if exists(child) {
			t.Errorf("the copy is still there, in state %c", testproc.State(child, child))
		}
		if now := testproc.TracesOf(t, p.PID()); now != before {
			t.Errorf("left: %+v; before: %+v", now, before)
		}
		if k := helpers(p.PID()); len(k) > 0 {
			t.Errorf("helpers %v are still there", k)
		}
	}
	if got := p.CmdInts(t, "spin"); got[1] != 0 {
		t.Errorf("registers of a computation changed %d times", got[1])
	}
}

// The moment is that of the fork, whatever the target does afterwards, of what
// a fork copies and of what it does not.
func TestForkIsTheMoment(t *testing.T) {
	testproc.HugePages(t, 1)
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--memfd", "1M", "--untouched", "1M", "--none", "1M")
	s := takeBy(t, p, MethodFork, Options{})
	if len(s.Torn) != 0 {
		t.Errorf("torn: %v; nobody else has this memory", s.Torn)
	}
	for _, cmd := range []string{"zero anon", "zero dontfork", "zero wipeonfork", "zero shared 0 2", "punch shared 10",
		"drop thp", "unmap file", "remap dontdump", "touch untouched", "touch memfd 1"} {
		p.Cmd(t, "%s", cmd)
	}
	if _, ok := p.Facts["no huge"]; !ok {
		p.Cmd(t, "zero huge")
	}
	checked := map[string]bool{}
	for _, m := range p.Maps() {
		for i := range m.Pages() {
			got := make([]byte, page)
			n, err := s.ReadAt(got, m.Page(i))
			if err != nil {
				if m.Stamped(i) && m.Name != "secret" {
					t.Errorf("%s page %d: %d bytes, %v", m.Name, i, n, err)
				}
				continue
			}
			if want := p.Want(t, m, i); !bytes.Equal(got, want) {
				t.Fatalf("%s page %d begins with %x; want %x", m.Name, i, got[:8], want[:8])
			}
			checked[m.Name] = true
		}
	}
	for _, name := range []string{"anon", "dontfork", "wipeonfork", "shared", "memfd", "thp", "file"} {
		if !checked[name] {
			t.Errorf("nothing of %s could be read", name)
		}
	}
}

// The copy shares the table of files: what the target closes is closed.
func TestForkSharesFiles(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(testproc.Build(t, testproc.Kids))
	cmd.ExtraFiles = []*os.File{w}
	p := testproc.StartCmd(t, cmd)
	w.Close()
	s := takeBy(t, p, MethodFork, Options{})
	childOf(t, p.PID())
	p.Cmd(t, "close 3")
	r.SetReadDeadline(time.Now().Add(30 * time.Second))
	if n, err := r.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d, %v from the pipe; want its end", n, err)
	}
	childOf(t, p.PID()) // it still is there
	s.Close()
	p.Cmd(t, "ping")
}

// When the helper is killed, the copy ends. That is reported, and the target lives.
func TestForkHelperKilled(t *testing.T) {
	p := testproc.Start(t, testproc.Kids, "--ballast", "1M")
	before := testproc.TracesOf(t, p.PID())
	s := takeBy(t, p, MethodFork, Options{})
	child, k := childOf(t, p.PID()), helpers(p.PID())
	if len(k) != 1 {
		t.Fatalf("helpers %v; want one", k)
	}
	syscall.Kill(k[0], syscall.SIGKILL)
	testproc.Until(t, "the copy to end", func() bool {
		st := testproc.State(child, child)
		return st == 0 || st == 'Z'
	})
	// It was killed, and has not run: that would have ended in a fault.
	if f := strings.Fields(string(readFile(t, fmt.Sprintf("/proc/%d/stat", child)))); f[len(f)-1] != "9" {
		t.Errorf("the exit status of the copy is %s; want that of SIGKILL, 9", f[len(f)-1])
	}
	if _, err := s.Release(); !errors.Is(err, ErrLost) {
		t.Errorf("%v; want %v", err, ErrLost)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if after := testproc.TracesOf(t, p.PID()); after != before {
		t.Errorf("left in the target: %+v; before %+v", after, before)
	}
	p.Cmd(t, "ping")
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Another process ends the copy, as the kernel does for want of memory.
func TestForkCopyKilled(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	before := testproc.TracesOf(t, p.PID())
	s := takeBy(t, p, MethodFork, Options{})
	child := childOf(t, p.PID())
	syscall.Kill(child, syscall.SIGKILL)
	testproc.Until(t, "the copy to end", func() bool { return testproc.State(child, child) == 'Z' })
	if _, err := s.Release(); !errors.Is(err, ErrLost) {
		t.Errorf("%v; want %v", err, ErrLost)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if now := testproc.TracesOf(t, p.PID()); now != before {
		t.Errorf("left: %+v; before: %+v", now, before)
	}
	p.Cmd(t, "ping")
}

// A target that ends while it is copied does not take the copy with it.
func TestForkTargetKilled(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "anon,dontfork")
	anon := p.Map(t, "anon")
	s := takeBy(t, p, MethodFork, Options{})
	child := childOf(t, p.PID())
	p.Kill()
	p.Wait()
	for _, m := range []testproc.Map{anon, p.Map(t, "dontfork")} {
		got := make([]byte, page)
		if _, err := s.ReadAt(got, m.Page(0)); err != nil || !bytes.Equal(got, p.Want(t, m, 0)) {
			t.Errorf("%s: %v", m.Name, err)
		}
	}
	if _, err := s.Release(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	testproc.Until(t, "the copy to end", func() bool { return !exists(child) || testproc.State(child, child) == 'Z' })
}

// A fork that waits for a thread of the process itself would hold it for ever.
func TestForkThatWaits(t *testing.T) {
	for _, mode := range []string{"missing", "minor"} {
		t.Run(mode, func(t *testing.T) { forkThatWaits(t, mode) })
	}
}

func forkThatWaits(t *testing.T, mode string) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asForkReader+"="+mode)
	p := testproc.StartCmd(t, cmd)
	if why, ok := p.Facts["no events"]; ok {
		t.Skip(why)
	}
	// If it does hang, the end of the target ends that.
	hangs := time.AfterFunc(20*time.Second, func() {
		t.Error("it hangs")
		p.Kill()
	})
	proc := open(t, p)
	if s, err := Take(t.Context(), proc, Options{Method: MethodFork}); !errors.Is(err, forkroom.ErrWaits) {
		t.Errorf("%v; want %v", err, forkroom.ErrWaits)
		if err == nil {
			s.Close()
		}
	}
	for _, m := range []Method{MethodPrecopy, MethodAuto} {
		s := takeBy(t, p, m, Options{})
		if s.Method == MethodFork {
			t.Error("auto takes fork")
		}
		s.Close()
	}
	hangs.Stop()
	p.Cmd(t, "ping")
}

// The tool is killed by SIGKILL while it has the moment: all is undone.
func TestKilledTool(t *testing.T) {
	for _, m := range []Method{MethodFork, MethodPrecopy} {
		for _, stage := range []string{"begun", "taken"} {
			t.Run(fmt.Sprint(m, " ", stage), func(t *testing.T) {
				p := testproc.Start(t, testproc.Zoo, "--nospin", "--without", "none,untouched", "--memfd", "1M")
				p.WaitBlocked(t, 9)
				before, states := testproc.TracesOf(t, p.PID()), states(p)
				s := beginTake(t, p.PID(), m)
				s.expect("begun")
				if stage == "taken" {
					s.next()
					s.expect("taken")
					// Once it has the moment, precopy needs nothing of the process.
					if m == MethodPrecopy {
						testproc.Until(t, "tracking to end", func() bool { return len(helpers(p.PID())) == 0 })
						testproc.UntouchedSince(t, p.PID(), before)
					} else if len(helpers(p.PID())) != 1 {
						t.Errorf("helpers %v; want one", helpers(p.PID()))
					}
				}
				s.kill()
				testproc.UntouchedSince(t, p.PID(), before)
				testproc.Until(t, "the helper to end", func() bool { return len(helpers(p.PID())) == 0 })
				waitStates(t, p, states)
				p.Cmd(t, "ping")
			})
		}
	}
}

// The same while the target is held for what a fork does not copy, and at any
// time of the rounds of a precopy.
func TestKilledToolWhileItCopies(t *testing.T) {
	for _, m := range []Method{MethodFork, MethodPrecopy} {
		t.Run(string(m), func(t *testing.T) {
			p := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "anon,shared,dontfork,untouched", "--untouched", "64M")
			p.Cmd(t, "touch untouched")
			p.WaitBlocked(t, 9)
			before, running := testproc.TracesOf(t, p.PID()), states(p)
			for i := range *kills {
				s := beginTake(t, p.PID(), m)
				s.expect("begun")
				s.next()
				// What happens next differs from try to try.
				testproc.Until(t, "a helper", func() bool { return len(helpers(p.PID())) > 0 || i%2 == 0 || m == MethodPrecopy })
				for range i % 20 * 10 {
					testproc.TracesOf(t, p.PID())
				}
				s.kill()
				testproc.Until(t, "the helper to end", func() bool { return len(helpers(p.PID())) == 0 })
				testproc.UntouchedSince(t, p.PID(), before)
				waitStates(t, p, running)
			}
			p.Cmd(t, "ping")
		})
	}
}

// An exec while a moment is being taken: it is one of the new program, or none.
func TestExecMeanwhile(t *testing.T) {
	for _, m := range []Method{MethodStop, MethodFork, MethodPrecopy, MethodAuto} {
		t.Run(string(m), func(t *testing.T) {
			p := testproc.Start(t, testproc.Kids, "--ballast", "1M")
			execed, asked := 0, 0
			s := takeBy(t, p, m, Options{Want: func(img *procmem.Image, mem procmem.Memory) []procmem.Range {
				if asked++; execed < 2 { // twice, and then no more
					execed++
					p.Send(t, "exec %s --ballast 1M", p.Path)
					p.ReadFacts(t)
				}
				return []procmem.Range{everything}
			}})
			if asked < 2 {
				t.Errorf("it was asked %d times what is wanted", asked)
			}
			auxv, err := open(t, p).Auxv(s.Image().Arch)
			if err != nil || !bytes.Equal(auxv, s.Image().Auxv) {
				t.Errorf("the auxiliary vector is that of another program (%v)", err)
			}
			checkBallast(t, p, s)
			s.Close()
			p.Cmd(t, "ping")
		})
	}
}

// The end of the context undoes all.
func TestTakeCancelled(t *testing.T) {
	for _, m := range []Method{MethodFork, MethodPrecopy} {
		p := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "anon,dontfork")
		before := testproc.TracesOf(t, p.PID())
		cause := errors.New("stopped by a test")
		ctx, cancel := context.WithCancelCause(t.Context())
		_, err := Take(ctx, open(t, p), Options{Method: m, Prepare: into(testproc.NewPages()), Want: func(*procmem.Image, procmem.Memory) []procmem.Range {
			cancel(cause)
			return []procmem.Range{everything}
		}})
		if !errors.Is(err, cause) {
			t.Errorf("%s: %v; want %v", m, err, cause)
		}
		if now := testproc.TracesOf(t, p.PID()); now != before {
			t.Errorf("%s left: %+v; before: %+v", m, now, before)
		}
		if k := helpers(p.PID()); len(k) > 0 {
			t.Errorf("%s: helpers %v are still there", m, k)
		}
		p.Cmd(t, "ping")
	}
}
