package capture

import (
	"errors"
	"fmt"

	"github.com/procmem/procmem/internal/sink"
)

// NoRoomError reports that there is too little room for the core or for a spool. Nothing was
// stopped.
type NoRoomError = sink.NoRoomError

// SpoolError reports that snapshot.MethodPrecopy has no place for the memory that it copies
// early. Nothing was stopped.
type SpoolError struct {
	Dir string // "" means memory
	Err error
}

func (e *SpoolError) Error() string {
	where := e.Dir
	if where == "" {
		where = "memory"
	}
	return fmt.Sprintf("method precopy copies memory ahead, to %s: %v", where, e.Err)
}

func (e *SpoolError) Unwrap() error { return e.Err }

// errNoSpool says why there is no spool.
var errNoSpool = errors.New("there is no place for memory that is copied early")

// ProcessError reports that a request to the process failed. Other errors are those of the
// destination.
type ProcessError struct {
	PID int
	Err error
	why string // the sentence of access; "" where it has none
}

// Error returns the cause and the remedy as access.Explain saw them when the request failed.
// Where that knows of none, it returns the text of Err.
func (e *ProcessError) Error() string {
	if e.why != "" {
		return e.why
	}
	return fmt.Sprintf("process %d: %v", e.PID, e.Err)
}

func (e *ProcessError) Unwrap() error { return e.Err }
