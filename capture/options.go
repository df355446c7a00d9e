package capture

import (
	"errors"
	"fmt"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/sink"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/snapshot"
)

// Compression is how a core is compressed.
type Compression uint8

// The compressions.
const (
	Uncompressed Compression = iota
	// Zstd is the seekable zstd format. core.Open and core.NewReader read it in place, and
	// zstd -d unpacks it.
	Zstd
)

// Options say how a core is taken. The zero value is that of the command.
type Options struct {
	// Method is the method to take. Empty means snapshot.MethodAuto.
	Method snapshot.Method
	// MaxPause bounds the expected pause. Zero means no bound.
	MaxPause time.Duration
	// Filter chooses the mappings. A nil Filter means that of /proc/PID/coredump_filter
	// (core(5)).
	Filter *core.Filter
	// Only limits the core to segments that touch one of these ranges. A nil Only leaves all
	// that Filter chooses.
	Only []procmem.Range
	// Compress is how ToFile and ToWriter compress the core.
	Compress Compression
	// Replace has ToFile replace an existing file of that name.
	Replace bool
	// Spool says where ToWriter and Memory may put memory that is copied before its place is
	// known. The others have a file for it.
	Spool Spool
	// Creator is the version of the program, for the report in the core.
	Creator string
	// OnEvent, if not nil, is called with each event. It must return at once, because the
	// process may be held.
	OnEvent func(Event)
}

// Spool is a place for memory that is copied while the process goes on, before it can be
// written to its final place. The zero value is memory, at most one half of what is available.
type Spool struct {
	dir  string
	none bool
}

// NoSpool is no place. It makes snapshot.MethodPrecopy impossible, and a slow writer may keep
// the process held.
var NoSpool = Spool{none: true}

// SpoolIn returns an unnamed file in a folder. It takes as much room as the core.
func SpoolIn(dir string) Spool { return Spool{dir: dir} }

// open returns a spool for size bytes. It is nil if there can be none and the method does not
// need one.
func (s Spool) open(size uint64, m snapshot.Method) (*sink.Spool, error) {
	var spool *sink.Spool
	var err error
	switch {
	case s.none:
		err = errNoSpool
	case s.dir != "":
		// Method stop reads the memory back at once.
		spool, err = sink.FitSpool(s.dir, size, m != snapshot.MethodStop)
	default:
		if free, known := sys.AvailableMemory(); !known || size > free/2 {
			err = fmt.Errorf("%w: half of the memory that is available is too little", errNoSpool)
		} else {
			spool, err = sink.NewMemorySpool()
		}
	}
	if err != nil && m == snapshot.MethodPrecopy {
		return nil, &SpoolError{Dir: s.dir, Err: roomError(err)}
	}
	return spool, nil
}

// EventKind is a kind of event.
type EventKind uint8

// The events, in the order in which they come.
const (
	// EventPlanning reports that the process is looked at.
	EventPlanning EventKind = iota
	// EventZeros reports that pages of zeros are counted, because there may be too little room.
	EventZeros
	// EventCounting reports that Written counts from now on towards Total.
	EventCounting
	// EventRound reports that memory is copied while the process goes on.
	EventRound
	// EventPaused reports that the process is held.
	EventPaused
	// EventPausedWriting reports that memory is written while the process is held.
	EventPausedWriting
	// EventWriting reports that memory is written while the process goes on.
	EventWriting
	// EventFinishing reports that all is written, and is made durable.
	EventFinishing
	// EventStays reports that the process cannot be put in order now. Err says why. A helper
	// process will do it later, and the core is whole.
	EventStays
)

// Event is one event of the work.
type Event struct {
	Kind    EventKind
	Round   int          // number of an EventRound, from 1
	Written func() int64 // of EventCounting: bytes so far; it is safe for concurrent use
	Total   int64        // of EventCounting: about how many bytes Written will reach
	Err     error        // of EventStays
}

func (o *Options) tell(e Event) {
	if o.OnEvent != nil {
		o.OnEvent(e)
	}
}

// noFile returns an error for an option of what is written, where nothing is.
func (o *Options) noFile() error {
	switch {
	case o.Compress != Uncompressed:
		return errors.New("option Compress is for ToFile and ToWriter: nothing else is compressed")
	case o.Replace:
		return errors.New("option Replace is for ToFile: nothing else has a name")
	}
	return nil
}

// filter returns the filter of the core.
func (o *Options) filter(p *process.Process) (core.Filter, error) {
	if o.Filter != nil {
		return *o.Filter, nil
	}
	bits, err := p.CoredumpFilter()
	return core.Filter(bits), err
}
