package process

import (
	"io"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/procfs"
)

// Stat is the part of /proc/PID/stat that procmem uses (proc(5)).
type Stat struct {
	PID  int
	Name string // comm, at most 15 bytes, or the name of a kernel thread
	// State is the letter that proc(5) lists, such as 'R', 'S', 'D', 'T' or 'Z'.
	State           byte
	PPID, PGRP, SID int
	Flags           uint64        // PF_*
	UserTime        time.Duration // of all threads in /proc/PID/stat
	SystemTime      time.Duration
	ChildUserTime   time.Duration
	ChildSystemTime time.Duration
	Nice            int
	StartTime       uint64 // clock ticks since boot; with the pid, the identity of a process
}

// KernelThread reports whether the process has no memory of its own (PF_KTHREAD).
func (s *Stat) KernelThread() bool { return s.Flags&0x00200000 != 0 }

// Forked reports whether the process is a fork that has executed no program since
// (PF_FORKNOEXEC).
func (s *Stat) Forked() bool { return s.Flags&0x40 != 0 }

// Exiting reports whether the thread is ending (PF_EXITING).
func (s *Stat) Exiting() bool { return s.Flags&0x4 != 0 }

// Zombie reports whether the process has exited.
func (s *Stat) Zombie() bool { return s.State == 'Z' || s.State == 'X' }

// Status is the part of /proc/PID/status that procmem uses (proc(5)). Fields that the kernel
// does not print keep their zero value.
type Status struct {
	Name       string
	State      byte // as in Stat
	TGID       int
	PPID       int
	TracerPID  int
	UID, GID   [4]uint32 // real, effective, saved, file system
	NSPID      []int     // ids of this process in each pid namespace, the innermost last
	NSTGID     []int
	Threads    int
	SigPending uint64 // of the thread (SigPnd)
	SigBlocked uint64 // SigBlk; in both, bit i is signal i+1
	CapEff     uint64
	CapPerm    uint64 // CapPrm
	Seccomp    int    // 0 none, 1 strict, 2 filter
	NoNewPrivs bool
	RSS, Swap  uint64 // bytes
	HasMemory  bool   // VmSize was printed; it is not for kernel threads and zombies
}

// InnerPID returns the id in the innermost pid namespace, or 0 where the kernel does not tell.
func (s *Status) InnerPID() int {
	if n := len(s.NSPID); n > 0 {
		return s.NSPID[n-1]
	}
	return 0
}

// Syscall is what /proc/PID/task/TID/syscall tells of a blocked thread (fs/proc/base.c,
// proc_pid_syscall).
type Syscall struct {
	Running bool // the thread is on a processor, and all else is unknown
	Number  int  // -1 for a thread that is blocked outside a system call
	Args    [6]uint64
	SP, PC  procmem.Addr
}

func parseStat(r io.Reader) (*Stat, error) {
	s, err := procfs.ParseStat(r)
	return (*Stat)(s), err
}

func parseStatus(r io.Reader) (*Status, error) {
	s, err := procfs.ParseStatus(r)
	return (*Status)(s), err
}

func parseSyscall(r io.Reader) (*Syscall, error) {
	s, err := procfs.ParseSyscall(r)
	return (*Syscall)(s), err
}
