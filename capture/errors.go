package capture

import (
	"errors"
	"fmt"

	"github.com/procmem/procmem/internal/sink"
)

// NoRoomError reports that there is too little room for the core or for a spool. Nothing was
// stopped.
type NoRoomError struct {
	Path  string // of the file, or the folder of the spool
	Need  uint64 // bytes that it takes, about
	Have  uint64 // bytes that are free; with Limit, how long a file may be
	Limit bool   // it is not the file system but RLIMIT_FSIZE, which counts holes
	Err   error  // why the room could not be taken though it seemed to be there, else nil
}

func (e *NoRoomError) Error() string { return (*sink.NoRoomError)(e).Error() }

func (e *NoRoomError) Unwrap() error { return e.Err }

// roomError returns err as a *NoRoomError where it is one of package sink.
func roomError(err error) error {
	if e, ok := errors.AsType[*sink.NoRoomError](err); ok {
		return (*NoRoomError)(e)
	}
	return err
}

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
