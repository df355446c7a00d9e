package inject

import (
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/procmem/procmem/internal/testproc"
	"github.com/procmem/procmem/process"
	"golang.org/x/sys/unix"
)

// A helper that was killed before it has read what to do resets the connection.
func TestHelperIsGone(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	k := &Helper{}
	if k.conn, err = unixConn(pair[0]); err != nil {
		t.Fatal(err)
	}
	defer k.conn.Close()
	k.dec = gob.NewDecoder(k)
	if _, err := k.conn.Write([]byte("what to do")); err != nil {
		t.Fatal(err)
	}
	unix.Close(pair[1])
	if _, err := k.Listen(t.Context()); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("%v; want %v", err, unix.ECONNRESET)
	}
}

// A helper has the threads that it may want before it does anything to the target.
func TestHelperHasThreads(t *testing.T) {
	target, err := process.Open(testproc.Start(t, testproc.Kids).PID())
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	k, err := Start(target, Job{Task: TaskTrack})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	threads := func() int {
		tids, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", k.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		return len(tids)
	}
	if _, _, err := k.Userfaultfd(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := threads(); n < stockThreads {
		t.Errorf("it has %d threads; want %d at least", n, stockThreads)
	}
}
