package snapshot

import (
	"math"
	"os"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/sys"
)

// memoryShare is the part of the memory that is available which a store in memory
// may take: one half of it.
const memoryShare = 2

// memoryStore returns a store in memory for all that a process has, or nil where too
// little is available.
func memoryStore(l *look) (Store, func() error) {
	var size uint64
	for i := range l.maps {
		size += presentSize(l.view, &l.maps[i])
	}
	if free, known := sys.AvailableMemory(); !known || size > free/memoryShare {
		return nil, nil
	}
	fd, err := unix.MemfdCreate("procmem", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil
	}
	f := os.NewFile(uintptr(fd), "memfd")
	return pageset.NewStore(f, nil, 0, math.MaxInt64), f.Close
}
