package sys

import (
	"encoding/binary"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// EventClone is the ptrace event of a child that is about to be born.
const EventClone = unix.PTRACE_EVENT_CLONE

// SyscallTrap is the signal of a stop at the entry or exit of a system call, under
// PTRACE_O_TRACESYSGOOD.
const SyscallTrap = unix.SIGTRAP | 0x80

// SetOptions sets the ptrace options of a stopped thread.
func SetOptions(tid int, options uintptr) error {
	return ptraceWord(unix.PTRACE_SETOPTIONS, tid, options)
}

// ContinueToSyscall lets a stopped thread go on to the next entry or exit of a system call
// (PTRACE_SYSCALL).
func ContinueToSyscall(tid int) error { return ptraceWord(unix.PTRACE_SYSCALL, tid, 0) }

// ContinueWith lets a stopped thread go on, delivering a signal (PTRACE_CONT). Not every stop
// takes one (ptrace(2)).
func ContinueWith(tid int, sig unix.Signal) error {
	return ptraceWord(unix.PTRACE_CONT, tid, uintptr(sig))
}

// EventMessage returns the message of the event that stopped a thread, such as the id of a new
// child.
func EventMessage(tid int) (int, error) {
	var msg uintptr
	err := ptrace(unix.PTRACE_GETEVENTMSG, tid, 0, unsafe.Pointer(&msg))
	return int(msg), err
}

// SyscallInfo describes a stop at a system call (struct ptrace_syscall_info,
// include/uapi/linux/ptrace.h).
type SyscallInfo struct {
	Op     uint8 // SyscallEntry or SyscallExit
	_      [3]uint8
	Arch   uint32 // AUDIT_ARCH_*
	PC, SP uint64
	Number uint64 // at the entry, as the arguments; at the exit the result
	Args   [6]uint64
	_      [2]uint64
}

// Values of SyscallInfo.
const (
	SyscallEntry = 1
	SyscallExit  = 2

	ArchAMD64 = 0xc000003e // AUDIT_ARCH_X86_64
	ArchARM64 = 0xc00000b7 // AUDIT_ARCH_AARCH64
)

// GetSyscallInfo returns the system call at which a thread has stopped
// (PTRACE_GET_SYSCALL_INFO). EIO: the kernel is older than 5.3.
func GetSyscallInfo(tid int) (SyscallInfo, error) {
	var info SyscallInfo
	err := ptrace(0x420e, tid, unsafe.Sizeof(info), unsafe.Pointer(&info))
	return info, err
}

// CriticalSection returns the addresses [start, end) of the restartable sequence that a stopped
// thread has announced (rseq(2), struct rseq_cs). If there is none it returns 0, 0. read reads
// the memory of the thread.
func CriticalSection(tid int, read func(p []byte, addr uint64) error) (start, end uint64, err error) {
	var conf struct {
		area                        uint64
		size, signature, flags, pad uint32
	}
	n, _, e := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GET_RSEQ_CONFIGURATION, uintptr(tid),
		unsafe.Sizeof(conf), uintptr(unsafe.Pointer(&conf)), 0, 0)
	switch {
	case e == unix.EIO || e == unix.EINVAL:
		return 0, 0, nil // kernels before 5.13, and those without rseq
	case e != 0:
		return 0, 0, e
	case n == 0 || conf.area == 0:
		return 0, 0, nil
	}
	var word [8]byte
	if err := read(word[:], conf.area+8); err != nil {
		return 0, 0, err
	}
	desc := binary.LittleEndian.Uint64(word[:])
	if desc == 0 {
		return 0, 0, nil
	}
	var cs [32]byte // version, flags, start_ip, post_commit_offset, abort_ip
	if err := read(cs[:], desc); err != nil {
		return 0, 0, err
	}
	start = binary.LittleEndian.Uint64(cs[8:])
	return start, start + binary.LittleEndian.Uint64(cs[16:]), nil
}

// SyscallDispatch reports whether the system calls of a stopped thread may be turned into
// signals (PR_SET_SYSCALL_USER_DISPATCH). Kernels before 6.4 do not tell.
func SyscallDispatch(tid int) bool {
	const getConfig = 0x4211 // PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG
	var conf [4]uint64       // mode, selector, offset, len
	err := ptrace(getConfig, tid, unsafe.Sizeof(conf), unsafe.Pointer(&conf))
	return err == nil && conf[0] != 0
}

// TakeDescriptor duplicates file descriptor fd of process pid (pidfd_getfd(2)): EPERM without
// the rights of a debugger, ENOSYS before kernel 5.6.
func TakeDescriptor(pid, fd int) (int, error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(pidfd)
	return unix.PidfdGetfd(pidfd, fd, 0)
}

// IsUserfaultfd reports whether a file descriptor of ours is a userfaultfd, which must be known
// before an ioctl(2) on what another process has opened.
func IsUserfaultfd(fd int) bool {
	link, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	return err == nil && link == "anon_inode:[userfaultfd]"
}

// ioctl numbers and structures of userfaultfd (include/uapi/linux/userfaultfd.h).
const (
	uffdioAPI        = 0xc018aa3f
	uffdioRegister   = 0xc020aa00
	uffdioUnregister = 0x8010aa01
	uffdioProtect    = 0xc018aa06 // UFFDIO_WRITEPROTECT

	uffdFeatureWPUnpopulated = 1 << 13
	uffdFeatureWPAsync       = 1 << 15
	uffdModeWP               = 1 << 1

	// UserModeOnly is the flag of userfaultfd(2) without which an unprivileged process gets
	// EPERM.
	UserModeOnly = 1
)

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg)); e != 0 {
		return e
	}
	return nil
}

// Userfaultfd returns a userfaultfd of this process. ENOSYS: the kernel has none. EPERM: a
// filter refuses it.
func Userfaultfd() (int, error) {
	fd, _, e := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK|UserModeOnly, 0, 0)
	if e != 0 {
		return -1, e
	}
	return int(fd), nil
}

// UffdTrackWrites prepares a userfaultfd for asynchronous write protection: a write to a
// protected page goes on at once, and ends the protection of the page. EINVAL: the kernel is
// older than 6.7, or than 6.10 on arm64.
func UffdTrackWrites(fd int) error {
	const want = uffdFeatureWPAsync | uffdFeatureWPUnpopulated
	api := struct{ api, features, ioctls uint64 }{0xaa, want, 0}
	if err := ioctl(fd, uffdioAPI, unsafe.Pointer(&api)); err != nil {
		return err
	}
	if api.features&want != want { // not every kernel refuses what it lacks
		return unix.EINVAL
	}
	return nil
}

// UffdRegister starts to track writes in the mappings in [start, end), all of which must allow
// it. No page is protected yet.
func UffdRegister(fd int, start, end uint64) error {
	reg := struct{ start, len, mode, ioctls uint64 }{start, end - start, uffdModeWP, 0}
	return ioctl(fd, uffdioRegister, unsafe.Pointer(&reg))
}

// UffdUnprotect ends the protection of the pages in [start, end), all of which must be tracked.
func UffdUnprotect(fd int, start, end uint64) error {
	r := struct{ start, len, mode uint64 }{start, end - start, 0}
	return ioctl(fd, uffdioProtect, unsafe.Pointer(&r))
}

// UffdUnregister undoes UffdRegister, and the protection of the pages.
func UffdUnregister(fd int, start, end uint64) error {
	r := struct{ start, len uint64 }{start, end - start}
	return ioctl(fd, uffdioUnregister, unsafe.Pointer(&r))
}
