package snapshot

import (
	"fmt"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/inject"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/process"
)

// Method is a way to take a moment.
type Method string

// The methods.
const (
	// MethodAuto is the method that meets the bound at the least cost to the process:
	//
	//   - stop, where there is little memory to copy, or where job control or a control group
	//     holds the process already;
	//   - precopy, which costs the process a fault for each page that it writes;
	//   - fork, which costs it a copy of its page tables, and of each page that it writes. Fork
	//     precedes precopy where most memory is in huge pages, because precopy breaks up those
	//     that are written;
	//   - stop, for as long as the copy takes.
	//
	// Methods that take all memory at one moment precede methods that read shared memory later
	// which this process alone writes to. A method that fails, or does not meet the bound, is
	// followed by the next. Without a bound, and where no pause is short, the shortest is
	// taken.
	MethodAuto Method = "auto"
	// MethodStop holds all threads until Release. If there is little memory, it holds them only
	// until that is copied, before Take returns. It does not wait for a thread in an
	// uninterruptible wait of the kernel (a disk, the parent of a vfork). Such a thread runs no
	// code of its own. Its Err is set, and its registers are those that /proc knows.
	MethodStop Method = "stop"
	// MethodFork has the process copy itself, while all of its threads are held. The copy never
	// runs, and is the memory of the moment. It needs 64-bit code of this machine, and room for
	// another process in the target's limits.
	MethodFork Method = "fork"
	// MethodPrecopy copies memory while the process goes on, then copies again what was written
	// meanwhile. When little is left, it holds the process for the rest. It needs a Store, and
	// 64-bit code of this machine on kernel 6.7, or a kernel with soft-dirty bits
	// (CONFIG_MEM_SOFT_DIRTY).
	MethodPrecopy Method = "precopy"
	// MethodLive holds nothing, so the memory may be torn. Threads have what /proc tells: the
	// registers of a blocked one, as far as LiveRegisters returns them.
	MethodLive Method = "live"
)

// ErrStays reports that the process cannot be put in order now, such as one that a control
// group froze meanwhile. A helper process waits and then finishes. Nothing else can trace the
// process until then. Close may return ErrStays for a moment that is whole.
var ErrStays = inject.ErrStays

// Snapshot is one moment of a process. It is a procmem.Sparse. Release must be called once the
// memory has been copied, and Close at the end.
type Snapshot struct {
	procmem.Sparse
	// Method is the method that was taken, never MethodAuto.
	Method Method
	// Torn is the memory that may be of another moment, ascending.
	Torn []Torn
	// Unheld names each process that shares the memory and could not be held, with the reason.
	// If it is not empty, all memory may be torn. It is complete once the process has been let
	// go.
	Unheld []string
	// Rounds is the number of times that memory was copied before the pause.
	Rounds int
	// Why says why MethodAuto took this method. It is empty if the caller named one.
	Why string

	img     procmem.Image // all but the threads
	threads []procmem.Thread
	tracer  *ptracer.Tracer
	leave   func() time.Duration // ends the forked copy, for which the process is held once more; returns that pause
	pause   time.Duration
	taken   time.Time
	alive   func() error // reports whether the memory's source still exists; nil: the memory is our own
	whole   error        // the last result of alive
	undo    cleanup
}

// show makes a view of the process the memory of the moment.
func (s *Snapshot) show(view *process.View) {
	s.undo.add(view.Close)
	s.Sparse = view
	s.img.Mappings, _ = view.Mappings()
}

// Program returns what is known of the process without its threads. It waits for nothing.
func (s *Snapshot) Program() *procmem.Image {
	img := s.img
	return &img
}

// Image returns what is known of the process. It waits until the registers of all threads have
// been read.
func (s *Snapshot) Image() *procmem.Image {
	if s.tracer != nil {
		s.tracer.Do(func() {})
	}
	img := s.img
	img.Threads = s.threads
	return &img
}

// Release lets the process go on, and returns the length of the pause. The pause begins with
// the first request to stop a thread, and ends with the release of the last one. The memory
// must not be read afterwards. ErrLost reports that the memory was lost before Release, so what
// was read may be wrong. A second call returns the same.
func (s *Snapshot) Release() (time.Duration, error) {
	if s.alive != nil {
		s.whole = s.alive()
		s.alive = nil
	}
	s.letGo()
	return s.pause, s.whole
}

// letGo ends all holds on the process.
func (s *Snapshot) letGo() {
	if s.tracer != nil {
		s.tracer.Release()
		s.Unheld = append(s.Unheld, s.tracer.Unheld()...)
		s.pause += s.tracer.Pause() // an attempt in vain may have held it before
		s.tracer = nil
	}
	if s.leave != nil {
		s.pause += s.leave()
		s.leave = nil
	}
}

// Over reports whether the process goes on and the memory is no longer read from it.
func (s *Snapshot) Over() bool { return s.tracer == nil && s.Method != MethodLive }

// Taken returns the time of the moment.
func (s *Snapshot) Taken() time.Time { return s.taken }

// Close releases the process and all resources of the snapshot, those in the process included.
// An error says what could not be undone. The memory must not be read after Close.
func (s *Snapshot) Close() error {
	s.letGo()
	return s.undo.run()
}

// addThread keeps the leader first, because a debugger shows the first thread when it opens the
// core.
func (s *Snapshot) addThread(t procmem.Thread, leader bool) {
	s.threads = append(s.threads, t)
	if k := len(s.threads) - 1; leader && k > 0 {
		copy(s.threads[1:], s.threads[:k])
		s.threads[0] = t
	}
}

// addThreads completes what the tracer took with what was known of the threads before they were
// stopped.
func (s *Snapshot) addThreads(pid int, infos map[int]procmem.Thread, threads []ptracer.Taken) {
	for _, th := range threads {
		t, ok := infos[th.TID]
		if !ok {
			t.TID = th.TID
		}
		if th.Info != nil {
			t = *th.Info
		}
		t.Regsets = th.Regsets
		if th.Reason != nil {
			t.Err = th.Reason
		} else {
			t.Blocked, t.Pending = th.Blocked, th.Pending
		}
		s.addThread(t, th.TID == pid)
	}
}

// Torn is memory whose bytes may be of another moment than the rest.
type Torn struct {
	procmem.Range
	Reason string // one clause for people
}

// String returns the range and the reason.
func (t Torn) String() string { return fmt.Sprintf("%v: %s", t.Range, t.Reason) }
