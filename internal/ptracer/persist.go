package ptracer

import (
	"bytes"
	"errors"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/procfs"
	"github.com/procmem/procmem/internal/sys"
)

// persistence is how often, a millisecond apart, something is asked of a thread in vain.
const persistence = 100

// Persist calls f, which asks something of a held thread, until f succeeds, for 0.1 s at most.
// It returns the last error. It gives up at once if the thread is gone or not stopped. For a
// moment the kernel may answer ESRCH for a stopped thread, so /proc decides. It is for what
// must not be left undone, such as giving registers back.
func Persist(tid int, f func() error) error { return persist(tid, "t", f) }

// persist is Persist for a thread in one of some states (proc_pid_stat(5)).
func persist(tid int, states string, f func() error) (err error) {
	for range persistence {
		if err = f(); err == nil || errors.Is(err, unix.ESRCH) && !inState(tid, states) {
			return err
		}
		sys.Nap(time.Millisecond)
	}
	return err
}

// inState reports whether a thread is in one of some states.
func inState(tid int, states string) bool {
	text, err := privilege.ReadProc(tid, "stat")
	if err != nil {
		return false
	}
	st, err := procfs.ParseStat(bytes.NewReader(text))
	return err == nil && strings.IndexByte(states, st.State) >= 0
}

// detach lets a held thread go on. The signal that it was about to take is delivered.
func detach(tid int, th *traced) {
	_ = Persist(tid, func() error { return sys.Detach(tid, th.signal) }) // it was killed
}

// interrupt asks a thread to stop. Wait finds out if it has exited.
func interrupt(tid int) { _ = persist(tid, "RSDTt", func() error { return sys.Interrupt(tid) }) }
