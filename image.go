package procmem

import "time"

// Image is what is known of a process at one moment besides the bytes of its memory.
type Image struct {
	Arch    Arch
	Process ProcessInfo
	Exe     string // path of the executable, "" if it is not known
	// Auxv is the auxiliary vector as the kernel keeps it: pairs of words of the target's size,
	// up to and with AT_NULL.
	Auxv     []byte
	Mappings []Mapping
	// XSaveLayout describes the NTX86XState register sets: the descriptor of the
	// NT_X86_XSAVE_LAYOUT note, nil if it is not known.
	XSaveLayout []byte
	// Threads has the one first that a debugger shows first.
	Threads []Thread
}

// ProcessInfo is what the NT_PRPSINFO note of a core tells about a process.
type ProcessInfo struct {
	PID, PPID, PGRP, SID int    // in the innermost pid namespace of the target
	UID, GID             uint32 // real
	State                byte   // letter of the leader's state before anything was stopped
	Nice                 int
	Flags                uint64 // PF_* of include/linux/sched.h
	Name                 string // basename of the executable
	Args                 string // command line, NUL made space
}

// Thread is one thread of a process.
type Thread struct {
	TID   int // in the innermost pid namespace of the target
	Name  string
	State byte // letter of /proc/PID/task/TID/stat before anything was stopped
	// Wait is the function of the kernel in which the thread waited before anything was stopped,
	// such as futex_wait_queue. It is "" where it did not wait, in cores, and where nobody asked.
	Wait string

	PPID, PGRP, SID int
	Signal          int    // the signal that stopped the thread, in a core of a crash
	Pending         uint64 // signals waiting for this thread (bit n-1 is signal n)
	Blocked         uint64

	UserTime, SystemTime           time.Duration
	ChildUserTime, ChildSystemTime time.Duration

	// Regsets are the register sets as PTRACE_GETREGSET gives them. The general purpose
	// registers are NTPRStatus. If it is empty, Err tells why.
	Regsets []Regset
	// Err is the reason why registers are missing or not exact, else nil.
	Err error
}

// Regset is one register set of a thread, in the layout of the kernel's user_regset for the
// thread's architecture.
type Regset struct {
	Type uint32 // NT_* of include/uapi/linux/elf.h
	Data []byte
}

// Types of register sets that have a name here (include/uapi/linux/elf.h).
const (
	NTPRStatus  = 1          // general purpose registers
	NTFPRegset  = 2          // floating point
	NTPRXFPReg  = 0x46e62b7f // fxsave area of i386
	NT386TLS    = 0x200
	NT386IOPerm = 0x201
	NTX86XState = 0x202 // xsave area, standard format
	NTX86ShStk  = 0x204
)

// Regset returns the bytes of the register set of type typ, or nil if there is none.
func (t *Thread) Regset(typ uint32) []byte {
	for i := range t.Regsets {
		if t.Regsets[i].Type == typ {
			return t.Regsets[i].Data
		}
	}
	return nil
}
