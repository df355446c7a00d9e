package inject

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/internal/sys"
)

// Arch is the architecture of the targets in which this program can run system calls.
const Arch = procmem.AMD64

// callAudit is the kernel's number of that architecture.
const callAudit = sys.ArchAMD64

// callInstruction is "syscall". It may begin at any multiple of callAlign.
const (
	callInstruction = "\x0f\x05"
	callAlign       = 1
)

// noStack is a stack pointer that no address space can have. If an agent ran after all, its
// first access to the stack would end it, and it alone.
const noStack = 0x7000_0000_0000_0000

// Indexes of the registers of interest in the NT_PRSTATUS set.
const (
	regRAX     = 10
	regOrigRAX = 15
	regRIP     = 16
	regCS      = 17
)

// callRegs returns the registers with which a thread makes a system call with the instruction
// at pc. orig_rax tells the kernel that the thread is in no call that has to begin again.
// Otherwise the kernel would move pc back.
func callRegs(regs []byte, pc, number uint64, args ...uint64) []byte {
	out := append([]byte(nil), regs...)
	set := func(i int, v uint64) { binary.LittleEndian.PutUint64(out[8*i:], v) }
	set(regRIP, pc)
	set(regRAX, number)
	set(regOrigRAX, ^uint64(0))
	for i, v := range args {
		set(ptracer.SyscallRegs[Arch].Args[i], v)
	}
	return out
}

// strayRegs returns registers that all hold noStack, but for those that the kernel keeps. A
// task that runs on with them comes no further than its first access to memory.
func strayRegs(regs []byte) []byte {
	out := append([]byte(nil), regs...)
	for i := range regRAX + 5 { // r15, r14, r13, r12, rbp, rbx, r11 to r8, rax, rcx, rdx, rsi, rdi
		binary.LittleEndian.PutUint64(out[8*i:], noStack)
	}
	return out
}

// noCall returns registers with which a thread at the entry of a system call makes none.
func noCall(regs []byte) []byte {
	out := append([]byte(nil), regs...)
	binary.LittleEndian.PutUint64(out[8*regOrigRAX:], ^uint64(0))
	return out
}

// threadState is what the registers of a thread tell.
type threadState struct {
	native  bool // in 64-bit code
	blocked bool // in a system call
	pc      uint64
}

func (c *Injector) state(regs []byte) threadState {
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(regs[8*i:]) }
	const code64 = 0x33 // __USER_CS
	return threadState{
		native:  word(regCS) == code64,
		blocked: int64(word(regOrigRAX)) >= 0,
		pc:      word(regRIP),
	}
}

// noticesStop holds the calls that return EINTR after a stop (signal(7)).
var noticesStop = map[int]bool{
	unix.SYS_EPOLL_WAIT: true, unix.SYS_EPOLL_PWAIT: true, unix.SYS_EPOLL_PWAIT2: true,
	unix.SYS_RT_SIGTIMEDWAIT: true, unix.SYS_SEMOP: true, unix.SYS_SEMTIMEDOP: true,
	unix.SYS_RECVFROM: true, unix.SYS_RECVMSG: true, unix.SYS_RECVMMSG: true,
	unix.SYS_IO_GETEVENTS: true, unix.SYS_IO_URING_ENTER: true,
}

// shadowed reports whether a thread runs with a shadow stack.
func shadowed(t *ptracer.Tracer, tid int) bool { return t.Regset(tid, procmem.NTX86ShStk) != nil }

// turn is how a thread comes to make a call: by registers. Its own registers hold all that the
// kernel needs to begin a call again that was interrupted.
type turn struct{}

func (c *Injector) turn(int, []byte) turn { return turn{} }

func (turn) begin(tid int, regs []byte) error {
	return ptracer.Persist(tid, func() error { return setRegs(tid, regs) })
}

func (turn) enter(int, []byte, uint64) error            { return nil }
func (turn) reported(*sys.SyscallInfo, sys.SyscallInfo) {}

func (turn) left(regs []byte) []byte     { return regs }
func (turn) settle(*Injector, int) error { return nil }

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
