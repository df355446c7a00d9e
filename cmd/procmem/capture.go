package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/procmem/procmem/capture"
	"github.com/procmem/procmem/internal/units"
	"github.com/procmem/procmem/process"
)

// The events and errors of package capture, in words.

// event returns a function that shows the events of a capture.
func (p *progress) event(of *process.Process) func(capture.Event) {
	return func(e capture.Event) {
		switch e.Kind {
		case capture.EventPlanning:
			p.enter("looking at the process")
		case capture.EventZeros:
			p.enter("looking for empty pages")
		case capture.EventCounting:
			p.count(e.Written, e.Total)
		case capture.EventRound:
			p.enter(fmt.Sprintf("copying ahead, round %d", e.Round))
		case capture.EventPaused:
			p.enter("process held")
		case capture.EventPausedWriting:
			p.enter("process held, writing")
		case capture.EventWriting:
			p.enter("writing")
		case capture.EventFinishing:
			p.enter("waiting for the disk")
		case capture.EventStays:
			notice("process %d: %v", of.PID(), e.Err)
		}
	}
}

// hurried is for captures that compress, which only the first round and the time after the
// pause do. To change the number of processors, all goroutines have to stop. That takes its
// time where the process keeps the machine busy. So it happens before the last round, not
// between that and the pause.
func hurried(tell func(capture.Event)) func(capture.Event) {
	return func(e capture.Event) {
		switch e.Kind {
		case capture.EventRound:
			hurry(e.Round == 1)
		case capture.EventPaused:
			hurry(false)
		case capture.EventPlanning, capture.EventPausedWriting, capture.EventWriting, capture.EventFinishing:
			hurry(true)
		}
		tell(e)
	}
}

// processors is how many processors the Go scheduler has at first.
var processors = runtime.GOMAXPROCS(0)

// hurry gives the Go scheduler more processors, or as many as there are. A goroutine that waits
// for a disk in a system call keeps one of them for milliseconds, and a reader and a writer do.
// While the process is held, more processors would get in the way of its threads.
func hurry(on bool) {
	want := processors
	if on {
		want += 2
	}
	if runtime.GOMAXPROCS(0) != want {
		runtime.GOMAXPROCS(want)
	}
}

// Other places for a core or a dump.
const (
	notThisCore = "another place with -o, --compress zstd, or a stream with -o -"
	notThisDump = "another place with -o, or a stream with -o -"
)

// worded adds a remedy to an error of package capture. instead says where else the memory could
// go.
func worded(err error, p *process.Process, instead string) error {
	if e, ok := errors.AsType[*capture.ProcessError](err); ok {
		return onProcess(p, e.Err)
	}
	if e, ok := errors.AsType[*capture.SpoolError](err); ok {
		return fmt.Errorf("method precopy copies memory ahead, to %s: %w (nothing was stopped)", e.Dir, spoolError(e))
	}
	if e, ok := errors.AsType[*capture.NoRoomError](err); ok {
		return noRoomFor(e, instead)
	}
	return err
}

func spoolError(s *capture.SpoolError) error {
	remedy := ""
	if s.Dir == os.TempDir() {
		remedy = "; choose another folder by TMPDIR"
	}
	e, ok := errors.AsType[*capture.NoRoomError](s.Err)
	switch {
	case !ok:
		return fmt.Errorf("%w%s", s.Err, remedy)
	case e.Limit:
		return fmt.Errorf("the limit on file sizes is %s and about %s may be needed there; raise the limit with ulimit -f", units.Size(e.Have), units.Size(e.Need))
	}
	return fmt.Errorf("no room: about %s may be needed there and %s is free%s", units.Size(e.Need), units.Size(e.Have), remedy)
}

func noRoomFor(e *capture.NoRoomError, instead string) error {
	switch {
	case e.Err != nil:
		return fmt.Errorf("write %s: no room: %v; choose %s (nothing was stopped)", e.Path, e.Err, instead) // noRoom has nothing to add
	case e.Limit:
		return fmt.Errorf("write %s: the limit on file sizes is %s and the file would have about %s, holes included: raise the limit with ulimit -f (nothing was stopped)",
			e.Path, units.Size(e.Have), units.Size(e.Need))
	}
	return fmt.Errorf("write %s: no room: about %s are needed and %s is free there; choose %s (nothing was stopped)",
		e.Path, units.Size(e.Need), units.Size(e.Have), instead)
}
