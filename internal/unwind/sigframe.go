package unwind

// signalFrame is what the kernel puts on the stack for a handler. The handler returns to code
// that asks for it to be undone, which often has no call frame information.
type signalFrame struct {
	code  []byte   // the instructions to which the handler returns
	ptr   bool     // base is where the address of the saved registers is, else they are there
	base  uint64   // from the stack pointer at code
	saved []uint64 // offsets of the saved registers by DWARF number, from there
}

// The layouts are those of struct rt_sigframe and struct sigcontext in arch/*/kernel/signal*.c
// and arch/*/include/uapi/asm/sigcontext.h.
var (
	signalsAMD64 = []signalFrame{
		{code: []byte("\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05"), base: 40, saved: sigcontextAMD64}, // mov $15, %rax; syscall: glibc, Go
		{code: []byte("\xb8\x0f\x00\x00\x00\x0f\x05"), base: 40, saved: sigcontextAMD64},         // mov $15, %eax; syscall: musl
	}
	// rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8 to r15, rip
	sigcontextAMD64 = []uint64{104, 96, 112, 88, 72, 64, 80, 120, 0, 8, 16, 24, 32, 40, 48, 56, 128}

	signalsI386 = []signalFrame{
		{code: []byte("\x58\xb8\x77\x00\x00\x00\xcd\x80"), base: 4, saved: sigcontextI386},      // pop %eax; mov $119, %eax; int $0x80
		{code: []byte("\xb8\xad\x00\x00\x00\xcd\x80"), ptr: true, base: 8, saved: ucontextI386}, // mov $173, %eax; int $0x80
	}
	// eax, ecx, edx, ebx, esp, ebp, esi, edi, eip
	sigcontextI386 = []uint64{44, 40, 36, 32, 28, 24, 20, 16, 56}
	ucontextI386   = []uint64{64, 60, 56, 52, 48, 44, 40, 36, 76}

	signalsARM64 = []signalFrame{
		{code: []byte("\x68\x11\x80\xd2\x01\x00\x00\xd4"), base: 312, saved: sigcontextARM64}, // mov x8, #139; svc #0
	}
	// x0 to x30, sp, pc
	sigcontextARM64 = func() (at []uint64) {
		for i := range uint64(33) {
			at = append(at, 8*i)
		}
		return at
	}()
)
