package pageset

import (
	"errors"
	"os"
	"syscall"
)

// FileData returns the first run of data in the interval [off, end) of a file, or end, end if
// there is none. On a file system without holes everything is data.
func FileData(f *os.File, off, end int64) (from, to int64) {
	const seekData, seekHole = 3, 4 // include/uapi/linux/fs.h
	from, err := f.Seek(off, seekData)
	if errors.Is(err, syscall.ENXIO) || err == nil && from >= end { // ENXIO: none up to the end of the file
		return end, end
	}
	if err != nil || from < off {
		return min(off, end), end
	}
	to, err = f.Seek(from, seekHole)
	if err != nil || to <= from {
		return from, end
	}
	return from, min(to, end)
}
