package snapshot

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/testproc"
)

// A signal that is about to be delivered when a thread stops is delivered when the thread goes
// on. That holds where the tracer was killed, too.
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
			p.WantCounts(t, testproc.Counts{USR1: 1, RT: [8]int64{2, 2, 2}})
		})
	}
}

func tgkill(t testing.TB, pid, tid int, sig syscall.Signal) {
	t.Helper()
	if err := unix.Tgkill(pid, tid, sig); err != nil {
		t.Fatal(err)
	}
}
