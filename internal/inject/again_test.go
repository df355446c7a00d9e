package inject

import (
	"bytes"
	"fmt"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/testproc"
)

// waits are the calls of the program's only thread: with their numbers, and what they return
// when their time is over.
var waits = []struct {
	name   string
	number int
	timed  bool
	result int64 // when the time is over
	again  bool  // begins again after a handler with SA_RESTART
}{
	{"nanosleep", unix.SYS_NANOSLEEP, true, 0, false},
	{"clock_nanosleep", unix.SYS_CLOCK_NANOSLEEP, true, 0, false},
	{"ppoll", unix.SYS_PPOLL, true, 0, false},
	{"futex-time", unix.SYS_FUTEX, true, -int64(unix.ETIMEDOUT), false},
	{"futex", unix.SYS_FUTEX, false, 0, true},
	{"sigsuspend", unix.SYS_RT_SIGSUSPEND, false, 0, false},
	{"read", unix.SYS_READ, false, 0, true},
}

// inCall has the only thread make a call, with all its registers as they were.
func inCall(t *testing.T, c *Injector, tid int) {
	t.Helper()
	before := c.t.TakeOne(tid, Arch)
	for range 2 {
		regs := regsOf(t, tid)
		if _, err := c.call(tid, regs, unix.SYS_GETPPID); err != nil {
			t.Error(err)
		}
		if after := regsOf(t, tid); !bytes.Equal(after, regs) {
			t.Errorf("the registers are\n%x\nand were\n%x", after, regs)
		}
	}
	if after := c.t.TakeOne(tid, Arch); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the thread is\n%v\nand was\n%v", after, before)
	}
}

// A call that waits for a time ends when the time is over, however often the thread makes calls
// of ours meanwhile.
func TestTimeThatIsLeft(t *testing.T) {
	const ms, bound = 2000, 20 * time.Second
	for _, w := range waits {
		if !w.timed {
			continue
		}
		t.Run(w.name, func(t *testing.T) {
			p := testproc.Start(t, testproc.Kids)
			proc := open(t, p)
			p.Cmd(t, "wait %s %d", w.name, ms)
			calls := 0
			for began := time.Now(); ; {
				sc, err := proc.ThreadSyscall(p.PID())
				if err == nil && !sc.Running && sc.Number == unix.SYS_READ {
					break
				}
				if time.Since(began) > bound {
					t.Fatalf("it waits for %d ms, and has not ended after %v and %d calls", ms, bound, calls)
				}
				if err != nil || sc.Running || sc.Number < 0 {
					continue
				}
				calling(t, proc, func(c *Injector) {
					if c.state(regsOf(t, p.PID())).blocked {
						inCall(t, c, p.PID())
						calls++
					}
				})
			}
			var result, handled, took int64
			if line := p.Recv(t); !scan(line, &result, &handled, &took) || result != w.result || handled != 0 || took < ms {
				t.Errorf("%q; want done %d 0 and %d ms at least", line, w.result, ms)
			}
			if calls < 2 {
				t.Errorf("%d calls meanwhile; want more", calls)
			}
		})
	}
}

func scan(line string, result, handled, ms *int64) bool {
	n, err := fmt.Sscanf(line, "done %d %d %d", result, handled, ms)
	return err == nil && n == 3
}

// A signal that comes after a call of ours, and before the thread goes on, ends the call of its own
// as it would have without ours: with EINTR, or not at all.
func TestSignalAfterCall(t *testing.T) {
	for _, w := range waits {
		for _, sig := range []syscall.Signal{unix.SIGUSR1, unix.SIGUSR2} {
			t.Run(fmt.Sprintf("%s %v", w.name, sig), func(t *testing.T) {
				p := testproc.Start(t, testproc.Kids)
				proc := open(t, p)
				blocked := func() bool {
					sc, err := proc.ThreadSyscall(p.PID())
					return err == nil && !sc.Running && (sc.Number == w.number || sc.Number == unix.SYS_RESTART_SYSCALL)
				}
				p.Cmd(t, "wait %s 600000", w.name)
				testproc.Until(t, "the call", blocked)
				want := int64(1)
				for _, now := range []syscall.Signal{sig, unix.SIGUSR2} {
					calling(t, proc, func(c *Injector) {
						inCall(t, c, p.PID())
						tgkill(t, p.PID(), p.PID(), now)
					})
					if sig != unix.SIGUSR1 || !w.again || want == 2 {
						break
					}
					testproc.Until(t, "the call to begin again", func() bool {
						st, err := proc.Status()
						return err == nil && st.SigPending == 0 && blocked()
					})
					want = 2
				}
				var result, handled, ms int64
				if line := p.Recv(t); !scan(line, &result, &handled, &ms) || result != -int64(unix.EINTR) || handled != want {
					t.Errorf("%q; want done %d %d", line, -int64(unix.EINTR), want)
				}
			})
		}
	}
}
