package snapshot

import (
	"os"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/dirty"
	"github.com/procmem/procmem/internal/holders"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// pauser holds a process for as long as the last copy takes. It finds out before the pause all
// that can be: mappings with their flags, wanted memory, files to read pages from later.
type pauser struct {
	*look
	o     Options
	store Store     // nil for none
	s     *Snapshot // the result; its Close undoes everything

	tracker *dirty.Tracker // nil: nothing has been copied, or bits is not nil
	bits    *dirty.Bits    // nil: nothing has been copied, or tracker is not nil
	wanted  []procmem.Range
	whole   []procmem.Mapping        // copied during the pause, even those that a round has copied
	inPause uint64                   // size of whole, in bytes
	shared  map[holders.ID]*tracking // shared memory that is copied like private memory
	torn    uint64                   // bytes that may be of another moment: shared memory read after the pause, pinned memory
	pins    string                   // by which descriptor memory is written without a fault (holders.Pinned); "" for none
	calls   *uint64                  // count of write(2) and similar calls before tracking; nil: not known
	pagemap *os.File
	unknown uint64           // categories that the kernel does not know
	noScan  bool             // the kernel has no PAGEMAP_SCAN
	regions []sys.PageRegion // what scan found
	room    []sys.PageRegion // for the results of a query
}

// newPauser returns a pauser that owns what the look has opened.
func newPauser(l *look, o Options, store Store) *pauser {
	f := &pauser{look: l, o: o, store: store, s: &Snapshot{img: l.img, undo: l.undo},
		room: make([]sys.PageRegion, 4096), regions: make([]sys.PageRegion, 0, 4096)}
	l.undo = nil
	return f
}

// fromFile reports whether unwritten pages of a private file mapping can be read from the file
// later.
func (f *pauser) fromFile(m *procmem.Mapping) bool {
	return m.HasFile() && m.Flags&procmem.VMHugeTLB == 0 && f.view.HasBacking(m)
}

// Rough costs of a pause, which decide whether it keeps its bound.
const (
	copySpeed = 4 << 30                // of a copy, in bytes a second
	runTime   = 1500 * time.Nanosecond // to find a run of pages, and to read it apart from others
	pauseBase = time.Millisecond       // of a pause in which nothing is copied
)

// littleMemory is how many bytes are copied during a pause without asking how long that takes.
const littleMemory = 32 << 20

// seconds returns how long so many bytes take at a speed in bytes a second.
func seconds(bytes uint64, speed float64) time.Duration {
	return time.Duration(float64(bytes) / speed * float64(time.Second))
}

// estimate returns about how long a pause takes in which this work is done.
func (f *pauser) estimate(w dirty.Work) time.Duration {
	return pauseBase + seconds(w.Bytes+f.inPause, copySpeed) + time.Duration(w.Runs)*runTime
}

// tracking is an object that is copied while the process goes on.
type tracking struct {
	dirty.Shared
	object *holders.Object
	began  process.FileState // before anything was copied
	quiet  bool              // it had not changed for quietFile by then
}
