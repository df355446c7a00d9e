package sink

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/regular"
)

// NoRoomError reports that a file cannot be written, before it is begun.
type NoRoomError struct {
	Path string
	// Need is how many bytes it takes, about.
	Need uint64
	// Have is how many bytes are free, or, with Limit, how long a file may be.
	Have uint64
	// Limit tells that it is not the file system but RLIMIT_FSIZE, which counts holes.
	Limit bool
	// Err is why the room could not be taken though it seemed to be there, else nil.
	Err error
}

func (e *NoRoomError) Error() string {
	switch {
	case e.Err != nil:
		return fmt.Sprintf("write %s: no room: %v", e.Path, e.Err)
	case e.Limit:
		return fmt.Sprintf("write %s: the limit on file sizes is %d bytes and %d are needed", e.Path, e.Have, e.Need)
	}
	return fmt.Sprintf("write %s: no room: about %d bytes are needed and %d are free", e.Path, e.Need, e.Have)
}

func (e *NoRoomError) Unwrap() error { return e.Err }

// Fit compares what is to be written to path, data bytes at most in a file of length bytes,
// with the room for it. It returns how much that is. Pages of zeros take none, but to find them
// memory has to be read: zeros counts them, and is only called where they matter. NoRoomError:
// it does not fit.
func Fit(path string, data, length uint64, zeros func() (uint64, error)) (uint64, error) {
	have, err := regular.Room(path)
	if err == nil && data > have {
		var n uint64
		n, err = zeros()
		data -= min(n, data)
	}
	if err != nil {
		return 0, err
	}
	if data > have {
		return 0, &NoRoomError{Path: path, Need: data, Have: have}
	}
	return data, CheckLength(path, length)
}

// CheckLength returns a NoRoomError if a file of length bytes, holes included, is longer than
// RLIMIT_FSIZE allows.
func CheckLength(path string, length uint64) error {
	if limit := longestFile(); length > limit {
		return &NoRoomError{Path: path, Need: length, Have: limit, Limit: true}
	}
	return nil
}

// longestFile is the limit on file sizes, in bytes.
func longestFile() uint64 {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_FSIZE, &lim) != nil {
		return math.MaxUint64
	}
	return lim.Cur
}
