package mappedfile

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNoAnswer reports that a file is on a server that did not answer in time, or that refuses
// the caller.
var ErrNoAnswer = errors.New("its file is on a server that does not answer, or does not give it out")

// File is a file behind a mapping. All methods of a file on a server fail with ErrNoAnswer if
// that does not answer in time.
type File interface {
	io.ReaderAt
	io.Closer
	// Size returns the length of the file, in bytes.
	Size() (int64, error)
	// SeekData returns the offset of the first data from off on, and that of the hole after it.
	// It fails with ENXIO if there is no data. A hole that is not after the data is unknown.
	SeekData(off int64) (data, hole int64, err error)
}

// Local is a file that the kernel serves itself.
type Local struct{ *os.File }

// Size implements File.
func (f Local) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// SeekData implements File.
func (f Local) SeekData(off int64) (data, hole int64, err error) { return seekData(f.File, off) }

func seekData(f *os.File, off int64) (data, hole int64, err error) {
	if data, err = unix.Seek(int(f.Fd()), off, unix.SEEK_DATA); err != nil {
		return 0, 0, err
	}
	hole, _ = unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE) // 0: unknown
	return data, hole, nil
}
