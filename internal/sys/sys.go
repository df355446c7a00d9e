// Package sys has all raw system calls, ioctls and ptrace requests of procmem, and all use of
// unsafe. Each function is one kernel interface. Its errors are a syscall.Errno, whose meaning
// the caller decides.
//
// Kernel sources: fs/proc/task_mmu.c (pagemap), mm/process_vm_access.c, kernel/ptrace.c,
// kernel/exit.c (wait).
package sys

import (
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ReadProcess copies memory of process pid at addr into p with process_vm_readv(2). It returns
// how many bytes came before the first page that could not be read.
func ReadProcess(pid int, p []byte, addr uint64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	local := unix.Iovec{Base: &p[0]}
	local.SetLen(len(p))
	remote := unix.RemoteIovec{Base: uintptr(addr), Len: len(p)}
	n, _, e := unix.Syscall6(unix.SYS_PROCESS_VM_READV, uintptr(pid),
		uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote)), 1, 0)
	runtime.KeepAlive(p)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// ReadProcessInSpace is ReadProcess that also fills space from spaceAddr. All of it is of one
// address space, which a pid does not promise from one call to the next. EFAULT: space could
// not be read.
func ReadProcessInSpace(pid int, p []byte, addr uint64, space []byte, spaceAddr uint64) (int, error) {
	remote := [2]unix.RemoteIovec{{Base: uintptr(spaceAddr), Len: len(space)}, {Base: uintptr(addr), Len: len(p)}}
	return ReadProcessRanges(pid, space, p, remote[:])
}

// MaxRanges is how many ranges can be read at once (UIO_MAXIOV).
const MaxRanges = 1024

// ReadProcessRanges is ReadProcessInSpace for several ranges, which go into p one behind the
// other. The first range is that of the space.
//
// The scheduler is not told of the system call, which is for pages that exist and ends in a
// fraction of a millisecond. It would give the processor to another thread, and the readers
// would take turns.
func ReadProcessRanges(pid int, space, p []byte, ranges []unix.RemoteIovec) (int, error) {
	local := [2]unix.Iovec{{Base: &space[0]}, {Base: unsafe.SliceData(p)}}
	local[0].SetLen(len(space))
	local[1].SetLen(len(p))
	n, _, e := unix.RawSyscall6(unix.SYS_PROCESS_VM_READV, uintptr(pid), uintptr(unsafe.Pointer(&local)), 2,
		uintptr(unsafe.Pointer(&ranges[0])), uintptr(len(ranges)), 0)
	runtime.KeepAlive(p)
	runtime.KeepAlive(space)
	runtime.KeepAlive(ranges)
	switch {
	case e != 0:
		return 0, e
	case int(n) < len(space):
		return 0, unix.EFAULT
	}
	return int(n) - len(space), nil
}

// InCore returns a byte for each page of the size bytes of a file from offset on; both must be
// multiples of a page. The lowest bit is set if the page is in memory (mincore(2)). It touches
// nothing. For a caller who may not write to the file, all pages are in memory.
func InCore(fd int, offset int64, size int) ([]byte, error) {
	at, err := unix.MmapPtr(fd, offset, nil, uintptr(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.MunmapPtr(at, uintptr(size)) }()
	page := unix.Getpagesize()
	in := make([]byte, (size+page-1)/page)
	if _, _, e := unix.Syscall(unix.SYS_MINCORE, uintptr(at), uintptr(size), uintptr(unsafe.Pointer(&in[0]))); e != 0 {
		return nil, e
	}
	return in, nil
}

// Aligned returns a buffer of n bytes that begins at a page boundary, as direct I/O requires.
func Aligned(n int) []byte {
	const page = 4096
	b := make([]byte, n+page)
	off := -int(uintptr(unsafe.Pointer(&b[0]))) & (page - 1)
	return b[off : off+n : off+n]
}

// Urgent makes this OS thread run before all ordinary ones until undo is called, if the caller
// has the right to ask for that (CAP_SYS_NICE). It is for work of milliseconds.
func Urgent() (undo func()) {
	before, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		return func() {}
	}
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1, Flags: unix.SCHED_FLAG_RESET_ON_FORK}
	if unix.SchedSetAttr(0, &attr, 0) != nil {
		return func() {}
	}
	return func() { unix.SchedSetAttr(0, before, 0) }
}

// Nap is time.Sleep for goroutines that are locked to their OS thread: the timers of the
// runtime would wake them later.
func Nap(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	unix.Nanosleep(&ts, nil)
}
