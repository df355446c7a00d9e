package snapshot

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/forkroom"
	"github.com/procmem/procmem/internal/overlay"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// Estimate is what is expected of a method on one process.
type Estimate struct {
	Method Method
	// Pause is the time for which the process would be held.
	Pause time.Duration
	// Torn is the size, in bytes, of memory that would be of another moment though no other
	// process writes to it. Snapshot.Torn lists it.
	Torn uint64
	// Err says why the method is impossible. It is nil for a possible one.
	Err error
	// First is set by Estimates for the method that Take would try first.
	First bool
}

// Rough costs on a machine of 2020 or later. They decide between methods that are orders of
// magnitude apart, and are set high.
const (
	stopBase      = 500 * time.Microsecond
	stopThread    = 25 * time.Microsecond // to stop one, read its registers, and let it go on
	forkBase      = 300 * time.Microsecond
	forkMapping   = 1500 * time.Nanosecond
	forkPage      = 90 * time.Nanosecond  // an entry of a page table
	forkHugePage  = 500 * time.Nanosecond // of 2 MiB
	mapsMapping   = 800 * time.Nanosecond // to print and compare one line of maps
	scanPage      = 3 * time.Nanosecond
	diskSpeed     = 1 << 30 // bytes a second
	writeSpeed    = 1 << 30 // of a thread that does nothing but write memory
	rateWindow    = 50 * time.Millisecond
	dirtyWindow   = 2 * time.Millisecond // from the last round to the stop
	hugePageBytes = 2 << 20
)

// footprint is what decides how long each method takes on a process.
type footprint struct {
	forkroom.Footprint
	threads          int
	wanted           uint64  // to copy, in bytes
	uncopied         uint64  // bytes that a fork does not copy, and that we do
	inPause          uint64  // bytes that precopy copies during the pause
	torn, tornByFork uint64  // bytes of shared memory that precopy and fork read after it
	busy             float64 // threads that run at a time
	stopped          string  // why it does not run: job control, or frozen; "" if it may run
}

// measure returns the footprint of the process. If there is much memory, it ends at least
// rateWindow after the look began. Nothing is stopped.
func (f *pauser) measure() (x footprint, err error) {
	stat, err := f.p.Stat()
	if err != nil {
		return x, err
	}
	status, err := f.p.Status()
	if err != nil {
		return x, err
	}
	x.threads, x.Mappings = status.Threads, len(f.maps)
	if x.stopped = ""; stat.State == 'T' {
		x.stopped = "the process was stopped already"
	} else if f.p.Frozen() != "" {
		x.stopped = "the process was frozen already, by a control group"
	}
	x.wanted = f.size()
	torn := slices.Clone(f.s.Torn)
	left, beyond := f.uncopied()
	for i := range left {
		x.uncopied += overlay.KeepSize(f.view, &left[i])
	}
	f.s.Torn = torn
	x.inPause, x.torn, x.tornByFork = f.inPause, f.torn, beyond
	x.AddCopies(f.maps)
	if err := f.scan(); err == nil {
		for _, v := range f.regions {
			if v.Categories&sys.PageHuge != 0 {
				x.HugePages += (v.End - v.Start) / hugePageBytes
			} else {
				x.Pages += (v.End - v.Start) / procmem.PageSize
			}
		}
	} else {
		x.Pages = status.RSS / procmem.PageSize
	}
	if x.stopped != "" || x.wanted <= littleMemory {
		return x, nil // how busy it is does not matter
	}
	time.Sleep(rateWindow - time.Since(f.began))
	if stat, err = f.p.Stat(); err != nil {
		return x, err
	}
	x.busy = (stat.UserTime + stat.SystemTime - f.ran).Seconds() / time.Since(f.began).Seconds()
	return x, nil
}

func (x *footprint) stopping() time.Duration {
	// In a crowd of threads, those that sleep are stopped before the pause.
	return stopBase + time.Duration(min(x.threads, ptracer.Crowd))*stopThread
}

func (x *footprint) stop() time.Duration {
	if x.wanted <= littleMemory {
		return x.stopping() + x.listing() + seconds(x.wanted, copySpeed)
	}
	return x.stopping() + x.listing() + seconds(x.wanted, diskSpeed)
}

// listing is the time to look at mappings and pages.
func (x *footprint) listing() time.Duration {
	return time.Duration(x.Mappings)*mapsMapping + time.Duration(x.Pages)*scanPage
}

func (x *footprint) fork() time.Duration {
	return x.stopping() + forkBase + time.Duration(x.Mappings)*forkMapping + time.Duration(x.Pages)*forkPage +
		time.Duration(x.HugePages)*forkHugePage + seconds(x.uncopied, copySpeed)
}

func (x *footprint) precopy() time.Duration {
	written := min(x.wanted, uint64(x.busy*writeSpeed*dirtyWindow.Seconds()))
	return x.stopping() + x.listing() + seconds(x.inPause+written, copySpeed)
}

// Estimates returns what is expected of each method for Take with the same options. It stops
// nothing. It watches a process with much memory for 50 ms to see how busy it is. It calls
// Prepare, and does not use the store.
func Estimates(p *process.Process, o Options) ([]Estimate, error) {
	l, err := lookAt(p)
	if err != nil {
		return nil, err
	}
	f := newPauser(l, o, nil)
	defer f.s.Close()
	if o.Prepare != nil {
		if _, err := o.Prepare(&l.img, l.view); err != nil {
			return nil, err
		}
	}
	if err := f.plan(); err != nil {
		return nil, err
	}
	x, err := f.measure()
	if err != nil {
		return nil, err
	}
	o.Method = cmp.Or(o.Method, MethodAuto)
	c := chooser{taking: &taking{o: o}, x: &x, all: f.estimates(&x)}
	if order := c.order(); len(order) > 0 {
		c.of(order[0].Method).First = true
	}
	return c.all, nil
}

func (f *pauser) estimates(x *footprint) []Estimate {
	stop := f.p.CheckNamespace()
	fork := cmp.Or(stop, canCall(f.p, f.img.Arch), canClone(f.p))
	precopy, pause := cmp.Or(fork, canTrack()), x.precopy()
	if precopy != nil && stop == nil {
		if err := f.canUseBits(); err == nil {
			precopy, pause = nil, pause+f.lookTime()
		} else {
			precopy = fmt.Errorf("%w; %w", precopy, err)
		}
	}
	if fork == nil {
		fork = forkroom.Check(f.p, &x.Footprint)
	}
	if fork == nil {
		fork = forkroom.Waits(f.p, f.view, f.maps)
	}
	return []Estimate{
		{Method: MethodPrecopy, Pause: pause, Torn: x.torn, Err: precopy},
		{Method: MethodFork, Pause: x.fork(), Torn: x.tornByFork, Err: fork},
		{Method: MethodStop, Pause: x.stop(), Err: stop},
	}
}

// list returns estimates in one line.
func list(all []Estimate) string {
	var parts []string
	for _, e := range all {
		if e.Err != nil {
			parts = append(parts, fmt.Sprintf("%s not possible (%v)", e.Method, e.Err))
		} else {
			parts = append(parts, fmt.Sprintf("%s %v%s", e.Method, round(e.Pause), tornText(e.Torn)))
		}
	}
	return strings.Join(parts, ", ")
}

// tornText says how much memory would be of another moment.
func tornText(torn uint64) string {
	if torn == 0 {
		return ""
	}
	return fmt.Sprintf(" (with %d MiB of another moment)", (torn+1<<20-1)>>20)
}

// round leaves the digits that an estimate deserves.
func round(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(100 * time.Millisecond)
	}
	if d > 10*time.Millisecond {
		return d.Round(time.Millisecond)
	}
	return d.Round(100 * time.Microsecond)
}
