package harm

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/procmem/procmem/internal/testproc"
)

// Signals that are sent all the time, to the process and to its threads, each
// arrive once, while procmem attaches, holds, lets go, and is killed.
func TestSignalsArriveOnce(t *testing.T) {
	p := testproc.Start(t, testproc.Signals, "--ballast", ballast)
	const each = 1500
	var senders []int
	flood := func() {
		for kind := range 7 {
			to := ""
			if k := kind % (len(p.Threads) + 1); k > 0 {
				to = fmt.Sprint(p.Threads[k-1].TID)
			}
			senders = append(senders, int(p.CmdInts(t, "send rt%d %d %s", kind, each, to)[0]))
		}
	}
	rounds := 0
	for ; rounds < 3; rounds++ {
		flood()
		for trial := 0; testproc.State(senders[len(senders)-1], senders[len(senders)-1]) != 0; trial++ {
			beginHolding(t, p.PID(), "core").end(t, []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM}[trial%2])
			call(t, "threads", p.PID()).want(t, 0, "")
		}
	}
	for _, pid := range senders {
		testproc.Until(t, "the senders to end", func() bool { return testproc.State(pid, pid) == 0 })
	}
	// A signal to the process waits until a thread takes it.
	for i := range 20 {
		b := beginHolding(t, p.PID(), "core")
		syscall.Kill(p.PID(), syscall.Signal(p.Int(t, "usr1")))
		b.end(t, []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM}[i%2])
		testproc.Until(t, "SIGUSR1", func() bool { return p.CmdInts(t, "counts")[0] > int64(i) })
	}
	unharmed(t, p)

	want := make([]int64, 7)
	for i := range want {
		want[i] = int64(rounds) * each
	}
	var counts []int64
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if counts = p.CmdInts(t, "counts"); fmt.Sprint(counts[1:8]) == fmt.Sprint(want) {
			break
		}
	}
	if got := fmt.Sprint(counts[1:8]); got != fmt.Sprint(want) || counts[0] != 20 {
		t.Errorf("signals handled: usr1 %d, rt %v; want 20, %v", counts[0], got, want)
	}
	if sum, want := counts[9], int64(7*rounds*each*(each+1)/2); sum != want {
		t.Errorf("sum of their values %d; want %d", sum, want)
	}
	if spurious := counts[10]; spurious != 0 {
		t.Errorf("%d calls were interrupted without a signal", spurious)
	}
}

// Signals that are sent while a moment is taken arrive once as well, and
// interrupt nothing that they would not have interrupted.
func TestSignalsMeanwhile(t *testing.T) {
	forEachMethod(t, allMethods, func(t *testing.T, method string) {
		p := testproc.Start(t, testproc.Signals)
		const each = 3000
		want := fmt.Sprint([]int{each, each, each, each})
		var senders []int
		for kind := range 4 {
			to := ""
			if kind > 0 {
				to = fmt.Sprint(p.Threads[kind-1].TID)
			}
			senders = append(senders, int(p.CmdInts(t, "send rt%d %d %s", kind, each, to)[0]))
		}
		cores := 0
		for ; testproc.State(senders[3], senders[3]) != 0 || cores < 5; cores++ {
			c := take(t, p.PID(), method)
			c.want(t, 0, "^$")
			c.done(t)
		}
		var counts []int64
		testproc.Until(t, "all signals", func() bool {
			counts = p.CmdInts(t, "counts")
			return fmt.Sprint(counts[1:5]) == want
		})
		if sum := int64(4 * each * (each + 1) / 2); counts[9] != sum || counts[10] != 0 {
			t.Errorf("sum of their values %d, want %d; %d calls were interrupted without a signal", counts[9], sum, counts[10])
		}
		unharmed(t, p)
		t.Logf("%d cores", cores)
	})
}

// A target that is stopped stays so, whatever the method.
func TestStoppedTargetStaysSo(t *testing.T) {
	forEachMethod(t, allMethods, func(t *testing.T, method string) {
		p := testproc.Start(t, testproc.Zoo, "--only", "anon")
		before := look(t, p.PID())
		syscall.Kill(p.PID(), syscall.SIGSTOP)
		isStopped := func() bool { return stopped(p.PID()) }
		testproc.Until(t, "SIGSTOP", isStopped)
		explained(t, p, method)
		testproc.Until(t, "the target to be stopped as before", isStopped)
		syscall.Kill(p.PID(), syscall.SIGCONT)
		undone(t, p.PID(), before)
		unharmed(t, p)
		if n := p.CmdInts(t, "spin")[1] + p.CmdInts(t, "wake")[1]; n != 0 {
			t.Errorf("registers have changed %d times", n)
		}
	})
}

// A stopped target is stopped afterwards, and goes on when it is told.
func TestStoppedTarget(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "anon", "--ballast", ballast)
	p.WaitBlocked(t, 9)
	stopped := func() bool { return stopped(p.PID()) }
	syscall.Kill(p.PID(), syscall.SIGSTOP)
	testproc.Until(t, "SIGSTOP", stopped)
	dir := t.TempDir()
	for _, args := range [][]any{{"core", "-o", dir + "/core", p.PID()}, {"dump", "-o", dir + "/dump", p.PID()},
		{"threads", p.PID()}, {"core", "--method", "live", "-o", dir + "/live", p.PID()}} {
		call(t, args...).want(t, 0, "^$")
		// A thread that is let go takes a moment, in which it runs nothing.
		testproc.Until(t, fmt.Sprint("the target to be stopped as before ", args), stopped)
	}
	beginHolding(t, p.PID(), "core").end(t, syscall.SIGKILL)
	testproc.Until(t, "the target to be as it was", stopped)
	syscall.Kill(p.PID(), syscall.SIGCONT)
	unharmed(t, p)

	for _, c := range []struct {
		during []syscall.Signal
		stops  bool
	}{{[]syscall.Signal{syscall.SIGSTOP}, true}, {[]syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT}, false}} {
		for _, end := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
			b := beginHolding(t, p.PID(), "core")
			for _, sig := range c.during {
				syscall.Kill(p.PID(), sig)
			}
			b.end(t, end)
			if c.stops {
				testproc.Until(t, "the SIGSTOP that was sent meanwhile", stopped)
				syscall.Kill(p.PID(), syscall.SIGCONT)
			}
			unharmed(t, p)
		}
	}
}

// All threads of a running target are where they were, after every command.
func TestEveryCommand(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--memfd", "1M")
	p.WaitBlocked(t, 8)
	dir := t.TempDir()
	path := fmt.Sprintf("%s/core.%d", dir, p.PID())
	stops := int64(0)
	for _, args := range [][]any{
		{"maps", p.PID()}, {"doctor", p.PID()}, {"info", p.PID()}, {"read", p.PID(), p.Map(t, "anon").Range},
		{"core", "--method", "live", "-o", dir + "/live", p.PID()}, {"dump", "--method", "live", "-o", dir + "/ld", p.PID()},
		{"threads", p.PID()}, {"core", "-o", dir + "/core", p.PID()}, {"dump", "-o", dir + "/d", p.PID()},
	} {
		if args[0] == "info" {
			args[1] = dir // a folder is no target
		}
		before := p.CmdInts(t, "returns")[0]
		call(t, args...)
		unharmed(t, p)
		if n := p.CmdInts(t, "returns")[0]; n > before {
			stops += n - before
			if args[0] == "maps" || args[0] == "doctor" || args[0] == "read" || args[1] == "--method" {
				t.Errorf("%v has stopped the target", args)
			}
		}
	}
	if stops == 0 || stops > 3 {
		t.Errorf("epoll_wait has returned %d times; want once for each of 3 holds at most, and not never", stops)
	}
	openCore(t, path)
	spins := p.CmdInts(t, "spin")[0]
	testproc.Until(t, "the thread that computes", func() bool { return p.CmdInts(t, "spin")[0] > spins })
	if n := p.CmdInts(t, "spin")[1] + p.CmdInts(t, "wake")[1]; n != 0 {
		t.Errorf("registers have changed %d times", n)
	}
}
