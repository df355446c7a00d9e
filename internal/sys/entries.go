package sys

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Bits of an entry of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst).
const (
	EntryPresent = 1 << 63
	EntrySwapped = 1 << 62
	EntryFile    = 1 << 61 // of a file or shared memory
	EntryGuard   = 1 << 58 // guard marker, kernel 6.15 and later
	EntryAlone   = 1 << 56 // mapped once
	EntryWritten = 1 << 55 // since the soft-dirty bits were cleared, or of a mapping that is newer

	// EntryFrame has the number of the page frame of a present page. It is 0 without
	// CAP_SYS_ADMIN in the first user namespace.
	EntryFrame = 1<<55 - 1

	EntrySize = 8
)

// PagemapEntries reads the entries of the pages from address start on, as far as there are any
// and buf has room. fd is an open /proc/PID/pagemap. Nothing is returned where the process has
// ended.
func PagemapEntries(fd uintptr, start, pageSize uint64, buf []uint64) ([]uint64, error) {
	if len(buf) == 0 {
		return buf, nil
	}
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&buf[0])), len(buf)*EntrySize)
	for {
		n, err := unix.Pread(int(fd), raw, int64(start/pageSize*EntrySize))
		runtime.KeepAlive(buf)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, err
		}
		return buf[:n/EntrySize], nil
	}
}

// Address returns the address of the first byte of memory that the garbage collector does not
// move, such as that of unix.Mmap.
func Address(p []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(p)))) }
