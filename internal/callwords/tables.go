package callwords

import "strings"

// futexFlags are FUTEX_PRIVATE_FLAG and FUTEX_CLOCK_REALTIME (include/uapi/linux/futex.h).
const futexFlags = 128 | 256

var futexes = map[uint64]string{
	0: "FUTEX_WAIT", 1: "FUTEX_WAKE", 3: "FUTEX_REQUEUE", 4: "FUTEX_CMP_REQUEUE", 5: "FUTEX_WAKE_OP",
	6: "FUTEX_LOCK_PI", 7: "FUTEX_UNLOCK_PI", 8: "FUTEX_TRYLOCK_PI", 9: "FUTEX_WAIT_BITSET",
	10: "FUTEX_WAKE_BITSET", 11: "FUTEX_WAIT_REQUEUE_PI", 12: "FUTEX_CMP_REQUEUE_PI", 13: "FUTEX_LOCK_PI2",
}

var clocks = map[uint64]string{0: "CLOCK_REALTIME", 1: "CLOCK_MONOTONIC", 7: "CLOCK_BOOTTIME", 11: "CLOCK_TAI"}

var fcntls = map[uint64]string{7: "F_SETLKW", 14: "F_SETLKW64", 38: "F_OFD_SETLKW", 1024: "F_SETLEASE"}

// kinds are the arguments of the calls in which threads wait, by name; - is one that is left
// out.
var kinds = joined(map[string]string{
	"fd": `read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 recvfrom recvmsg recvmmsg recv
		sendto sendmsg sendmmsg send accept accept4 connect shutdown fsync fdatasync sync_file_range fallocate
		ftruncate ftruncate64 getdents getdents64 flock epoll_ctl io_uring_enter fanotify_mark mq_timedreceive
		mq_timedsend copy_file_range syncfs close lseek fstat newfstatat openat openat2 readahead sendfile64`,
	"fd - - ms":  "epoll_wait epoll_pwait",
	"fd -":       "epoll_pwait2",
	"fd fd":      "sendfile tee dup2 dup3",
	"fd - fd":    "splice",
	"fd request": "ioctl",
	"fd fcntl":   "fcntl fcntl64",
	"addr futex": "futex",
	"addr":       "futex_wait",
	"- fds ms":   "poll",
	"- fds":      "ppoll",
	"fds":        "select pselect6 _newselect",
	"clock":      "clock_nanosleep",
	"int":        "wait4 waitpid msgrcv msgsnd semop semtimedop kill tgkill",
	"- int":      "waitid",
})

// joined returns the kinds by single names.
func joined(byKinds map[string]string) map[string]string {
	out := map[string]string{}
	for kinds, names := range byKinds {
		for name := range strings.FieldsSeq(names) {
			out[name] = kinds
		}
	}
	return out
}

// interruptible are the calls that fail with EINTR where a thread was stopped meanwhile, and are
// not begun again by the kernel (signal(7)).
var interruptible = each(`epoll_wait epoll_pwait epoll_pwait2 semop semtimedop rt_sigtimedwait io_getevents
	io_pgetevents io_uring_enter`)

func each(names string) map[string]bool {
	out := map[string]bool{}
	for name := range strings.FieldsSeq(names) {
		out[name] = true
	}
	return out
}
