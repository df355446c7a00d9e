package testproc

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Call is a system call of a supervised process that has not been made yet.
type Call struct {
	PID, TID int // as the supervisor knows them
	Number   int
	Args     [6]uint64
}

// Verdict is what becomes of a Call. The zero Verdict lets it be made.
type Verdict struct {
	Errno unix.Errno // with which it fails, without being made
	Kill  bool       // the process is killed instead
}

// Supervisor decides what becomes of system calls of a process, and of all that are born of it
// (seccomp(2), SECCOMP_RET_USER_NOTIF).
type Supervisor struct {
	Judge func(Call) Verdict // one call at a time

	listener int
	begun    bool        // the launcher has become the program
	tgid     map[int]int // of threads
	done     chan struct{}
	err      error
}

// launcherName is what this program is called when it is to install the filter.
const launcherName = "testproc-launcher"

// launched is a system call that does not exist. The launcher makes it to wait for the
// supervisor.
const launched = 100_000

func init() {
	if len(os.Args) > 2 && os.Args[0] == launcherName {
		fmt.Fprintln(os.Stderr, launcherName+":", launch(os.Args[1], os.Args[2:]))
		os.Exit(125)
	}
}

// Supervise changes a command, which has not been started, so that the supervisor is asked
// about these system calls. Attach must follow the start.
func (s *Supervisor) Supervise(t testing.TB, cmd *exec.Cmd, calls ...int) {
	t.Helper()
	if cmd.Err != nil {
		t.Fatal(cmd.Err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	numbers := []string{strconv.Itoa(unix.SYS_EXECVE)}
	for _, n := range calls {
		numbers = append(numbers, strconv.Itoa(n))
	}
	cmd.Args = append([]string{launcherName, strings.Join(numbers, ","), cmd.Path}, cmd.Args...)
	cmd.Path = self
}

// launch runs in the new process: it installs the filter, waits for the supervisor, and becomes
// the program.
func launch(calls string, args []string) error {
	runtime.LockOSThread()
	const arch = 4 // offsetof(struct seccomp_data, arch)
	audit := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: arch},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 1, K: audit},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
	}
	numbers := strings.Split(calls+","+strconv.Itoa(launched), ",")
	for i, text := range numbers {
		n, err := strconv.Atoi(text)
		if err != nil {
			return err
		}
		filter = append(filter, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: uint8(len(numbers) - i), K: uint32(n)})
	}
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF})
	if os.Getuid() != 0 {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return err
		}
	}
	// Each call waits for its turn on a processor twice. On a busy machine that would be a
	// minute; where it is not allowed, so be it.
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -10)
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// Once the supervisor has got a call, only what is deadly interrupts it, so that none is
	// seen twice.
	if _, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, listening, uintptr(unsafe.Pointer(&prog))); e != 0 {
		return fmt.Errorf("seccomp: %w", e)
	}
	if _, _, e := unix.Syscall(launched, 0, 0, 0); e != 0 {
		return fmt.Errorf("wait for the supervisor: %w", e)
	}
	return syscall.Exec(args[0], args[1:], os.Environ())
}

const listening = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV

// canListen reports whether the kernel knows what a supervisor needs (5.19). There is no filter
// at address 0, which the kernel finds only where it knows the flags.
func canListen() bool {
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, listening, 0)
	return e == unix.EFAULT
}

// Attach begins to decide, once the process was started. Wait must follow. The test is skipped
// where the kernel cannot do that.
func (s *Supervisor) Attach(t testing.TB, pid int) {
	t.Helper()
	if !canListen() {
		t.Skip("testproc: this kernel has no SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")
	}
	s.tgid, s.done, s.listener = map[int]int{}, make(chan struct{}), -1
	Until(t, "the launcher to install its filter", func() bool {
		s.listener = takeListener(pid)
		return s.listener >= 0 || State(pid, pid) == 'Z' || State(pid, pid) == 0
	})
	if s.listener < 0 {
		t.Fatal("testproc: the launcher has no filter")
	}
	go func() {
		defer close(s.done)
		defer unix.Close(s.listener)
		s.err = s.serve()
	}()
}

// Wait waits until all supervised processes have ended.
func (s *Supervisor) Wait(t testing.TB) {
	t.Helper()
	Until(t, "the supervised processes to end", func() bool {
		select {
		case <-s.done:
			return true
		default:
			return false
		}
	})
	if s.err != nil {
		t.Fatal("testproc: supervisor:", s.err)
	}
}

func takeListener(pid int) int {
	list, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	i := slices.IndexFunc(list, func(path string) bool {
		link, _ := os.Readlink(path)
		return link == "anon_inode:seccomp notify"
	})
	if i < 0 {
		return -1
	}
	n, _ := strconv.Atoi(filepath.Base(list[i]))
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, n, 0)
	if err != nil {
		return -1
	}
	return fd
}

// notification and response are struct seccomp_notif and seccomp_notif_resp.
type notification struct {
	id         uint64
	pid, flags uint32
	number     int32
	arch       uint32
	pc         uint64
	args       [6]uint64
}

type response struct {
	id           uint64
	value        int64
	error, flags int32
}

// serve decides until no process with the filter is left. Who waits for it may be more urgent
// than all others, and so it is, if that is allowed.
func (s *Supervisor) serve() error {
	runtime.LockOSThread()      // and never unlocked: the thread ends with it
	const setFlags = 0x40082104 // SECCOMP_IOCTL_NOTIF_SET_FLAGS; kernel 6.6
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(s.listener), setFlags, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 2, Flags: unix.SCHED_FLAG_RESET_ON_FORK}
	_ = unix.SchedSetAttr(0, &attr, 0)
	for {
		fds := []unix.PollFd{{Fd: int32(s.listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return err
		}
		if fds[0].Revents&unix.POLLIN == 0 {
			if fds[0].Revents&unix.POLLHUP != 0 {
				return nil
			}
			continue
		}
		var n notification
		_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(s.listener), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n)))
		if e == unix.ENOENT || e == unix.EINTR {
			continue // it has ended
		}
		if e != 0 {
			return e
		}
		s.answer(&n)
	}
}

func (s *Supervisor) answer(n *notification) {
	resp := response{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	tid := int(n.pid)
	switch {
	case n.number == launched:
		resp.flags = 0
	case !s.begun:
		s.begun = n.number == unix.SYS_EXECVE
	default:
		v := s.Judge(Call{PID: s.group(tid), TID: tid, Number: int(n.number), Args: n.args})
		if v.Kill {
			syscall.Kill(s.group(tid), syscall.SIGKILL)
			return
		}
		if v.Errno != 0 {
			resp.flags, resp.error = 0, -int32(v.Errno)
		}
	}
	unix.Syscall(unix.SYS_IOCTL, uintptr(s.listener), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&resp))) // ENOENT: it has ended
}

// group returns the process of a thread.
func (s *Supervisor) group(tid int) int {
	if pid, ok := s.tgid[tid]; ok {
		return pid
	}
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "Tgid:" {
			s.tgid[tid], _ = strconv.Atoi(f[1])
			return s.tgid[tid]
		}
	}
	return tid
}
