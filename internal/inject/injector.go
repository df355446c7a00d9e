package inject

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// ErrExec reports that the process has executed another program since it was looked at, so that
// what is known of it is of no use.
var ErrExec = fmt.Errorf("the process has executed another program: %w", procmem.ErrGone)

// Reasons why a system call cannot be run in a process.
var (
	errNoVDSO     = errors.New("it has no vDSO, whose system call instruction is needed")
	errOwnVDSO    = errors.New("it may write to its vDSO, whose system call instruction is needed")
	ErrSeccomp    = errors.New("it is under seccomp, which may kill it for a system call that is not its own (lifting that for a moment needs CAP_SYS_ADMIN)")
	errDispatch   = errors.New("it turns system calls into signals (PR_SET_SYSCALL_USER_DISPATCH)")
	errShadow     = errors.New("it runs with a shadow stack")
	errCodeMode   = errors.New("it is not in 64-bit code")
	errNoUffd     = errors.New("the kernel gives it no userfaultfd")
	errRseq       = errors.New("it is in a restartable sequence")
	ErrSignalled  = errors.New("a signal came first")
	errNotStopped = errors.New("it did not stop in time")
)

// ErrFrozen reports that no call can be run in a process because a control group has frozen it
// (cgroup.freeze, freezer.state). No call would end before the thaw.
var ErrFrozen = errors.New("it is frozen by a control group, and a system call in it would not end before it is thawed")

// Injector runs system calls in threads that the tracer holds. It uses an instruction that
// exists already, in the vDSO.
//
// While a thread runs such a call, its registers are not its own. If the tracer died then, the
// target would die, too. So only a helper process may call.
type Injector struct {
	t    *ptracer.Tracer
	mem  *os.File        // /proc/PID/mem
	pc   uint64          // address of the instruction
	late func(why error) // called once if a thread does not come back; nil for none
}

// New returns an Injector for a process that the tracer is for. It stops nothing. It fails with
// ErrFrozen, for processes of another architecture than Arch, and if there is no usable vDSO.
func New(p *process.Process, t *ptracer.Tracer) (*Injector, error) {
	if group := p.Frozen(); group != "" {
		return nil, fmt.Errorf("run a system call in process %d: %w (%s)", p.PID(), ErrFrozen, group)
	}
	arch, err := p.Arch()
	if err != nil {
		return nil, err
	}
	if arch != Arch {
		return nil, fmt.Errorf("run a system call in process %d: not done for %v", p.PID(), arch)
	}
	c := &Injector{t: t}
	_ = t.Bound() // if there can be no timer (RLIMIT_SIGPENDING), waits poll
	if c.mem, err = p.OpenMem("mem"); err != nil {
		return nil, err
	}
	if c.pc, err = c.findInstruction(p); err != nil {
		c.mem.Close()
		return nil, fmt.Errorf("run a system call in process %d: %w", p.PID(), err)
	}
	return c, nil
}

func (c *Injector) close() { c.mem.Close() }

// findInstruction returns the address of a system call instruction in the mapping that the
// kernel calls the vDSO. Its bytes may begin inside another instruction: the processor does not
// care.
//
// A process can write to its vDSO all the same, through /proc/self/mem. So admit looks at what
// the instruction has done when the thread enters the kernel.
func (c *Injector) findInstruction(p *process.Process) (uint64, error) {
	maps, err := p.Mappings()
	if err != nil {
		return 0, err
	}
	i := slices.IndexFunc(maps, func(m procmem.Mapping) bool { return m.Path == "[vdso]" })
	if i < 0 || maps[i].Perm&procmem.PermExec == 0 {
		return 0, errNoVDSO
	}
	if maps[i].Perm&procmem.PermWrite != 0 {
		return 0, errOwnVDSO
	}
	const most = 64 << 10 // more than any vDSO has
	code := make([]byte, min(maps[i].Size(), most))
	n, _ := c.mem.ReadAt(code, int64(maps[i].Start))
	for at := 0; at+len(callInstruction) <= n; at += callAlign {
		if string(code[at:at+len(callInstruction)]) == callInstruction {
			return uint64(maps[i].Start) + uint64(at), nil
		}
	}
	return 0, errNoVDSO
}

// fit returns why a held thread is unsuitable for a call, or nil. Best is a thread that is
// blocked in a call of its own. Otherwise the thread must not be in a restartable sequence,
// because the kernel would forget that it is.
func (c *Injector) fit(tid int, regs []byte) error {
	st := c.state(regs)
	switch {
	case !st.native:
		return errCodeMode
	case sys.SyscallDispatch(tid):
		return errDispatch
	case shadowed(c.t, tid):
		return errShadow
	case st.blocked:
		return nil
	}
	start, end, err := sys.CriticalSection(tid, func(p []byte, addr uint64) error {
		_, err := c.mem.ReadAt(p, int64(addr))
		return err
	})
	if err != nil || st.pc >= start && st.pc < end {
		return errRseq
	}
	return nil
}

// verify returns ErrExec if the process, which is held now, has executed another program since
// the instruction was found. The address may then contain anything.
func (c *Injector) verify() error {
	mem, err := c.t.Process().OpenMem("mem") // c.mem is the memory of the program from before
	if err != nil {
		return err
	}
	defer mem.Close()
	code := make([]byte, len(callInstruction))
	if _, err := mem.ReadAt(code, int64(c.pc)); err != nil || string(code) != callInstruction {
		return ErrExec
	}
	return nil
}

// candidates returns held threads with their registers. Threads that are blocked in a call of
// their own come first.
func (c *Injector) candidates() (tids []int, regs map[int][]byte) {
	var others []int
	regs = make(map[int][]byte)
	for _, tid := range c.t.Threads() {
		if !c.t.Held(tid) || c.t.Signal(tid) != 0 {
			continue
		}
		var r []byte
		if ptracer.Persist(tid, func() (err error) { r, err = getRegs(tid); return err }) != nil {
			continue
		}
		regs[tid] = r
		if c.state(r).blocked {
			tids = append(tids, tid)
			if len(tids) == MaxCandidates {
				return tids, regs
			}
		} else if len(others) < MaxCandidates {
			others = append(others, tid)
		}
	}
	return append(tids, others...), regs
}

// MaxCandidates is the number of threads that are tried.
const MaxCandidates = 16

// one runs a function that makes a call in a suitable thread. The error says why the last
// thread was unsuitable.
func (c *Injector) one(f func(tid int, regs []byte) error) error {
	if err := c.verify(); err != nil {
		return err
	}
	err := errNotStopped
	if slices.ContainsFunc(c.t.Threads(), func(tid int) bool { return c.t.Held(tid) && c.t.Signal(tid) != 0 }) {
		err = ErrSignalled
	}
	tids, regs := c.candidates()
	if group := c.t.Process().Frozen(); len(tids) == 0 && group != "" {
		return fmt.Errorf("%w (%s)", ErrFrozen, group)
	}
	for _, tid := range tids {
		if err = c.fit(tid, regs[tid]); err != nil {
			continue
		}
		if err = f(tid, regs[tid]); !slices.Contains([]error{ErrSignalled, procmem.ErrGone}, err) && !errors.Is(err, process.ErrPreparedNamespace) {
			return err
		}
	}
	return err
}
