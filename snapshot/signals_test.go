package snapshot

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/testproc"
)

// counts are the signals that the helper has handled.
type counts struct {
	usr1     int64
	rt       [8]int64
	spurious int64
}

func readCounts(t testing.TB, p *testproc.Proc) (c counts) {
	t.Helper()
	n := p.CmdInts(t, "counts")
	c.usr1, c.spurious = n[0], n[len(n)-1]
	copy(c.rt[:], n[1:9])
	return c
}

// wantCounts waits until the signals have been handled, and for any that
// come twice a little longer.
func wantCounts(t testing.TB, p *testproc.Proc, want counts) {
	t.Helper()
	var got counts
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if got = readCounts(t, p); got == want {
			break
		}
	}
	p.Cmd(t, "ping")
	if got = readCounts(t, p); got != want {
		t.Fatalf("signals: %+v; want %+v", got, want)
	}
}

func tgkill(t testing.TB, pid, tid int, sig syscall.Signal) {
	t.Helper()
	if err := unix.Tgkill(pid, tid, sig); err != nil {
		t.Fatal(err)
	}
}

// A signal that is about to be delivered when a thread stops is delivered
// when it goes on, also where that is because the tracer was killed.
func TestSignalAboutToBeDelivered(t *testing.T) {
	for _, end := range []string{"release", "kill"} {
		t.Run(end, func(t *testing.T) {
			p := testproc.Start(t, testproc.Signals)
			usr1, rtmin := syscall.Signal(p.Int(t, "usr1")), syscall.Signal(p.Int(t, "rtmin"))
			s := beginSteps(t, p.PID())
			s.expect("seized")
			for i, th := range p.Threads {
				tgkill(t, p.PID(), th.TID, rtmin+syscall.Signal(i))
				testproc.Until(t, "the signal to stop the thread", func() bool {
					return testproc.State(p.PID(), th.TID) == 't'
				})
				tgkill(t, p.PID(), th.TID, rtmin+syscall.Signal(i)) // and one that waits behind it
			}
			s.next()
			s.expect("held")
			tgkill(t, p.PID(), p.Threads[0].TID, usr1)
			if end == "kill" {
				s.kill()
			} else {
				s.next()
				s.cmd.Wait()
			}
			wantCounts(t, p, counts{usr1: 1, rt: [8]int64{2, 2, 2}})
		})
	}
	_ = fmt.Sprint
}
