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

// persistenceForAll is persistence for the threads of a process together, to stop them and
// again to let them go. What fails for thousands of them fails for good. The end of the tracing
// thread lets them all go, but without the signals that they were about to take.
const persistenceForAll = 3 * persistence

// Persist calls f, which asks something of a held thread, until f succeeds, for 0.1 s at most.
// It returns the last error. It gives up at once if the thread is gone or not stopped. For a
// moment the kernel may answer ESRCH for a stopped thread, so /proc decides. It is for what
// must not be left undone, such as giving registers back.
func Persist(tid int, f func() error) error {
	tries := persistence
	return persist(tid, "t", &tries, f)
}

// persist is Persist for a thread in one of some states (proc_pid_stat(5)). It counts its
// failures down from tries, and makes one attempt where there are none left.
func persist(tid int, states string, tries *int, f func() error) error {
	for {
		err := f()
		if err == nil || *tries <= 0 || errors.Is(err, unix.ESRCH) && !inState(tid, states) {
			return err
		}
		*tries--
		sys.Nap(time.Millisecond)
	}
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

// detach lets a held thread go on. The signal that it was about to take is delivered. A thread
// that was killed meanwhile cannot be detached from: look takes its exit.
func (t *Tracer) detach(tid int, th *traced) {
	err := persist(tid, "t", &t.tries, func() error { return sys.Detach(tid, th.signal) })
	th.stopped, th.detached = false, err == nil
}

// interrupt asks a thread to stop. Wait finds out if it has exited.
func (t *Tracer) interrupt(tid int) {
	_ = persist(tid, "RSDTt", &t.tries, func() error { return sys.Interrupt(tid) })
}
