package background

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func policy(t *Thread) (p uint32) {
	t.Do(func() {
		if attr, err := unix.SchedGetAttr(0, 0); err == nil {
			p = attr.Policy
		}
	})
	return p
}

func TestThread(t *testing.T) {
	b := New()
	defer b.Close()
	if p := policy(b); p != unix.SCHED_IDLE {
		t.Errorf("policy %d at first", p)
	}
	b.Do(func() { time.Sleep(2 * starved) })
	if p := policy(b); p != unix.SCHED_BATCH {
		t.Errorf("policy %d after a piece of work that took long", p)
	}
	if attr, err := unix.SchedGetAttr(0, 0); err != nil || attr.Policy != unix.SCHED_NORMAL {
		t.Errorf("other threads: %+v, %v", attr, err)
	}
}
