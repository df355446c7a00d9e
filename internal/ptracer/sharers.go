package ptracer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// Other processes may have the memory of the target. These are children of vfork(2) and
// posix_spawn(3) until they execute a program, and those of clone(2) with CLONE_VM. They write
// to it as its threads do, so they are held with it. Each has a tracer of its own, because
// PTRACE_SEIZE of a process in exec waits for the end of the exec. The target must not wait
// with it.
//
// All processes are looked at before the pause. In the pause, only those with later ids are: a
// held process has no more children.

const (
	maxSharers = 64
	// maxBorn bounds the number of ids that the kernel may have given since all processes were
	// looked at. With more, all are looked at again.
	maxBorn = 4096
	// sharerPatience bounds how long the target waits for the others on a busy machine. One
	// that sleeps in the kernel is given up earlier.
	sharerPatience = 2 * time.Second
)

// sharers are the processes that share the memory of the target.
type sharers struct {
	held   []*sharer
	seen   map[int]bool // ids of processes that need not be looked at
	born   int          // the last id that the kernel had given when all were looked at
	unheld []string     // a clause for each process that is not held
}

// sharer is one process that shares the memory.
type sharer struct {
	*Tracer
	stopping chan error // nil before it is asked to stop; then receives the result
	late     bool       // the result did not come in time
	told     bool       // unheld names it
}

// HoldSharers says whether the tracer also holds the processes that share the memory of its
// own. Threads does not return their threads.
func (t *Tracer) HoldSharers(hold bool) { t.sharing = hold }

// Unheld names each process that shares the memory and went on during the pause, with the
// reason. It is complete once the process has been let go.
func (t *Tracer) Unheld() []string { return t.unheld }

// findSharers looks at all processes.
func (t *Tracer) findSharers() {
	if !t.sharing {
		return
	}
	s := &t.sharers
	if s.seen == nil {
		s.seen = map[int]bool{t.p.PID(): true, os.Getpid(): true}
	}
	s.born = lastBorn() // before the list, because that may miss processes that are born while it is made
	pids, err := process.List()
	if err != nil {
		s.unheld = append(s.unheld, fmt.Sprintf("which processes share its memory is not known: %v", err))
		return
	}
	t.addSharers(pids, sharesMemory)
}

// findNewSharers looks at the processes that were born since, and reports whether any is to be
// held.
func (t *Tracer) findNewSharers() bool {
	s := &t.sharers
	if !t.sharing || s.born == 0 {
		return false
	}
	before, first, last := len(s.held), s.born+1, lastBorn()
	if last < s.born || last-first > maxBorn { // the ids may have begun again
		t.findSharers()
		return len(s.held) > before
	}
	s.born = last
	var tids []int
	for tid := first; tid <= last; tid++ {
		if t.threads[tid] == nil && !ownTask(tid) {
			tids = append(tids, tid)
		}
	}
	t.addSharers(tids, func(task, tid int) bool {
		same, _ := sys.SameMemory(task, tid)
		return same
	})
	return len(s.held) > before
}

// ownTask reports whether a task has ended, or is a thread of this program or of the one that
// has started it as its helper. Only other tasks are asked about in another thread, which takes
// its time on a busy machine. Most tasks that are born during a pause are threads of ours.
func ownTask(tid int) bool {
	st, err := taskStatus(tid)
	return err != nil || st.TGID == os.Getpid() || st.TGID == os.Getppid()
}

// addSharers adds the processes of those tasks that share the memory.
func (t *Tracer) addSharers(tids []int, shares func(task, tid int) bool) {
	tids = slices.DeleteFunc(tids, func(tid int) bool { return t.sharers.seen[tid] || t.threads[tid] != nil })
	task := t.liveTask()
	if len(tids) == 0 || task == 0 {
		return
	}
	for _, tid := range matching(tids, func(tid int) bool { return shares(task, tid) }) {
		t.addSharer(tid)
	}
}

// addSharer adds the process of a task that shares the memory. It skips the target, and
// processes that we hold for another purpose.
func (t *Tracer) addSharer(tid int) {
	st, err := taskStatus(tid)
	s := &t.sharers
	if err != nil || s.seen[st.TGID] || ours(st.TracerPID) {
		return
	}
	s.seen[st.TGID] = true
	if len(s.held) == maxSharers {
		s.unheld = append(s.unheld, fmt.Sprintf("more than %d processes share its memory: process %d is not held", maxSharers, st.TGID))
		return
	}
	p, err := process.Open(st.TGID)
	if err != nil {
		return // the process has ended
	}
	s.held = append(s.held, &sharer{Tracer: New(p)})
}

// stopSharers begins to stop those that have not been asked to.
func (t *Tracer) stopSharers(ctx context.Context) {
	for _, s := range t.sharers.held {
		if s.stopping == nil {
			s.stopping = make(chan error, 1)
			go func() { s.stopping <- s.Stop(ctx) }()
		}
	}
}

// awaitSharers waits until they have stopped, but at most sharerPatience.
func (t *Tracer) awaitSharers() {
	var late <-chan time.Time
	for _, s := range t.sharers.held {
		if s.stopping == nil || s.late {
			continue
		}
		if late == nil {
			late = time.After(sharerPatience)
		}
		for waiting := true; waiting; {
			select {
			case err := <-s.stopping:
				t.stopped(s, err)
				waiting = false
			case <-time.After(time.Millisecond):
				s.late = executes(s.p)
				waiting = !s.late
			case <-late:
				late = time.After(0)
				s.late, waiting = true, false
			}
		}
	}
}

// stopped notes the result of stopping one sharer.
func (t *Tracer) stopped(s *sharer, err error) {
	s.stopping <- err // for the next reader
	if err == nil {
		var refused int
		s.Do(func() { refused = s.refused() })
		if refused == 0 || executes(s.p) {
			return
		}
		err = ErrWouldNot
	}
	if errors.Is(err, procmem.ErrGone) || !s.p.Exists() || s.late {
		return
	}
	s.late, s.told = true, true
	why := err.Error()
	if st, serr := s.p.Status(); serr == nil && st.TracerPID != 0 && errors.Is(err, unix.EPERM) {
		why = fmt.Sprintf("process %d traces it", st.TracerPID)
	}
	t.sharers.unheld = append(t.sharers.unheld, fmt.Sprintf("process %d shares its memory and could not be held: %s", s.p.PID(), why))
}

// refused returns a thread that has not stopped, or 0.
func (t *Tracer) refused() int {
	for tid, th := range t.threads {
		if !th.stopped {
			return tid
		}
	}
	return 0
}

// LetSharersGo lets the processes go that share the memory, before the threads, and notes those
// that went on meanwhile. A process in exec writes nothing to the memory that it had, unless
// the exec fails. Only the tracing thread may call it.
func (t *Tracer) LetSharersGo() {
	t.unheld = append(t.unheld, t.sharers.unheld...)
	for _, s := range t.sharers.held {
		if s.late && !s.told && t.stillShares(s) && !executes(s.p) {
			t.unheld = append(t.unheld, fmt.Sprintf("process %d shares its memory and did not stop in time", s.p.PID()))
		}
	}
	for _, s := range t.sharers.held {
		end := func() {
			s.Release()
			s.p.Close()
		}
		if s.late {
			go end() // Release may have to wait for it
		} else {
			end()
		}
	}
	t.sharers = sharers{}
}

func (t *Tracer) stillShares(s *sharer) bool {
	return len(matching([]int{s.p.PID()}, func(pid int) bool { return sharesMemory(t.liveTask(), pid) })) > 0
}
