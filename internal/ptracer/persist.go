package ptracer

import (
	"bytes"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/procfs"
	"github.com/procmem/procmem/internal/sys"
)

// Persist calls f, which asks something of a held thread, until f succeeds, for 0.1 s at most.
// It returns the last error. It gives up at once where the thread is gone or not stopped. For a
// moment the kernel may answer ESRCH for a stopped thread, so /proc decides. It is for what
// must not be left undone, such as giving registers back.
func Persist(tid int, f func() error) (err error) {
	for range 100 {
		if err = f(); err == nil || errors.Is(err, unix.ESRCH) && !isStopped(tid) {
			return err
		}
		sys.Nap(time.Millisecond)
	}
	return err
}

// isStopped reports whether a thread is at a stop of its tracer.
func isStopped(tid int) bool {
	text, err := privilege.ReadProc(tid, "stat")
	if err != nil {
		return false
	}
	st, err := procfs.ParseStat(bytes.NewReader(text))
	return err == nil && st.State == 't'
}

// detach lets a held thread go on. The signal that it was about to take is delivered.
func detach(tid int, th *traced) {
	_ = Persist(tid, func() error { return sys.Detach(tid, th.signal) }) // it was killed
}
