package inject

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/procfs"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// agent is a task of our own in the target. It shares the target's memory. It makes the calls
// whose results (descriptors, a child) must not reach a task of the target. It is stopped from
// its birth on and runs no instruction but that of its calls. Its table of files is its own,
// and empty. It ends with us (PTRACE_O_EXITKILL), which no thread of the target could. So only
// its birth and its burial can harm the target.
type agent struct {
	Forked
	c        *Injector
	regs     []byte
	filtered bool
}

// withAgent has f work with an agent that a held thread gives birth to. All threads must be
// held, or one of them could wait for the agent (wait4(2), __WALL). born is called with the
// agent as soon as it ends with us, and before it does anything. A non-nil left is still to be
// reaped, by a thread that is not about to take a signal.
func (c *Injector) withAgent(born func(Forked), f func(*agent) error) (left *Forked, err error) {
	if err := c.allHeld(); err != nil {
		return nil, err
	}
	var a *agent
	err = c.one(func(tid int, regs []byte) (err error) {
		a, err = c.bear(tid, regs)
		return err
	})
	if a == nil {
		return nil, err
	}
	if err == nil {
		err = a.stands()
	}
	born(a.Forked)
	if err == nil {
		err = a.prepare()
	}
	if err == nil {
		err = f(a)
	}
	err = errors.Join(err, a.end())
	if a.bury() != nil {
		left = &a.Forked
	}
	return left, err
}

// bury has a thread of the target take the news that the task has ended. All threads are held.
// Once we have waited for the task, its news is the target's. Any thread of the target that
// goes on and waits gets it.
func (a *agent) bury() error {
	a.take()
	return a.c.bury(&a.Forked)
}

// bury has a held thread of the target take the news of a task that has ended and that we have
// waited for already. A failure without a lasting reason is tried again.
func (c *Injector) bury(f *Forked) (err error) {
	for tries := 0; tries < buryTries; tries++ {
		err = c.one(func(tid int, regs []byte) error { return f.waitIn(c, tid, regs) })
		if err == nil || errors.Is(err, ErrFrozen) || slices.Contains(lasting, err) && !c.mayAnswer(err) {
			return err
		}
		if errors.Is(err, ErrSignalled) { // there are as many signals as the target likes
			tries += 9
		}
		if errors.Is(err, ErrExec) { // probably it has executed a program, and then waits for nothing
			tries += 4
		}
		sys.Nap(time.Millisecond)
	}
	return err
}

// buryTries is the number of attempts to bury a task, a millisecond apart.
const buryTries = 50

// lasting are the reasons why no call can be made as long as all threads are held.
var lasting = []error{procmem.ErrGone, ErrSignalled, errNotStopped, errCodeMode, errDispatch, errShadow, errRseq}

// mayAnswer reports whether a held thread may still make a call, although no thread was found
// or the one found did not answer. It tells a passing failure of ptrace(2) from a lasting one.
// The kernel refuses such requests for moments.
func (c *Injector) mayAnswer(err error) bool {
	return (errors.Is(err, errNotStopped) || errors.Is(err, procmem.ErrGone) || errors.Is(err, ErrSignalled)) && c.t.Process().Exists() &&
		slices.ContainsFunc(c.t.Threads(), func(tid int) bool { return c.t.Held(tid) && c.t.Signal(tid) == 0 })
}

// allHeld returns errNotStopped if a thread that was given up may run code of its own. One that
// waits in the kernel takes its stop first.
func (c *Injector) allHeld() error {
	for tid := range c.t.GivenUp() {
		st, err := c.t.Process().ThreadStat(tid)
		if err == nil && st.State != 'D' && st.State != 't' && !st.Zombie() {
			return errNotStopped
		}
	}
	return nil
}

// bear has a thread of the target make an agent.
func (c *Injector) bear(tid int, regs []byte) (*agent, error) {
	if err := c.t.Process().CheckChildNamespaces(tid); err != nil {
		return nil, err
	}
	filtered, err := c.filtered(tid)
	if err != nil {
		return nil, err
	}
	// The agent is born with the registers of the thread. The code after the call in the vDSO
	// may take the stack pointer from any of them.
	res, err := c.callWith(strayRegs(regs), tid, regs, callClone, unix.CLONE_VM|unix.CLONE_FILES, noStack, 0, 0, 0)
	if res.child != 0 {
		return &agent{Forked: Forked{res.child, int(res.value)}, c: c, filtered: filtered}, err
	}
	if err == nil {
		err = cloneError(res.errno())
	}
	return nil, err
}

// cloneError returns an error that explains the errno of clone(2) in the target.
func cloneError(e unix.Errno) error {
	switch e {
	case 0:
		return errors.New("a clone in the target made no child")
	case unix.EAGAIN:
		return fmt.Errorf("its limits allow no other process (RLIMIT_NPROC, or a pids control group): %w", e)
	case unix.ENOMEM:
		return fmt.Errorf("its limits leave no memory for a copy (a memory control group, or vm.overcommit_memory): %w", e)
	}
	return e
}

// prepare gives the agent, which has stopped, a table of files of its own. Until then it shares
// the target's. With its own table, it keeps no file of the target open, and flushes none when
// it ends.
func (a *agent) prepare() (err error) {
	const all = 1<<32 - 1
	res, err := a.call(callCloseRange, 0, all, unix.CLOSE_RANGE_UNSHARE)
	if err == nil && res.errno() != 0 {
		err = fmt.Errorf("close_range(2) in the target: %w", res.errno()) // of kernel 5.9
	}
	return err
}

// call has the agent make one system call.
func (a *agent) call(number uint64, args ...uint64) (result, error) {
	if a.regs == nil {
		return result{}, errAgentLost
	}
	x := execution{wait: a.stop, tid: a.PID, filtered: a.filtered, ours: true}
	res, err := x.run(callRegs(a.regs, a.c.pc, number, args...), a.c.pc, request{number, args})
	if errors.Is(err, procmem.ErrGone) {
		err = fmt.Errorf("%w (in system call %d)", errAgentLost, number)
	}
	return res, err
}

// errAgentLost reports that a task of ours was ended by others.
var errAgentLost = errors.New("a task of procmem in the target was ended as soon as it was made")

// agentPatience is how long a task of ours may wait for something on its way to its next stop.
// A fork takes as long as copying page tables takes, but waits for nothing, unless it waits for
// a held task.
const agentPatience = 2 * time.Second

// Forked is a task that was made in the target, a child of it.
type Forked struct {
	PID   int // its id in our pid namespace
	Inner int // its id in the target's
}

// errAgentWaits reports that a task of ours waits in a call.
var errAgentWaits = errors.New("a task of procmem in the target waits for something in the middle of a system call")

// stop waits until the task has stopped or ended.
func (a *agent) stop() (unix.WaitStatus, error) {
	var waits time.Time // since when; zero: it does not wait
	return a.c.t.Await(a.PID, func() error {
		switch {
		case !a.waits():
			waits = time.Time{}
		case waits.IsZero():
			waits = time.Now()
		case time.Since(waits) > agentPatience:
			return errAgentWaits
		}
		return nil
	})
}

// waits reports whether the task waits for something. Otherwise it is at a stop, or on its way
// to a stop or to a processor.
func (a *agent) waits() bool {
	file, err := os.Open(privilege.ProcPath(a.PID, "stat"))
	if err != nil {
		return false
	}
	defer file.Close()
	st, err := procfs.ParseStat(file)
	return err == nil && (st.State == 'S' || st.State == 'D')
}

// frozen reports whether a control group has the task frozen.
func (a *agent) frozen() bool {
	p, err := process.Open(a.PID)
	if err != nil {
		return false
	}
	defer p.Close()
	return p.Frozen() != ""
}

// stands waits until the task has come to the stop before its first instruction, and sets it to
// end with us.
func (a *agent) stands() error {
	status, err := a.stop()
	if errors.Is(err, errAgentWaits) {
		return err
	}
	if err == nil && status.Stopped() {
		err = ptracer.Persist(a.PID, func() error { return sys.SetOptions(a.PID, unix.PTRACE_O_EXITKILL) })
	}
	if err == nil {
		a.regs, err = getRegs(a.PID)
	}
	if err != nil || a.regs == nil {
		return fmt.Errorf("%w (status %#x, %v)", errAgentLost, status, err)
	}
	return nil
}

// end ends the task, which is then a zombie of ours that no other process sees. An error says
// that it has not ended yet. It will end with its tracer.
//
// Sending SIGKILL to a process of another user needs CAP_KILL, which a tracer need not have.
// Without it the task ends itself, or takes SIGKILL where it stands.
func (a *agent) end() error {
	if unix.Kill(a.PID, unix.SIGKILL) == unix.EPERM {
		_, _ = a.call(callExitGroup, 0)
		_ = sys.ContinueWith(a.PID, unix.SIGKILL) // ESRCH: it has ended
	}
	for began := time.Now(); time.Since(began) < endPatience; sys.Nap(100 * time.Microsecond) {
		if exited, err := sys.Exited(a.PID); exited || errors.Is(err, unix.ECHILD) {
			return nil
		}
		if time.Since(began) > agentPatience && a.frozen() { // control groups of version 1 keep a frozen task from ending
			a.c.stuck(ErrFrozen)
		}
	}
	return errNoEnd
}

// endPatience bounds the wait for the end of a task. The kernel has to take down its page
// tables, of terabytes at most.
const endPatience = time.Minute

var errNoEnd = errors.New("a task of procmem in the target does not end")

// take has us, its tracer, wait for the ended task. Only then can its parent, the target, do
// so.
func (a *agent) take() { sys.Wait(a.PID) }

// waitIn has a thread of the target take the news that the task has ended.
func (f *Forked) waitIn(c *Injector, tid int, regs []byte) error {
	res, err := c.call(tid, regs, callWait4, uint64(f.Inner), 0, unix.WNOHANG|unix.WALL, 0)
	switch {
	case err != nil:
		return err
	case int(res.value) == f.Inner, res.errno() == unix.ECHILD:
		return nil
	case res.errno() != 0:
		return res.errno()
	}
	return errors.New("it has not ended yet")
}

// innerPID returns the id of a task of ours in the target's pid namespace. The task's own
// namespace may be below that.
func innerPID(p *process.Process, pid int) (int, error) {
	target, err := p.Status()
	if err != nil {
		return 0, err
	}
	task, err := process.Open(pid)
	if err != nil {
		return 0, err
	}
	defer task.Close()
	st, err := task.Status()
	depth := len(target.NSPID)
	if err != nil || depth == 0 || len(st.NSPID) < depth {
		return 0, errors.Join(err, errAgentLost)
	}
	return st.NSPID[depth-1], nil
}
