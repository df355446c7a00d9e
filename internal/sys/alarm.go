package sys

import (
	"fmt"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Alarm interrupts again and again what the OS thread that has made it waits for. It is a timer
// of the kernel, so no other thread of ours has to run for it.
type Alarm struct{ id int32 }

// alarmSignal is the signal by which it does so, which nobody else sends.
const alarmSignal = unix.SIGIO

// NewAlarm returns an alarm for this OS thread, to which the goroutine must stay locked.
// EAGAIN: the limit on queued signals (RLIMIT_SIGPENDING) allows no timer.
func NewAlarm() (*Alarm, error) {
	if err := interrupting(); err != nil {
		return nil, err
	}
	unblock := uint64(1) << (alarmSignal - 1)
	if _, _, e := unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_UNBLOCK, uintptr(unsafe.Pointer(&unblock)), 0, 8, 0, 0); e != 0 {
		return nil, e
	}
	event := struct { // struct sigevent
		value               uint64
		signal, notify, tid int32
		_                   [44]byte
	}{signal: int32(alarmSignal), notify: 4 /* SIGEV_THREAD_ID */, tid: int32(unix.Gettid())}
	a := new(Alarm)
	if _, _, e := unix.RawSyscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&a.id))); e != 0 {
		return nil, fmt.Errorf("timer_create(2): %w", e)
	}
	return a, nil
}

// interrupting has the signal interrupt system calls. The handler stays that of the Go runtime,
// which ignores it, and has all calls begin again.
var interrupting = sync.OnceValue(func() error {
	var action struct { // of rt_sigaction(2)
		handler  uintptr
		flags    uint64
		restorer uintptr
		mask     uint64
	}
	const restart = 0x10000000 // SA_RESTART
	old := uintptr(unsafe.Pointer(&action))
	if _, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(alarmSignal), 0, old, 8, 0, 0); e != 0 {
		return e
	}
	action.flags &^= restart
	if _, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(alarmSignal), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0); e != 0 {
		return e
	}
	return nil
})

// Start makes the alarm go off after each period, until Stop.
func (a *Alarm) Start(period time.Duration) {
	ts := unix.NsecToTimespec(int64(period))
	a.set(&unix.ItimerSpec{Interval: ts, Value: ts})
}

// Stop stops the alarm.
func (a *Alarm) Stop() { a.set(&unix.ItimerSpec{}) }

func (a *Alarm) set(spec *unix.ItimerSpec) {
	_, _, _ = unix.RawSyscall6(unix.SYS_TIMER_SETTIME, uintptr(a.id), 0, uintptr(unsafe.Pointer(spec)), 0, 0, 0)
}

// Close removes the alarm.
func (a *Alarm) Close() { _, _, _ = unix.RawSyscall(unix.SYS_TIMER_DELETE, uintptr(a.id), 0, 0) }
