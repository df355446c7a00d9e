package inject

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"reflect"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/internal/testproc"
	"github.com/procmem/procmem/process"
)

// calling runs f with a caller on a process all of whose threads are held. The
// test does the work of a helper, which must be a process of its own only
// because the tool may be killed.
func calling(t testing.TB, p *process.Process, f func(c *Injector)) {
	t.Helper()
	tr := ptracer.New(p)
	defer tr.Release()
	c, err := New(p, tr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if err := tr.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	tr.Do(func() { f(c) })
}

// all returns the registers of all threads.
func all(c *Injector) (out []ptracer.Taken) {
	for _, tid := range c.t.Threads() {
		out = append(out, c.t.TakeOne(tid, Arch))
	}
	return out
}

// regsOf returns the registers of a held thread, as an Injector takes them.
func regsOf(t testing.TB, tid int) []byte {
	t.Helper()
	regs, err := getRegs(tid)
	if err != nil {
		t.Fatal(err)
	}
	return regs
}

// Every register set of a thread is the same before and after a call in it,
// and the call that was interrupted goes on.
func TestCallRestoresRegisters(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--only", "anon")
	p.WaitBlocked(t, 8)
	proc := open(t, p)
	before := testproc.TracesOf(t, p.PID())
	calls := 0
	for range 3 {
		calling(t, proc, func(c *Injector) {
			was := all(c)
			for _, th := range was {
				regs := regsOf(t, th.TID)
				if err := c.fit(th.TID, regs); err != nil {
					t.Errorf("thread %d: %v", th.TID, err)
					continue
				}
				res, err := c.call(th.TID, regs, unix.SYS_GETPPID)
				if err != nil || int(res.value) != os.Getpid() {
					t.Errorf("getppid in thread %d: %d, %v; want %d", th.TID, res.value, err, os.Getpid())
				}
				res, err = c.call(th.TID, regs, callClose, ^uint64(0))
				if err != nil || res.errno() != unix.EBADF {
					t.Errorf("close in thread %d: %v, %v; want EBADF", th.TID, res.errno(), err)
				}
				calls++
			}
			for i, th := range all(c) {
				if len(th.Regsets) < 3 {
					t.Errorf("thread %d: %d register sets; want general, floating point and xstate", th.TID, len(th.Regsets))
				}
				if !reflect.DeepEqual(th, was[i]) {
					t.Errorf("thread %d is\n%v\nand was\n%v", th.TID, th, was[i])
				}
			}
		})
	}
	if calls != 3*9 {
		t.Errorf("calls in %d threads; want 3 times 9", calls)
	}
	p.WaitBlocked(t, 8)
	if got := p.CmdInts(t, "wake"); got[1] != 0 {
		t.Errorf("registers around a system call changed %d times", got[1])
	}
	if got := p.CmdInts(t, "spin"); got[1] != 0 {
		t.Errorf("registers of a computation changed %d times", got[1])
	}
	if got := p.CmdInts(t, "returns"); got[0] > 3 { // epoll_wait
		t.Errorf("%d calls returned; want at most one for each of 3 stops", got[0])
	}
	testproc.UntouchedSince(t, p.PID(), before)
}

// A sleep that is interrupted by a call takes as long as it was to take.
func TestCallKeepsSleep(t *testing.T) {
	p := testproc.Start(t, testproc.Torture)
	proc := open(t, p)
	for range 20 {
		calling(t, proc, func(c *Injector) {
			for _, th := range all(c) {
				if regs := regsOf(t, th.TID); c.fit(th.TID, regs) == nil && c.t.Signal(th.TID) == 0 {
					if _, err := c.call(th.TID, regs, unix.SYS_GETPPID); err != nil && err != ErrSignalled {
						t.Error(err)
					}
				}
			}
		})
	}
	if wrong, counts := p.Check(t); wrong != "" {
		t.Errorf("the target says %s; all its counts: %v", wrong, counts)
	}
}

// An exec after the place of the instruction was found does not have another
// program called there, which would kill it.
func TestExecBeforeCall(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	proc := open(t, p)
	for range 3 {
		tr := ptracer.New(proc)
		c, err := New(proc, tr)
		if err != nil {
			t.Fatal(err)
		}
		p.Send(t, "exec %s", testproc.Build(t, testproc.Kids))
		p.ReadFacts(t)
		if err := tr.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		tr.Do(func() {
			err = c.one(func(tid int, regs []byte) error {
				_, err := c.call(tid, regs, unix.SYS_GETPPID)
				return err
			})
		})
		tr.Release()
		c.close()
		if !errors.Is(err, ErrExec) {
			t.Errorf("%v; want %v", err, ErrExec)
		}
		p.Cmd(t, "ping")
	}
}

// queue sends a signal with a value to a thread.
func queue(pid, tid int, sig syscall.Signal, value int64) error {
	info := struct {
		signo, errno, code, _ int32
		pid, uid              int32
		value                 int64
		_                     [96]byte
	}{signo: int32(sig), code: -1 /* SI_QUEUE */, pid: int32(os.Getpid()), value: value}
	if _, _, e := unix.Syscall6(unix.SYS_RT_TGSIGQUEUEINFO, uintptr(pid), uintptr(tid), uintptr(sig), uintptr(unsafe.Pointer(&info)), 0, 0); e != 0 {
		return e
	}
	return nil
}

// A signal that comes first ends the attempt, and is taken by the thread when
// it goes on.
func TestSignalBeforeCall(t *testing.T) {
	p := testproc.Start(t, testproc.Signals)
	proc := open(t, p)
	tid := p.Threads[0].TID
	rtmin := syscall.Signal(p.Int(t, "rtmin"))
	calling(t, proc, func(c *Injector) {
		regs, err := getRegs(tid)
		if err != nil {
			t.Fatal(err)
		}
		tgkill(t, p.PID(), tid, rtmin)
		if _, err := c.call(tid, regs, unix.SYS_GETPPID); err != ErrSignalled {
			t.Errorf("%v; want %v", err, ErrSignalled)
		}
		if after, _ := getRegs(tid); !bytes.Equal(after, regs) {
			t.Error("the registers are not restored")
		}
	})
	p.WantCounts(t, testproc.Counts{RT: [8]int64{1}})
}

// A thread in a restartable sequence is not one to run a call in: the kernel
// would forget that it is.
func TestCriticalSection(t *testing.T) {
	p := testproc.Start(t, testproc.Torture)
	proc := open(t, p)
	in, out := 0, 0
	testproc.Until(t, "a thread to be stopped in a restartable sequence", func() bool {
		calling(t, proc, func(c *Injector) {
			for _, name := range []string{"rseq-1", "rseq-2", "spin", "in-futex"} {
				tid := p.TID(t, name)
				if !c.t.Held(tid) {
					continue
				}
				regs, err := getRegs(tid)
				if err != nil {
					t.Fatal(err)
				}
				start, end, err := sys.CriticalSection(tid, func(b []byte, addr uint64) error {
					_, err := c.mem.ReadAt(b, int64(addr))
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				st := c.state(regs)
				inside := !st.blocked && st.pc >= start && st.pc < end
				if got := c.fit(tid, regs); (got == errRseq) != inside {
					t.Errorf("at %#x, sequence %#x to %#x, blocked %v: %v", st.pc, start, end, st.blocked, got)
				}
				if inside {
					in++
				} else {
					out++
				}
			}
		})
		return in > 0 && out > 0
	})
	t.Logf("%d times inside, %d outside", in, out)
	if wrong, _ := p.Check(t); wrong != "" {
		t.Error(wrong)
	}
}

// The instruction is found in the vDSO of every kind of program, and refused
// where code is not of this machine.
func TestFindInstruction(t *testing.T) {
	for _, tc := range testproc.Toolchains() {
		t.Run(string(tc), func(t *testing.T) {
			p := testproc.Start(t, testproc.Kids.With(tc))
			proc := open(t, p)
			tr := ptracer.New(proc)
			defer tr.Release()
			c, err := New(proc, tr)
			if tc == testproc.M32 {
				if err == nil {
					t.Error("calls are made in a 32-bit program")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer c.close()
			maps, err := proc.Mappings()
			if err != nil {
				t.Fatal(err)
			}
			i := procmem.FindMapping(maps, procmem.Addr(c.pc))
			code := make([]byte, len(callInstruction))
			c.mem.ReadAt(code, int64(c.pc))
			if i == len(maps) || maps[i].Path != "[vdso]" || string(code) != callInstruction {
				t.Errorf("%#x holds %x", c.pc, code)
			}
		})
	}
}

// A result tells an error from a value.
func TestResult(t *testing.T) {
	for _, c := range []struct {
		value uint64
		want  unix.Errno
	}{{0, 0}, {7, 0}, {^uint64(0), unix.EPERM}, {1<<64 - 4095, 4095}, {1<<64 - 4096, 0}, {1 << 63, 0}} {
		if got := (result{value: c.value}).errno(); got != c.want {
			t.Errorf("%#x: %d; want %d", c.value, got, c.want)
		}
	}
}

func tgkill(t testing.TB, pid, tid int, sig syscall.Signal) {
	t.Helper()
	if err := unix.Tgkill(pid, tid, sig); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, p *testproc.Proc) *process.Process {
	t.Helper()
	proc, err := process.Open(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proc.Close() })
	return proc
}

// held runs f with an injector while all threads are held, again where none of them is
// fit for a call.
func held(t testing.TB, proc *process.Process, f func(h *helper, c *Injector) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	h := &helper{p: proc, ctx: ctx, enc: gob.NewEncoder(io.Discard)}
	return h.held(func(c *Injector) error { return f(h, c) })
}

// Signals that come while an agent is born and reaped arrive once, with their
// values, and nothing is left.
func TestSignalsMeanwhile(t *testing.T) {
	p := testproc.Start(t, testproc.Signals)
	proc := open(t, p)
	before := testproc.TracesOf(t, p.PID())
	tid, rtmin := p.Threads[0].TID, syscall.Signal(p.Int(t, "rtmin"))
	var sent, sum int64
	for range 300 {
		// One signal, at any moment from now on.
		done := make(chan error)
		go func() {
			for range rand.IntN(4000) {
				unix.Getpid()
			}
			sent++
			sum += sent
			done <- queue(p.PID(), tid, rtmin, sent)
		}()
		err := held(t, proc, func(h *helper, c *Injector) error {
			return h.withAgent(c, func(a *agent) error {
				fd, err := a.userfaultfd()
				if err == nil {
					unix.Close(fd)
				}
				return err
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	testproc.Until(t, "the signals to arrive", func() bool { return p.CmdInts(t, "counts")[1] >= sent })
	c := p.CmdInts(t, "counts")
	if got := c[len(c)-2]; c[1] != sent || got != sum {
		t.Errorf("%d signals, the values of which come to %d; want %d, %d", c[1], got, sent, sum)
	}
	testproc.UntouchedSince(t, p.PID(), before)
}

// A task of ours that is killed as soon as it is made does not stay as a zombie.
func TestAgentKilledAtOnce(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	proc := open(t, p)
	before := testproc.TracesOf(t, p.PID())
	for _, when := range []string{"at birth", "before a call"} {
		err := held(t, proc, func(h *helper, c *Injector) error {
			kill := func(pid int) {
				syscall.Kill(pid, syscall.SIGKILL)
				testproc.Until(t, "the task to end", func() bool { return testproc.State(pid, pid) == 'Z' })
			}
			left, err := c.withAgent(func(f Forked) {
				if when == "at birth" {
					kill(f.PID)
				}
			}, func(a *agent) error {
				kill(a.PID)
				_, err := a.userfaultfd()
				return err
			})
			if left != nil {
				t.Errorf("%s: left %v", when, left)
			}
			return err
		})
		if !errors.Is(err, errAgentLost) {
			t.Errorf("%s: %v; want %v", when, err, errAgentLost)
		}
	}
	testproc.UntouchedSince(t, p.PID(), before)
	p.Cmd(t, "ping")
}

// A call that is not the requested one is prevented, whatever instruction has been put there.
func TestForeignCall(t *testing.T) {
	p, gadgets := testproc.Start(t, testproc.Hunter), []string{"gadget-other", "gadget-int80", "gadget-spin"}
	if Arch == procmem.ARM64 { // where the instruction is for threads in user mode
		p, gadgets = testproc.Start(t, testproc.Hunter, "--tables"), []string{"gadget-other", "gadget-spin"}
	}
	proc := open(t, p)
	for _, gadget := range gadgets {
		calling(t, proc, func(c *Injector) {
			was := all(c)
			c.pc = uint64(p.Addr(t, gadget))
			if _, err := c.call(p.PID(), regsOf(t, p.PID()), unix.SYS_GETPPID); err != errForeign {
				t.Errorf("%s: %v; want %v", gadget, err, errForeign)
			}
			if now := all(c); !reflect.DeepEqual(now, was) {
				t.Errorf("%s: the thread is\n%v\nand was\n%v", gadget, now, was)
			}
		})
		if left := p.CmdInts(t, "alarm")[0]; left != 0 {
			t.Errorf("%s: another call was made", gadget)
		}
	}
}

// The vDSO is the mapping that the kernel calls so, whatever the auxiliary vector
// says; one that its process may write to is not used.
func TestOwnVDSO(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	proc := open(t, p)
	p.Cmd(t, "auxv 0x1000")
	calling(t, proc, func(c *Injector) {
		maps, err := proc.Mappings()
		i := procmem.FindMapping(maps, procmem.Addr(c.pc))
		if err != nil || i == len(maps) || maps[i].Path != "[vdso]" {
			t.Errorf("%#x is not in the vDSO, %v", c.pc, err)
		}
	})
	p.Cmd(t, "vdso")
	tr := ptracer.New(proc)
	defer tr.Release()
	if _, err := New(proc, tr); !errors.Is(err, errOwnVDSO) {
		t.Errorf("%v; want %v", err, errOwnVDSO)
	}
}

// An agent runs after all if its helper is killed at its birth. It then ends itself and nothing
// else, even where the target handles SIGSEGV.
func TestAgentThatRuns(t *testing.T) {
	for _, v := range []testproc.Variant{testproc.Torture, testproc.GoProg} {
		p := testproc.Start(t, v)
		proc := open(t, p)
		before := testproc.TracesOf(t, p.PID())
		for range 20 {
			err := held(t, proc, func(h *helper, c *Injector) error {
				var a *agent
				err := c.one(func(tid int, regs []byte) (err error) {
					a, err = c.bear(tid, regs)
					return err
				})
				if a == nil {
					return err
				}
				a.stop()
				if err := sys.Detach(a.PID, 0); err != nil {
					t.Error(err)
				}
				testproc.Until(t, "the agent to end", func() bool { return testproc.State(a.PID, a.PID) == 'Z' })
				return c.one(func(tid int, regs []byte) error { return a.waitIn(c, tid, regs) })
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		p.Cmd(t, "ping")
		if v == testproc.Torture {
			if wrong, counts := p.Check(t); wrong != "" {
				t.Errorf("the target says %s; all its counts: %v", wrong, counts)
			}
		}
		testproc.UntouchedSince(t, p.PID(), before)
	}
}
