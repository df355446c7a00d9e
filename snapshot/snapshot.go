package snapshot

import (
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/inject"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/process"
)

// Method is how a moment is taken.
type Method string

// The methods.
const (
	// MethodAuto is the one of the others that meets the bound at the least cost
	// to the process:
	//
	//   - stop, where there is so little memory that it is copied in no time, or
	//     where job control has stopped the process already, or a control group
	//     has it frozen;
	//   - precopy, which costs the process a fault for each page that it writes;
	//   - fork, which costs it a copy of its page tables, and of each page that it
	//     writes; before precopy where most memory is in huge pages, since precopy
	//     breaks them up when they are written;
	//   - stop, for as long as the copy takes.
	//
	// A method by which all memory is of one moment comes before one by which shared
	// memory that this process alone writes to is not. A method that turns out not to be
	// possible, or not to meet the bound, is followed by the next. Without a bound
	// the shortest pause is taken, if none is short.
	MethodAuto Method = "auto"
	// MethodStop holds all threads until Release, or, where there is little memory,
	// until that is copied, which is before Take returns. A thread that waits in the kernel
	// without being interruptible (a disk, the parent of a vfork) is not waited for: it
	// runs no code of its own, gets an Err, and the registers that /proc knows.
	MethodStop Method = "stop"
	// MethodFork has the process copy itself, for which all of its threads are held. The
	// copy, which never runs, is the memory of the moment. It takes 64-bit code of this
	// machine, and room for another process in the target's limits.
	MethodFork Method = "fork"
	// MethodPrecopy copies memory while the process goes on, then again what it has
	// written meanwhile, and so on until that is little; then it holds the process
	// for the rest. It takes 64-bit code of this machine, kernel 6.7, and a Store.
	MethodPrecopy Method = "precopy"
	// MethodLive holds nothing: the memory may be torn. Of its threads it knows what
	// /proc tells: for a blocked one where it is, and no other registers.
	MethodLive Method = "live"
)

// ErrStays reports that the process does not let itself be put in order now, as one does
// that a control group has frozen in the middle of it. A helper process waits for that and
// then finishes; nothing else can trace the process until then. Close returns it, too, of
// a moment that is whole.
var ErrStays = inject.ErrStays

// Snapshot is a moment of a process. It is a procmem.Sparse. Release must be
// called once the memory has been copied, and Close at the end.
type Snapshot struct {
	procmem.Sparse
	Method Method
	// Torn is the memory that may be of another moment, ascending.
	Torn []Torn
	// Unheld tells, once the process has been let go, which others went on meanwhile
	// though they share its memory, and why: all of the memory may be torn.
	Unheld []string
	// Rounds is how often memory was copied before the pause.
	Rounds int
	// Why tells why this method was taken, where that was not asked for.
	Why string

	img     procmem.Image // all but the threads
	threads []procmem.Thread
	tracer  *ptracer.Tracer
	leave   func() time.Duration // ends what the process has to be held for again
	pause   time.Duration
	taken   time.Time
	alive   func() error // reports whether what the memory is read from is still there; nil: it is our own
	whole   error        // what alive returned in the end
	undo    cleanup
}

// show makes a view of the process the memory of the moment.
func (s *Snapshot) show(view *process.View) {
	s.undo.add(view.Close)
	s.Sparse = view
	s.img.Mappings, _ = view.Mappings()
}

// Program returns what is known of the process but for its threads, which may
// still be looked at.
func (s *Snapshot) Program() *procmem.Image {
	img := s.img
	return &img
}

// Image returns what is known of the process. It waits until the registers of
// all threads have been read.
func (s *Snapshot) Image() *procmem.Image {
	if s.tracer != nil {
		s.tracer.Do(func() {})
	}
	img := s.img
	img.Threads = s.threads
	return &img
}

// Release ends the reading of the memory, which must not be read afterwards, and
// lets the process go on. It returns for how long the process was held: from the first
// request to stop a thread until the last one was let go. ErrLost: the memory was lost
// before Release was called, and what was read may be wrong. Release may be called
// again, and then returns the same.
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
		s.pause += s.tracer.Pause() // there may have been one in vain before
		s.tracer = nil
	}
	if s.leave != nil {
		s.pause += s.leave()
		s.leave = nil
	}
}

// Over reports whether the process goes on, and the memory is not read from it
// any more.
func (s *Snapshot) Over() bool { return s.tracer == nil && s.Method != MethodLive }

// Taken returns the moment.
func (s *Snapshot) Taken() time.Time { return s.taken }

// Close releases the target and all else that the snapshot holds, in it too.
// An error tells what could not be undone.
func (s *Snapshot) Close() error {
	s.letGo()
	return s.undo.run()
}

// addThread keeps the leader first: that is the thread that a debugger shows
// when it opens the core.
func (s *Snapshot) addThread(t procmem.Thread, leader bool) {
	s.threads = append(s.threads, t)
	if k := len(s.threads) - 1; leader && k > 0 {
		copy(s.threads[1:], s.threads[:k])
		s.threads[0] = t
	}
}
