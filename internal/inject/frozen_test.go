package inject

import (
	"errors"
	"os"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/internal/testproc"
)

// A group is frozen when the registers of a thread are already those of a call. With version 2
// the call is given up at once. With version 1 the process that waits for it is told that it
// takes a while. The thread has its registers back in any case.
func TestFrozenInCall(t *testing.T) {
	for version, group := range testproc.Freezers(t) {
		t.Run(version, func(t *testing.T) {
			p := testproc.Start(t, testproc.Zoo, "--only", "anon")
			group.Add(t, p.PID())
			p.WaitBlocked(t, 8)
			told := 0
			calling(t, open(t, p), func(c *Injector) {
				c.late = func(err error) {
					if told++; !errors.Is(err, ErrFrozen) {
						t.Errorf("told of %v", err)
					}
					group.Thaw(t)
				}
				var was, is ptracer.Taken
				tid := p.TID(t, "zoo-1")
				was = c.t.TakeOne(tid, Arch)
				group.Freeze(t)
				res, err := c.call(tid, regsOf(t, tid), unix.SYS_GETPPID)
				if version == "v2" && (!errors.Is(err, ErrFrozen) || told != 0) {
					t.Errorf("call: %v, told %d times", err, told)
				}
				if version == "v1" && (told != 1 || err == nil && int(res.value) != os.Getpid() || err != nil && !errors.Is(err, ErrFrozen)) {
					t.Errorf("call: %d, %v, told %d times", res.value, err, told)
				}
				if is = c.t.TakeOne(tid, Arch); !reflect.DeepEqual(is, was) {
					t.Errorf("thread is\n%v\nand was\n%v", is, was)
				}
			})
			group.Thaw(t)
			p.Cmd(t, "ping")
			if got := p.CmdInts(t, "wake"); got[1] != 0 {
				t.Errorf("registers around a system call changed %d times", got[1])
			}
			group.Freeze(t)
			group.WaitFrozen(t)
			if _, err := New(open(t, p), nil); !errors.Is(err, ErrFrozen) {
				t.Errorf("a call in a frozen process: %v", err)
			}
			group.Thaw(t)
		})
	}
}
