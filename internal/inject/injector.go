package inject

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// ErrExec reports that the process has executed another program since it was
// looked at: what is known of it is of no use.
var ErrExec = fmt.Errorf("the process has executed another program: %w", procmem.ErrGone)

// Why a system call cannot be run in a process.
var (
	errNoVDSO     = errors.New("it has no vDSO, whose system call instruction is needed")
	ErrSeccomp    = errors.New("it is under seccomp, which may kill it for a system call that is not its own (lifting that for a moment takes CAP_SYS_ADMIN)")
	errDispatch   = errors.New("it turns system calls into signals (PR_SET_SYSCALL_USER_DISPATCH)")
	errShadow     = errors.New("it runs with a shadow stack")
	errCodeMode   = errors.New("it is not in 64-bit code")
	errRseq       = errors.New("it is in a restartable sequence")
	ErrSignalled  = errors.New("a signal came first")
	errNotStopped = errors.New("it did not stop in time")
)

// Injector runs system calls in threads that the tracer holds, with an
// instruction that is there already: that of the vDSO.
//
// While a thread runs such a call its registers are not its own. If the tracer
// died then, the target would, too: only a helper process may call.
type Injector struct {
	t   *ptracer.Tracer
	mem *os.File // /proc/PID/mem
	pc  uint64   // of the instruction
}

// New prepares for calls. Nothing has been stopped yet.
func New(p *process.Process, t *ptracer.Tracer) (*Injector, error) {
	arch, err := p.Arch()
	if err != nil {
		return nil, err
	}
	if arch != Arch {
		return nil, fmt.Errorf("run a system call in process %d: not done for %v", p.PID(), arch)
	}
	c := &Injector{t: t}
	if c.mem, err = p.OpenMem("mem"); err != nil {
		return nil, err
	}
	if c.pc, err = c.findInstruction(p, arch); err != nil {
		c.mem.Close()
		return nil, fmt.Errorf("run a system call in process %d: %w", p.PID(), err)
	}
	return c, nil
}

func (c *Injector) close() { c.mem.Close() }

// findInstruction looks for the bytes of a system call instruction in the
// code of the vDSO; where they begin inside of another instruction does not
// matter to the processor.
func (c *Injector) findInstruction(p *process.Process, arch procmem.Arch) (uint64, error) {
	const sysinfoEHDR = 33 // AT_SYSINFO_EHDR
	auxv, err := p.Auxv(arch)
	if err != nil {
		return 0, err
	}
	var base uint64
	for ; len(auxv) >= 16; auxv = auxv[16:] {
		if binary.LittleEndian.Uint64(auxv) == sysinfoEHDR {
			base = binary.LittleEndian.Uint64(auxv[8:])
		}
	}
	if base == 0 {
		return 0, errNoVDSO
	}
	image := make([]byte, 64<<10) // more than any has
	n, _ := c.mem.ReadAt(image, int64(base))
	f, err := elf.NewFile(bytes.NewReader(image[:n]))
	if err != nil {
		return 0, errNoVDSO
	}
	for _, prog := range f.Progs {
		if prog.Type != elf.PT_LOAD || prog.Flags&elf.PF_X == 0 || prog.Off+prog.Filesz > uint64(n) {
			continue
		}
		code := image[prog.Off : prog.Off+prog.Filesz]
		for i := 0; i+len(callInstruction) <= len(code); i++ {
			if string(code[i:i+len(callInstruction)]) == callInstruction {
				return base + prog.Off + uint64(i), nil
			}
		}
	}
	return 0, errNoVDSO
}

// fit reports why the thread, which is held, is not one to run a call in, or
// nil. Best is one that is blocked in a call of its own; where none is, one
// that is not in the middle of a restartable sequence, since the kernel would
// forget that it is.
func (c *Injector) fit(tid int, regs []byte) error {
	st := callState(regs)
	switch {
	case !st.native:
		return errCodeMode
	case sys.SyscallDispatch(tid):
		return errDispatch
	case c.t.Regset(tid, procmem.NTX86ShStk) != nil:
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

// verify reports ErrExec where the process, which is held now, has executed
// another program since the instruction was found: there, it may be anything.
func (c *Injector) verify() error {
	mem, err := c.t.Process().OpenMem("mem") // c.mem is that of the program from before
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

// prepare sets the options for a call in a thread: what it traces, and that no
// filter of the target applies.
func (c *Injector) prepare(tid int) error {
	options := uintptr(unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE)
	st, err := c.t.Process().ThreadStatus(tid)
	if err != nil {
		return err
	}
	if st.Seccomp != 0 {
		options |= unix.PTRACE_O_SUSPEND_SECCOMP
	}
	err = sys.SetOptions(tid, options)
	if err != nil && st.Seccomp != 0 {
		return ErrSeccomp
	}
	return err
}

// candidates returns the threads that are held, those first that are blocked
// in a call of their own, with their registers.
func (c *Injector) candidates() (tids []int, regs map[int][]byte) {
	var others []int
	regs = make(map[int][]byte)
	for _, tid := range c.t.Threads() {
		if !c.t.Held(tid) || c.t.Signal(tid) != 0 {
			continue
		}
		r, err := getRegs(tid)
		if err != nil {
			continue
		}
		regs[tid] = r
		if callState(r).blocked {
			tids = append(tids, tid)
			if len(tids) == maxCandidates {
				return tids, regs
			}
		} else if len(others) < maxCandidates {
			others = append(others, tid)
		}
	}
	return append(tids, others...), regs
}

// maxCandidates is how many threads are tried.
const maxCandidates = 16

// one runs a function that makes calls in a thread that is fit for that. The
// error tells why the last one was not.
func (c *Injector) one(f func(tid int, regs []byte) error) error {
	if err := c.verify(); err != nil {
		return err
	}
	err := errNotStopped
	tids, regs := c.candidates()
	for _, tid := range tids {
		if err = c.fit(tid, regs[tid]); err != nil {
			continue
		}
		if err = c.prepare(tid); err != nil {
			continue
		}
		if err = f(tid, regs[tid]); !slices.Contains([]error{ErrSignalled, procmem.ErrGone}, err) {
			return err
		}
	}
	return err
}

// result is what a system call in the target returned.
type result struct {
	value uint64
	child int // born in the call, 0 for none; it has not run
}

// errno returns the error of the call, or 0.
func (r result) errno() unix.Errno {
	if n := -int64(r.value); n > 0 && n < 4096 {
		return unix.Errno(n)
	}
	return 0
}

// call runs one system call in a thread that is held and whose registers are
// regs. Afterwards the thread is held where it was, with all its registers, so
// that the call of its own that was interrupted begins again when it goes on.
func (c *Injector) call(tid int, regs []byte, number uint64, args ...uint64) (res result, err error) {
	if err := setRegs(tid, callRegs(regs, c.pc, number, args...)); err != nil {
		return res, err
	}
	// What follows ends with the registers restored, or with the thread gone.
	for entered := false; ; {
		err := sys.ContinueToSyscall(tid)
		var status unix.WaitStatus
		if err == nil {
			status, err = c.t.WaitStop(tid)
		}
		if err != nil || !status.Stopped() {
			c.t.Forget(tid)
			return res, procmem.ErrGone
		}
		switch event := int(status) >> 16; {
		case event == sys.EventClone:
			res.child, _ = sys.EventMessage(tid)
		case event != 0:
			// It was stopped by job control: it goes on, and will be again.
		case status.StopSignal() != sys.SyscallTrap:
			// Will be delivered, once, when the thread goes on.
			c.t.SetSignal(tid, int(status.StopSignal()))
			return res, c.restore(tid, regs, ErrSignalled)
		case !entered:
			entered = true
		default:
			after, err := getRegs(tid)
			if err == nil {
				res.value = callState(after).result
			}
			if n := res.errno(); n >= firstRestart && n <= lastRestart {
				err = ErrSignalled
			}
			return res, c.restore(tid, regs, err)
		}
	}
}

// Results that only the kernel sees, of a call that is to begin again
// (include/linux/errno.h): ERESTARTSYS to ERESTART_RESTARTBLOCK.
const (
	firstRestart = 512
	lastRestart  = 516
)

// restore gives the thread its registers back.
func (c *Injector) restore(tid int, regs []byte, why error) error {
	if err := setRegs(tid, regs); err != nil {
		c.t.Forget(tid) // it was killed
		return procmem.ErrGone
	}
	return why
}
