package capture

import (
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
	// Zstd is the seekable zstd format: core.Open reads it in place, and zstd -d gives
	// the core.
	Zstd
)

// Options say how a core is taken. The zero value is that of the command.
type Options struct {
	// Method is snapshot.MethodAuto where it is empty.
	Method snapshot.Method
	// MaxPause bounds for how long the process is expected to be held; zero is no bound.
	MaxPause time.Duration
	// Filter chooses the mappings. A nil Filter is that of /proc/PID/coredump_filter
	// (core(5)).
	Filter *core.Filter
	// Only has the core hold memory of those segments alone that touch one of these
	// ranges. A nil Only holds all that Filter chooses.
	Only []procmem.Range
	// Compress is how the core is compressed.
	Compress Compression
	// Replace has ToFile replace a file of that name.
	Replace bool
	// Spool says where ToWriter, Memory and Unnamed may put memory that is copied before
	// its place is known.
	Spool Spool
	// Creator is the version of the program, for the report in the core.
	Creator string
	// OnEvent is told what happens. It must return at once: the process may be held.
	OnEvent func(Event)
}

// Spool is a place for memory that is copied while the process goes on, before it can be
// written to where it belongs. The zero value is memory, one half of what is
// available at most.
type Spool struct {
	dir  string
	none bool
}

// NoSpool is no place: snapshot.MethodPrecopy is impossible then, and a slow writer may
// keep the process held.
var NoSpool = Spool{none: true}

// SpoolIn is a file without a name in a folder. It takes as much room as the core.
func SpoolIn(dir string) Spool { return Spool{dir: dir} }

// open makes a spool for size bytes. It is nil where there can be none and the method
// can do without.
func (s Spool) open(size uint64, m snapshot.Method) (*sink.Spool, error) {
	var spool *sink.Spool
	var err error
	switch {
	case s.none:
		err = errNoSpool
	case s.dir != "":
		// With method stop the memory is read back at once.
		spool, err = sink.FitSpool(s.dir, size, m != snapshot.MethodStop)
	default:
		if free, known := sys.AvailableMemory(); !known || size > free/2 {
			err = fmt.Errorf("%w: half of the memory that is available is too little", errNoSpool)
		} else {
			spool, err = sink.NewMemorySpool()
		}
	}
	if err != nil && m == snapshot.MethodPrecopy {
		return nil, &SpoolError{Dir: s.dir, Err: err}
	}
	return spool, nil
}

// EventKind is a kind of event.
type EventKind uint8

// The events, in the order in which they come.
const (
	// EventPlanning: the process is looked at.
	EventPlanning EventKind = iota
	// EventZeros: there may be too little room, so that pages of zeros are counted.
	EventZeros
	// EventCounting: Written counts from now on towards Total.
	EventCounting
	// EventRound: memory is copied while the process goes on.
	EventRound
	// EventPaused: the process is held.
	EventPaused
	// EventPausedWriting: memory is written, and the process is held.
	EventPausedWriting
	// EventWriting: memory is written, and the process goes on.
	EventWriting
	// EventFinishing: all is written, and is made to last.
	EventFinishing
	// EventStays: the process cannot be put in order now; Err tells why. A helper
	// process does so later, and the core is whole.
	EventStays
)

// Event tells of the work.
type Event struct {
	Kind    EventKind
	Round   int          // of EventRound, from 1
	Written func() int64 // of EventCounting: bytes so far; it is safe for concurrent use
	Total   int64        // of EventCounting: bytes that Written reaches, about
	Err     error        // of EventStays
}

func (o *Options) tell(e Event) {
	if o.OnEvent != nil {
		o.OnEvent(e)
	}
}

// filter returns what the core is to hold.
func (o *Options) filter(p *process.Process) (core.Filter, error) {
	if o.Filter != nil {
		return *o.Filter, nil
	}
	bits, err := p.CoredumpFilter()
	return core.Filter(bits), err
}
