package inject

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/internal/sys"
)

// Arch is the architecture of the targets in which this program can run system calls.
const Arch = procmem.ARM64

// callAudit is the kernel's number of that architecture.
const callAudit = sys.ArchARM64

// callInstruction is "svc #0". It begins at a multiple of callAlign.
const (
	callInstruction = "\x01\x00\x00\xd4"
	callAlign       = 4
)

// noStack is a stack pointer that no address space can have. If an agent ran after all, its
// first access to the stack would end it, and it alone. The processor looks at bits 48 to 55,
// and not at those above, which may be a tag.
const noStack = 0x0070_0000_0000_0000

// Indexes of the registers of interest in what getRegs returns.
const (
	regX7     = 7
	regX8     = 8
	regPC     = 32
	regPState = 33
	regCall   = 34 // the number of the system call that the thread is in, or noNumber
)

const noNumber = ^uint64(0)

// branchType are the bits of pstate that tell which indirect branch came last. After some, only
// an instruction that says so may follow.
const branchType = 3 << 10

func word(regs []byte, i int) uint64       { return binary.LittleEndian.Uint64(regs[8*i:]) }
func setWord(regs []byte, i int, v uint64) { binary.LittleEndian.PutUint64(regs[8*i:], v) }

// callRegs returns the registers with which a thread makes a system call with the instruction
// at pc. They tell the kernel that the thread is in no call that has to begin again. Otherwise
// the kernel would move pc back.
func callRegs(regs []byte, pc, number uint64, args ...uint64) []byte {
	out := append([]byte(nil), regs...)
	setWord(out, regPC, pc)
	setWord(out, regPState, word(out, regPState)&^branchType)
	setWord(out, regX8, number)
	setWord(out, regCall, noNumber)
	for i, v := range args {
		setWord(out, ptracer.SyscallRegs[Arch].Args[i], v)
	}
	return out
}

// strayRegs returns registers that all hold noStack, but for those that the kernel keeps. A
// task that runs on with them comes no further than its first access to memory. At the entry and
// the exit of a call, x7 tells a tracer which of them it is, and cannot be set.
func strayRegs(regs []byte) []byte {
	out := append([]byte(nil), regs...)
	for i := range regPC - 1 { // x0 to x30
		if i != regX7 {
			setWord(out, i, noStack)
		}
	}
	return out
}

// noCall returns registers with which a thread at the entry of a system call makes none.
func noCall(regs []byte) []byte {
	out := append([]byte(nil), regs...)
	setWord(out, regCall, noNumber)
	return out
}

// threadState is what the registers of a thread tell.
type threadState struct {
	native  bool // in 64-bit code
	blocked bool // in a system call that begins again, or about to make one
	pc      uint64
}

// state looks at the instruction at pc. When a tracer sees a thread that was in a system call,
// the kernel has put pc back already, and forgotten the number of the call. A call that ends
// with EINTR does not begin again, and its thread counts as one in user mode.
func (c *Injector) state(regs []byte) threadState {
	const mode32, anyNumber = 1 << 4, 0xffff << 5
	st := threadState{native: word(regs, regPState)&mode32 == 0, pc: word(regs, regPC)}
	var code [4]byte
	if _, err := c.mem.ReadAt(code[:], int64(st.pc)); err == nil {
		svc := binary.LittleEndian.Uint32([]byte(callInstruction))
		st.blocked = binary.LittleEndian.Uint32(code[:])&^anyNumber == svc
	}
	return st
}

// shadowed reports whether a thread runs with a shadow stack.
func shadowed(t *ptracer.Tracer, tid int) bool {
	const ntARMGCS, enabled = 0x410, 1
	set := t.Regset(tid, ntARMGCS)
	return len(set) >= 8 && word(set, 0)&enabled != 0
}

// noticesStop holds the calls that return EINTR after a stop (signal(7)).
var noticesStop = map[int]bool{
	unix.SYS_EPOLL_PWAIT: true, unix.SYS_EPOLL_PWAIT2: true,
	unix.SYS_RT_SIGTIMEDWAIT: true, unix.SYS_SEMOP: true, unix.SYS_SEMTIMEDOP: true,
	unix.SYS_RECVFROM: true, unix.SYS_RECVMSG: true, unix.SYS_RECVMMSG: true,
	unix.SYS_IO_GETEVENTS: true, unix.SYS_IO_URING_ENTER: true,
}

func getRegs(tid int) ([]byte, error)    { return sys.GetRegs64(tid) }
func setRegs(tid int, regs []byte) error { return sys.SetRegs64(tid, regs) }

// Numbers of the system calls that are run in targets.
const (
	callClone       = unix.SYS_CLONE
	callCloseRange  = unix.SYS_CLOSE_RANGE
	callExitGroup   = unix.SYS_EXIT_GROUP
	callWait4       = unix.SYS_WAIT4
	callUserfaultfd = unix.SYS_USERFAULTFD
	callClose       = unix.SYS_CLOSE
)
