package callwords

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
)

func TestOf(t *testing.T) {
	file := func(fd int) string {
		if fd == 0 {
			return "/dev/pts/0"
		}
		return ""
	}
	minus := ^uint64(0)
	for _, c := range []struct {
		arch   procmem.Arch
		number int
		args   [6]uint64
		want   string
	}{
		{procmem.AMD64, 202, [6]uint64{0x7f12, 0x80}, "futex(FUTEX_WAIT, 0x7f12)"},
		{procmem.AMD64, 202, [6]uint64{0x7f12, 0x189}, "futex(FUTEX_WAIT_BITSET, 0x7f12)"},
		{procmem.AMD64, 202, [6]uint64{0x7f12, 77}, "futex(operation 77, 0x7f12)"},
		{procmem.AMD64, 232, [6]uint64{5, 0x1000, 64, minus}, "epoll_wait(5)"},
		{procmem.AMD64, 232, [6]uint64{5, 0x1000, 64, 1500}, "epoll_wait(5, 1.5s)"},
		{procmem.AMD64, 0, [6]uint64{0}, "read(0 → /dev/pts/0)"},
		{procmem.AMD64, 7, [6]uint64{0x1000, 1, minus}, "poll(1 descriptor)"},
		{procmem.AMD64, 7, [6]uint64{0x1000, 2, 10}, "poll(2 descriptors, 10ms)"},
		{procmem.AMD64, 61, [6]uint64{0xffffffff}, "wait4(-1)"},
		{procmem.AMD64, 230, [6]uint64{1}, "clock_nanosleep(CLOCK_MONOTONIC)"},
		{procmem.AMD64, 257, [6]uint64{0xffffff9c}, "openat(AT_FDCWD)"},
		{procmem.AMD64, 34, [6]uint64{}, "pause"},
		{procmem.AMD64, 99999, [6]uint64{1, 2}, "system call 99999"},
		{procmem.I386, 240, [6]uint64{0xffffffff00007f12, 0x80}, "futex(FUTEX_WAIT, 0x7f12)"},
		{procmem.I386, 422, [6]uint64{0x7f12, 0x80}, "futex_time64(FUTEX_WAIT, 0x7f12)"},
		{procmem.ARM64, 22, [6]uint64{5, 0, 0, minus}, "epoll_pwait(5)"},
	} {
		if got := Of(c.arch, Call{c.number, c.args}, file); got != c.want {
			t.Errorf("%v %d: %s, want %s", c.arch, c.number, got, c.want)
		}
	}
	if got := Of(procmem.AMD64, Call{unix.SYS_READ, [6]uint64{3}}, nil); got != "read(3)" {
		t.Error(got)
	}
}
