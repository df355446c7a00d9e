package sys

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Ptrace events and options that x/sys does not name everywhere.
const (
	EventStop = 128 // PTRACE_EVENT_STOP
)

// ptrace makes a request with data that the kernel reads or fills. Go's scheduler is not told
// of the system call, which waits for nobody. Between two of them, a thread of the target may
// have registers of ours. That time must not be spent in the queue for a processor, or on a new
// OS thread.
func ptrace(request, tid int, addr uintptr, data unsafe.Pointer) error {
	_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), addr, uintptr(data), 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// ptraceWord is ptrace with data that is a number.
func ptraceWord(request, tid int, data uintptr) error {
	_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), 0, data, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// Seize attaches to a thread without stopping it (PTRACE_SEIZE, no options: the death of the
// tracer lets the target go on). It waits while the process is in exec.
func Seize(tid int) error {
	if _, _, e := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(tid), 0, 0, 0, 0); e != 0 {
		return e
	}
	return nil
}

// Interrupt asks a seized thread to stop (PTRACE_INTERRUPT).
func Interrupt(tid int) error { return ptraceWord(unix.PTRACE_INTERRUPT, tid, 0) }

// Detach lets a stopped thread go on, and delivers signal sig unless it is 0.
func Detach(tid, sig int) error { return ptraceWord(unix.PTRACE_DETACH, tid, uintptr(sig)) }

// GetRegset reads the register set typ of a stopped thread into buf and returns its size in
// bytes. EINVAL or ENODEV: the thread has no such set.
func GetRegset(tid int, typ uint32, buf []byte) (int, error) {
	iov := unix.Iovec{Base: &buf[0]}
	iov.SetLen(len(buf))
	err := ptrace(unix.PTRACE_GETREGSET, tid, uintptr(typ), unsafe.Pointer(&iov))
	runtime.KeepAlive(buf)
	return int(iov.Len), err
}

// SetRegset writes the register set typ of a stopped thread.
func SetRegset(tid int, typ uint32, data []byte) error {
	iov := unix.Iovec{Base: &data[0]}
	iov.SetLen(len(data))
	err := ptrace(unix.PTRACE_SETREGSET, tid, uintptr(typ), unsafe.Pointer(&iov))
	runtime.KeepAlive(data)
	return err
}

// GetSigmask returns the blocked signals of a stopped thread (PTRACE_GETSIGMASK; bit n-1 is
// signal n).
func GetSigmask(tid int) (uint64, error) {
	var mask uint64
	err := ptrace(0x420a, tid, unsafe.Sizeof(mask), unsafe.Pointer(&mask))
	return mask, err
}

// PendingSignals returns the signals queued for a stopped thread itself, not for its process
// (PTRACE_PEEKSIGINFO; bit n-1 is signal n).
func PendingSignals(tid int) (uint64, error) {
	var (
		args struct {
			off   uint64
			flags uint32
			nr    int32
		}
		info [8][128]byte // siginfo_t
		set  uint64
	)
	args.nr = int32(len(info))
	for {
		n, _, e := unix.Syscall6(unix.SYS_PTRACE, 0x4209, uintptr(tid),
			uintptr(unsafe.Pointer(&args)), uintptr(unsafe.Pointer(&info)), 0, 0)
		if e != 0 {
			return set, e
		}
		for i := range int(n) {
			if sig := *(*int32)(unsafe.Pointer(&info[i])); sig >= 1 && sig <= 64 {
				set |= 1 << (sig - 1)
			}
		}
		if int(n) < len(info) {
			return set, nil
		}
		args.off += uint64(n)
	}
}

// Wait asks, without blocking, whether a traced thread has changed state (waitid with __WALL
// and WNOHANG). Ok is false if it has not. ECHILD: this OS thread does not trace it any more.
//
// A stop is looked at and not taken (WNOWAIT), so it is reported again. Taking it would also
// take the signal with which the thread stopped, and that would be lost if the tracer died
// before detaching with it. An exit is taken.
func Wait(tid int) (status unix.WaitStatus, ok bool, err error) { return wait(tid, unix.WNOHANG) }

// Await is Wait that blocks until there is something to tell. Ok is false if an Alarm ended it.
// It is for a locked OS thread. The target's thread mostly has to run on the processor of this
// one, and blocking is quicker than asking again.
func Await(tid int) (status unix.WaitStatus, ok bool, err error) { return wait(tid, 0) }

func wait(tid, options int) (status unix.WaitStatus, ok bool, err error) {
	info, err := waitid(tid, options|unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT)
	if err != nil || info.pid == 0 {
		return 0, false, err
	}
	switch info.code {
	case cldTrapped, cldStopped: // as wait4 has it: stopped, the signal, the event
		return unix.WaitStatus(info.status<<8 | 0x7f), true, nil
	}
	// Without WNOWAIT a stop would be taken too, whatever the options say; but what has exited
	// does not stop.
	if info, err = waitid(tid, unix.WNOHANG|unix.WEXITED); err != nil || info.pid == 0 {
		return 0, false, err
	}
	if info.code == cldExited {
		return unix.WaitStatus(info.status << 8), true, nil
	}
	return unix.WaitStatus(info.status), true, nil // killed
}

// Exited reports whether a traced process has ended, and does not reap it: the parent of the
// process learns of its end only after that. ECHILD: it is not traced any more.
func Exited(tid int) (bool, error) {
	info, err := waitid(tid, unix.WNOHANG|unix.WEXITED|unix.WNOWAIT)
	return err == nil && info.pid != 0 && info.code != cldTrapped && info.code != cldStopped, err
}

// si_code of a siginfo from waitid.
const (
	cldExited  = 1
	cldTrapped = 4
	cldStopped = 5
)

// waitInfo is the siginfo_t that waitid fills.
type waitInfo struct {
	signo, errno, code int32
	_                  int32
	pid                int32
	uid                uint32
	status             int32
	_                  [100]byte
}

// waitid does not tell the scheduler, as ptrace. If it blocks it is for no longer than the
// period of an Alarm.
func waitid(tid, options int) (info waitInfo, err error) {
	for {
		_, _, e := unix.RawSyscall6(unix.SYS_WAITID, unix.P_PID, uintptr(tid),
			uintptr(unsafe.Pointer(&info)), uintptr(options|unix.WALL), 0, 0)
		switch {
		case e == 0:
			return info, nil
		case e == unix.EINTR && options&unix.WNOHANG == 0:
			return waitInfo{}, nil
		case e != unix.EINTR:
			return info, e
		}
	}
}
