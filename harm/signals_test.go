package harm

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/procmem/procmem/internal/testproc"
)

// flood has children of the helper signals send n signals of each realtime
// kind but the last, by turns to the process and to its threads. It returns
// the senders, which end by themselves.
func flood(t testing.TB, p *testproc.Proc, n int) (senders []int) {
	t.Helper()
	for kind := range 7 {
		to := ""
		if k := kind % (len(p.Threads) + 1); k > 0 {
			to = fmt.Sprint(p.Threads[k-1].TID)
		}
		var pid int
		if _, err := fmt.Sscan(p.Cmd(t, "send rt%d %d %s", kind, n, to), &pid); err != nil {
			t.Fatal(err)
		}
		senders = append(senders, pid)
	}
	return senders
}

// settled waits until the senders have ended and checks that each signal was
// handled once, and that no call was interrupted by anything but a handler.
func settled(t testing.TB, p *testproc.Proc, senders []int, each int64) {
	t.Helper()
	for _, pid := range senders {
		testproc.Until(t, "the senders to end", func() bool { return testproc.State(pid, pid) == 0 })
	}
	var counts []int64
	want := fmt.Sprint(repeat(each, 7))
	enough := func() bool {
		counts = p.CmdInts(t, "counts")
		for _, c := range counts[1:8] {
			if c < each {
				return false
			}
		}
		return true
	}
	// What is queued is delivered within a few times that the threads run.
	for range 2000 {
		if enough() {
			break
		}
		syscall.Select(0, nil, nil, nil, &syscall.Timeval{Usec: 1000})
	}
	if got := fmt.Sprint(counts[1:8]); got != want {
		t.Errorf("realtime signals handled: %v; want %v", got, want)
	}
	if spurious := counts[len(counts)-1]; spurious != 0 {
		t.Errorf("%d calls were interrupted without a signal", spurious)
	}
}

func repeat(v int64, n int) (out []int64) {
	for range n {
		out = append(out, v)
	}
	return out
}

// A tracer that is killed while a signal is about to be delivered must not
// take the signal along.
func TestKilledTracerLosesNoSignal(t *testing.T) {
	p := testproc.Start(t, testproc.Signals)
	const trials, each = 30, 200
	for range trials {
		senders := flood(t, p, each)
		b, _ := beginStuck(t, p.PID(), "core", "-o", "-", p.PID())
		b.signal(syscall.SIGKILL)
		b.wait(t)
		unharmed(t, p)
		for _, pid := range senders {
			testproc.Until(t, "the senders to end", func() bool { return testproc.State(pid, pid) == 0 })
		}
	}
	settled(t, p, nil, trials*each)
	_ = os.Stdin
	_ = strings.Join
}
