package snapshot

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/internal/testproc"
)

// promptly is less than the patience that a tracer has with a thread that
// does not stop.
const promptly = ptracer.Patience / 2

// states returns the letters of the states of all threads, in order.
func states(p *testproc.Proc) string {
	var out []byte
	for _, tid := range p.TIDs() {
		out = append(out, testproc.State(p.PID(), tid))
	}
	slices.Sort(out)
	return string(out)
}

func waitStates(t testing.TB, p *testproc.Proc, want string) {
	t.Helper()
	testproc.Until(t, "the states "+want, func() bool { return states(p) == want })
}

// All threads of a running target are held, have registers, and run
// afterwards, where and as they were.
func TestRunningTargetRunsAfterwards(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--memfd", "1M")
	p.WaitBlocked(t, 8)
	before := states(p)
	proc := open(t, p)
	for range 10 {
		s := stop(t, proc)
		if got, want := states(p), "ttttttttt"; got != want {
			t.Fatalf("held: states %s; want %s", got, want)
		}
		for i := range s.Image().Threads {
			th := &s.Image().Threads[i]
			if _, _, ok := s.Image().Arch.PC(th); !ok || th.Err != nil {
				t.Errorf("thread %s: no registers: %v", th.Name, th.Err)
			}
		}
		if len(s.Image().Threads) != 9 || s.Image().Threads[0].TID != p.PID() {
			t.Errorf("%d threads, the first %d; want 9, %d", len(s.Image().Threads), s.Image().Threads[0].TID, p.PID())
		}
		pause, err := s.Release()
		if again, _ := s.Release(); err != nil || pause <= 0 || pause != again {
			t.Errorf("pause %v, then %v, %v", pause, again, err)
		}
		s.Close()
		waitStates(t, p, before)
	}
	spins := p.CmdInts(t, "spin")[0]
	testproc.Until(t, "the thread that computes", func() bool { return p.CmdInts(t, "spin")[0] > spins })
	if got := p.CmdInts(t, "wake"); got[1] != 0 {
		t.Errorf("registers around a system call changed %d times", got[1])
	}
	if got := p.CmdInts(t, "spin"); got[1] != 0 {
		t.Errorf("registers of a computation changed %d times", got[1])
	}
	// Of the calls that are to block for ever, epoll_wait alone may return:
	// the kernel ends it at any stop (signal(7)).
	if got := p.CmdInts(t, "returns"); got[0] > 10 {
		t.Errorf("%d calls returned; want at most one of epoll_wait for each of 10 stops", got[0])
	}
}

// SIGSTOP and SIGCONT, before and during the hold.
func TestJobControl(t *testing.T) {
	const running, stopped = "SSSSSSSSS", "TTTTTTTTT"
	for _, c := range []struct {
		name   string
		before []syscall.Signal
		during []syscall.Signal
		want   string
	}{
		{"stopped before", []syscall.Signal{syscall.SIGSTOP}, nil, stopped},
		{"stopped by the terminal before", []syscall.Signal{syscall.SIGTSTP}, nil, stopped},
		{"stopped meanwhile", nil, []syscall.Signal{syscall.SIGSTOP}, stopped},
		{"stopped and continued meanwhile", nil, []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT}, running},
		{"stopped before, continued meanwhile", []syscall.Signal{syscall.SIGSTOP}, []syscall.Signal{syscall.SIGCONT}, running},
		{"stopped before, continued and stopped meanwhile", []syscall.Signal{syscall.SIGSTOP},
			[]syscall.Signal{syscall.SIGCONT, syscall.SIGSTOP}, stopped},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "anon")
			p.WaitBlocked(t, 9)
			proc := open(t, p)
			for _, sig := range c.before {
				syscall.Kill(p.PID(), sig)
				waitStates(t, p, stopped)
			}
			for range 2 {
				s := stop(t, proc)
				if got := states(p); got != "ttttttttt" {
					t.Fatalf("held: states %s", got)
				}
				for _, sig := range c.during {
					syscall.Kill(p.PID(), sig)
				}
				s.Close()
				waitStates(t, p, c.want)
			}
			syscall.Kill(p.PID(), syscall.SIGCONT)
			waitStates(t, p, running)
			p.Cmd(t, "ping")
		})
	}
}

// The same when the tracer is killed.
func TestJobControlKilledTracer(t *testing.T) {
	const running, stopped = "SSSSSSSSS", "TTTTTTTTT"
	for _, c := range []struct {
		name           string
		before, during syscall.Signal
		want           string
	}{
		{"running", 0, 0, running},
		{"stopped before", syscall.SIGSTOP, 0, stopped},
		{"stopped meanwhile", 0, syscall.SIGSTOP, stopped},
		{"continued meanwhile", syscall.SIGSTOP, syscall.SIGCONT, running},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "anon")
			p.WaitBlocked(t, 9)
			if c.before != 0 {
				syscall.Kill(p.PID(), c.before)
				waitStates(t, p, stopped)
			}
			s := beginSteps(t, p.PID())
			s.expect("seized")
			s.next()
			s.expect("held")
			if c.during != 0 {
				syscall.Kill(p.PID(), c.during)
			}
			s.kill()
			waitStates(t, p, c.want)
			syscall.Kill(p.PID(), syscall.SIGCONT)
			waitStates(t, p, running)
			p.Cmd(t, "ping")
		})
	}
}

// A leader that exits after it has been attached to, while the other threads
// live, never reports a stop or an exit.
func TestLeaderExitsAfterSeize(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	p.Cmd(t, "threads 3")
	s := beginSteps(t, p.PID())
	s.expect("seized")
	p.Cmd(t, "leaderexit")
	began := time.Now()
	s.next()
	s.expect("held")
	if d := time.Since(began); d > promptly {
		t.Errorf("the hold took %v", d)
	}
	s.next()
	s.cmd.Wait()
	p.Cmd(t, "ping")
}

// A process whose leader has exited is read through a thread that lives.
func TestLeaderHasExited(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	p.Cmd(t, "threads 3")
	p.Cmd(t, "leaderexit")
	s := stop(t, open(t, p))
	if n := len(s.Image().Threads); n != 4 {
		t.Errorf("%d threads; want 4", n)
	}
	for i := range s.Image().Threads {
		th := &s.Image().Threads[i]
		pc, sp, ok := s.Image().Arch.PC(th)
		if !ok || th.Err != nil {
			t.Fatalf("thread %d: %v", th.TID, th.Err)
		}
		var word [8]byte
		for _, a := range []procmem.Addr{pc, sp} {
			if _, err := s.ReadAt(word[:], a); err != nil {
				t.Errorf("thread %d: read %v: %v", th.TID, a, err)
			}
		}
	}
	s.Close()
	p.Cmd(t, "ping")
}

// A thread that is in exec waits for the others, of which the tracer must
// take the exit.
func TestExecAfterSeize(t *testing.T) {
	for _, how := range []string{"exec", "threadexec"} {
		for _, end := range []string{"hold", "kill"} {
			t.Run(how+" "+end, func(t *testing.T) {
				p := testproc.Start(t, testproc.Kids)
				p.Cmd(t, "threads 3")
				s := beginSteps(t, p.PID())
				s.expect("seized")
				p.Send(t, "%s %s --only anon --nospin", how, testproc.Build(t, testproc.Zoo))
				// The exec kills the other threads, which stay as zombies
				// that the tracer has not asked for.
				testproc.Until(t, "exec to end the threads", func() bool {
					zombies := 0
					for _, tid := range p.TIDs() {
						if testproc.State(p.PID(), tid) == 'Z' {
							zombies++
						}
					}
					return zombies >= 3
				})
				if end == "kill" {
					s.kill()
				} else {
					began := time.Now()
					s.next()
					s.expect("held")
					if d := time.Since(began); d > promptly {
						t.Errorf("the hold took %v", d)
					}
					if got := states(p); strings.Trim(got, "t") != "" {
						t.Errorf("held: states %s", got)
					}
					s.next()
					s.cmd.Wait()
				}
				p.ReadFacts(t)
				p.Cmd(t, "ping")
			})
		}
	}
}

// A thread in vfork does not stop, nor does it run: its place is known. Its child has
// its memory, and is held.
func TestVforkParent(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	child := p.CmdInts(t, "vfork")[0]
	s := stop(t, open(t, p))
	th := &s.Image().Threads[0]
	pc, sp, ok := s.Image().Arch.PC(th)
	if !errors.Is(th.Err, ptracer.ErrWouldNot) || !ok || pc == 0 || sp == 0 {
		t.Errorf("thread: pc %v, sp %v, %v; want %v", pc, sp, th.Err, ptracer.ErrWouldNot)
	}
	var word [8]byte
	if _, err := s.ReadAt(word[:], sp); err != nil {
		t.Error(err)
	}
	if st := testproc.State(int(child), int(child)); st != 't' {
		t.Errorf("the child, which has the same memory, is in state %c", st)
	}
	p.Send(t, "go on") // to the child, which cannot read it yet
	s.Close()
	if got := p.Recv(t); got != "ok" {
		t.Errorf("the parent says %q", got)
	}
	p.Cmd(t, "ping")
}

// A refusal comes before anything is stopped, and says why.
func TestTraced(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	tracer := p.CmdInts(t, "trace")[0]
	proc := open(t, p)
	if _, err := Take(t.Context(), proc, Options{Method: MethodStop}); !errors.Is(err, syscall.EPERM) {
		t.Errorf("stop: %v; want EPERM", err)
	}
	if st, err := proc.Status(); err != nil || st.TracerPID != int(tracer) {
		t.Errorf("tracer %v, %v; want %d", st, err, tracer)
	}
	s, err := live(proc, Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	p.Cmd(t, "ping")
	p.Cmd(t, "reap")
	stop(t, proc).Close()
}

// The end of the context ends the hold that is being made.
func TestStopCancelled(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	p.CmdInts(t, "vfork") // so that there is a thread to wait for
	cause := errors.New("stopped by a test")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := Take(ctx, open(t, p), Options{Method: MethodStop}); !errors.Is(err, cause) {
		t.Errorf("%v; want %v", err, cause)
	}
	p.Send(t, "go on")
	if got := p.Recv(t); got != "ok" {
		t.Errorf("the parent says %q", got)
	}
}

// A target that is killed is gone, for reading and for stopping.
func TestKilledTarget(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "anon")
	proc := open(t, p)
	s := stop(t, proc)
	anon := p.Map(t, "anon")
	buf := make([]byte, 4*procmem.PageSize)
	if _, err := s.ReadAt(buf, anon.Start); err != nil {
		t.Fatal(err)
	}
	p.Kill()
	testproc.Until(t, "the end of the target", func() bool {
		_, err := s.ReadAt(buf, anon.Start)
		if err != nil && !errors.Is(err, procmem.ErrGone) {
			t.Fatalf("read: %v; want %v", err, procmem.ErrGone)
		}
		return err != nil
	})
	s.Close()
	p.Wait()
	if _, err := Take(t.Context(), proc, Options{Method: MethodStop}); !errors.Is(err, syscall.ESRCH) && !errors.Is(err, procmem.ErrGone) {
		t.Errorf("stop: %v", err)
	}
}

// What is asked of a snapshot after its release is refused, not a panic.
func TestAfterRelease(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "anon,guard,secret")
	s := stop(t, open(t, p))
	tracer := s.tracer
	s.Release()
	buf := make([]byte, procmem.PageSize)
	for _, m := range p.Maps() {
		for i := range m.Pages() {
			s.ReadAt(buf, m.Page(i))
		}
	}
	tracer.Do(func() { t.Error("the tracer still works") })
	s.Close()
	s.Close()
}

// Each thread of a process that starts and ends threads all the time is held,
// and has registers.
func TestStorm(t *testing.T) {
	p := testproc.Start(t, testproc.Many, "storm", "20")
	proc := open(t, p)
	started := p.CmdInts(t, "storm")[0]
	for range 30 {
		s := stop(t, proc)
		for range 3 { // a thread that was overlooked starts others
			for _, tid := range p.TIDs() {
				if st := testproc.State(p.PID(), tid); st != 't' {
					t.Fatalf("held: thread %d is in state %q", tid, st)
				}
			}
		}
		for i := range s.Image().Threads {
			if th := &s.Image().Threads[i]; th.Err != nil || len(th.Regset(procmem.NTPRStatus)) == 0 {
				t.Errorf("thread %d: %v", th.TID, th.Err)
			}
		}
		if n := len(s.Image().Threads); n < 20 {
			t.Errorf("%d threads; want 20 or more", n)
		}
		s.Close()
	}
	testproc.Until(t, "the storm to go on", func() bool { return p.CmdInts(t, "storm")[0] > started })
}

// The threads of Threads and of Live.
func TestThreadsAndLive(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--only", "anon")
	p.WaitBlocked(t, 8)
	proc := open(t, p)
	img, pause, err := Threads(t.Context(), proc)
	if err != nil || len(img.Threads) != 9 || len(img.Mappings) == 0 || pause <= 0 {
		t.Fatalf("%d threads, pause %v, %v", len(img.Threads), pause, err)
	}
	p.WaitBlocked(t, 8)
	s, err := live(proc, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range s.Image().Threads {
		th := &s.Image().Threads[i]
		pc, _, ok := s.Image().Arch.PC(th)
		want := errOnlyBlocked
		if th.TID == p.TID(t, "zoo-6") {
			want = ptracer.ErrRunning
		}
		if !errors.Is(th.Err, want) || ok != (want == errOnlyBlocked) {
			t.Errorf("thread %s: pc %v, %v; want %v", th.Name, pc, th.Err, want)
		}
	}
}

// What was not told of a thread that was not stopped is no register of 0.
func TestLiveRegisters(t *testing.T) {
	for arch, call := range ptracer.SyscallRegs {
		pc, sp := arch.PCSP()
		words := make([]byte, arch.GPRSize())
		thread := &procmem.Thread{Regsets: []procmem.Regset{{Type: procmem.NTPRStatus, Data: words}}}
		count := func(what string, want int) {
			t.Helper()
			if got := LiveRegisters(arch, thread); len(got) != want {
				t.Errorf("%v, %s: %v, want %d of them", arch, what, got, want)
			}
		}
		count("on a processor", 0)
		words[arch.WordSize()*pc], words[arch.WordSize()*sp] = 1, 2
		count("in a system call", 9)
		for i := range arch.WordSize() {
			words[arch.WordSize()*call.Number+i] = 0xff
		}
		count("blocked outside of a system call", 2)
	}
	if got := LiveRegisters(procmem.AMD64, &procmem.Thread{}); got != nil {
		t.Errorf("of nothing: %v", got)
	}
}
