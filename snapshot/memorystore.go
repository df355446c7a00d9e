package snapshot

import (
	"math"
	"os"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/overlay"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/sys"
)

// memoryShare is the divisor of available memory that bounds a store in memory: one half.
const memoryShare = 2

// memoryStore returns a store in memory with room for the whole process, and its close
// function. It returns nil if too little memory is available.
func memoryStore(l *look) (Store, func() error) {
	var size uint64
	for i := range l.maps {
		size += overlay.KeepSize(l.view, &l.maps[i])
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
