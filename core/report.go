package core

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/procmem/procmem"
)

// Report says how a core was taken and what it lacks. It is inside the core, as JSON. The
// caller of Writer.Finish sets the fields down to TotalMS, and Torn. The Writer sets the
// others.
type Report struct {
	Version string    `json:"version"` // of the program that took the core
	Time    time.Time `json:"time"`    // the moment that the core shows, or when taking it began
	PID     int       `json:"pid"`     // in the pid namespace of the program that took the core
	Path    string    `json:"path"`    // of the core as it was asked for; "" for a stream
	Method  string    `json:"method"`  // "stop", "fork", "precopy" or "live"
	// Why says why this method was taken. It is empty if the method was asked for.
	Why string `json:"why,omitempty"`
	// Rounds is how often method precopy copied before the pause.
	Rounds int `json:"rounds,omitempty"`

	// Consistent is true if all memory and registers are of one moment.
	Consistent bool `json:"consistent"`
	// InconsistentReason says why they are not, or which part is not.
	InconsistentReason string `json:"inconsistent_reason,omitempty"`

	PauseMS float64 `json:"pause_ms"` // milliseconds in which no thread of the process could run, measured
	TotalMS float64 `json:"total_ms"` // milliseconds that taking the core took

	MemoryBytes uint64 `json:"memory_bytes"` // memory that the core holds, with zeros and what is missing
	// FileBytes is the size of the core, holes included. Of a compressed core it is the size that
	// the core has unpacked.
	FileBytes int64 `json:"file_bytes"`
	// DiskBytes is how many bytes were written, which is what a file takes on disk without its
	// holes. Of a compressed core it is the compressed length in what package capture returns.
	// In the core itself, whose end was still to come, it is what was compressed.
	DiskBytes int64 `json:"disk_bytes"`
	Threads   int   `json:"threads"`
	Mappings  int   `json:"mappings"`

	// Missing lists the memory that the core should hold and does not, ascending. Entries of
	// the caller stay.
	Missing []Missing `json:"missing"`
	// MissingMore is the number of ranges for which the list has no room, which happens in
	// streams alone. MissingMoreBytes is their size.
	MissingMore      int    `json:"missing_more,omitempty"`
	MissingMoreBytes uint64 `json:"missing_more_bytes,omitempty"`

	// Torn lists memory whose bytes may be of another moment than the rest. TornMore is the
	// number of ranges for which the list has no room.
	Torn     []Torn `json:"torn"`
	TornMore int    `json:"torn_more,omitempty"`

	// ThreadsMissing lists the threads whose registers are not known, or not all.
	// ThreadsMissingMore is the number of threads for which the list has no room.
	ThreadsMissing     []ThreadMissing `json:"threads_missing"`
	ThreadsMissingMore int             `json:"threads_missing_more,omitempty"`
}

// Missing is a range of memory that could not be read.
type Missing struct {
	procmem.Range
	Bytes uint64 `json:"bytes"` // length of the range
	Error string `json:"error"` // the reason
}

// String returns the range and the reason.
func (m Missing) String() string { return fmt.Sprintf("%v: %s", m.Range, m.Error) }

// Torn is a range of memory that may have changed while it was copied.
type Torn struct {
	procmem.Range
	Bytes  uint64 `json:"bytes"`  // length of the range
	Reason string `json:"reason"` // why that could not be prevented
}

// String returns the range and the reason.
func (t Torn) String() string { return fmt.Sprintf("%v: %s", t.Range, t.Reason) }

// ThreadMissing is a thread whose registers could not all be read.
type ThreadMissing struct {
	TID   int    `json:"tid"`
	Error string `json:"error"` // the reason
}

// maxReport bounds the JSON of a report, in bytes. In a file, too, the report takes the room
// that it needs up to this bound.
const maxReport = 16 << 20

// reportRoom is how many bytes a stream reserves for the report. They suffice for most of the
// ranges that could plausibly be missing or torn, and are too few to matter.
func reportRoom(segments, threadsMissing int) int64 {
	return 96<<10 + 128*min(int64(segments), 8<<10) + 256*min(int64(threadsMissing), 8<<10)
}

// addFaults puts the faults into the list, which stays sorted by address.
func (r *Report) addFaults(faults []procmem.Fault) {
	for _, f := range faults {
		r.Missing = append(r.Missing, Missing{f.Range, f.Size(), f.Err.Error()})
	}
	slices.SortStableFunc(r.Missing, func(a, b Missing) int { return cmp.Compare(a.Start, b.Start) })
	r.fillLists()
}

// fillLists replaces nil lists by empty ones, which are [] in JSON and not null.
func (r *Report) fillLists() {
	if r.Missing == nil {
		r.Missing = []Missing{}
	}
	if r.Torn == nil {
		r.Torn = []Torn{}
	}
	if r.ThreadsMissing == nil {
		r.ThreadsMissing = []ThreadMissing{}
	}
}

// encode returns the report as JSON of at most room bytes. If that is too little, it leaves out
// the ends of the lists.
func (r *Report) encode(room int64) ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil || int64(len(b)) <= room {
		return b, err
	}
	short := *r
	short.Missing, short.Torn, short.ThreadsMissing = []Missing{}, []Torn{}, []ThreadMissing{}
	short.MissingMore, short.TornMore, short.ThreadsMissingMore = len(r.Missing), len(r.Torn), len(r.ThreadsMissing)
	short.MissingMoreBytes = 0
	for _, m := range r.Missing {
		short.MissingMoreBytes += m.Bytes
	}
	// With empty lists, the counts of what is left out are the largest that they can be. So the
	// rest of the room is free for entries.
	if b, err = json.Marshal(&short); err != nil {
		return nil, err
	}
	free := room - int64(len(b))
	if free < 0 {
		return nil, errors.New("encode report: no room for it")
	}
	n := fitting(r.ThreadsMissing, &free)
	short.ThreadsMissing = r.ThreadsMissing[:n]
	short.ThreadsMissingMore -= n
	n = fitting(r.Missing, &free)
	short.Missing = r.Missing[:n]
	short.MissingMore -= n
	for _, m := range short.Missing {
		short.MissingMoreBytes -= m.Bytes
	}
	n = fitting(r.Torn, &free)
	short.Torn = r.Torn[:n]
	short.TornMore -= n
	return json.Marshal(&short)
}

// encodePadded is encode, padded to exactly room bytes with spaces, which JSON allows.
func (r *Report) encodePadded(room int64) ([]byte, error) {
	b, err := r.encode(room)
	if err != nil {
		return nil, err
	}
	return append(b, bytes.Repeat([]byte{' '}, int(room)-len(b))...), nil
}

// fitting returns how many elements of list fit into free bytes of JSON, and subtracts those
// bytes from free.
func fitting[T any](list []T, free *int64) int {
	for i := range list {
		b, err := json.Marshal(&list[i])
		if err != nil || int64(len(b))+1 > *free {
			return i
		}
		*free -= int64(len(b)) + 1
	}
	return len(list)
}

// decodeReport reads the JSON of a report note.
func decodeReport(text []byte) (*Report, error) {
	r := new(Report)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, err
	}
	r.fillLists() // a core of an earlier version may lack some
	return r, nil
}
