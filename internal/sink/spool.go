package sink

import (
	"fmt"
	"math"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/regular"
	"github.com/procmem/procmem/internal/sys"
)

// Spool keeps pages by address in a file without a name. It is for memory that is copied in an
// order in which a stream cannot take it. Places in the file are given in the order of first
// use. The file ends with Close, and with the process however that ends.
type Spool struct {
	*pageset.Store
	file *File
}

// NewSpool creates a spool of mode 0600 in a folder. With cache, the first of it stays in the
// page cache, as long as that is little of the memory of the machine. It is read back sooner
// then, but finding memory for it may take longer than writing it.
func NewSpool(dir string, cache bool) (*Spool, error) {
	f, err := regular.Unnamed(dir)
	if err != nil {
		return nil, fmt.Errorf("create spool: %w", err)
	}
	file := &File{f: f, direct: openDirect(f), disk: onDisk(f)}
	if cache {
		file.cached = mayCache()
	}
	return &Spool{pageset.NewStore(file, nil, 0, math.MaxInt64), file}, nil
}

// mayCache returns how many bytes of a spool the page cache may hold. A spool is soon read back
// and then dropped, mostly before it has been written to the disk. The kernel begins to write
// where a tenth of the memory that it can have is dirty (vm.dirty_background_ratio), and a
// spool should not make it.
func mayCache() int64 {
	free, _ := sys.AvailableMemory()
	return int64(free / 16)
}

// Close gives back the room that the spool takes.
func (s *Spool) Close() { s.file.close() }

// FitSpool is NewSpool, with caching, where the folder has room for size bytes. NoRoomError: it
// has not.
func FitSpool(dir string, size uint64, cache bool) (*Spool, error) {
	have, err := regular.Room(filepath.Join(dir, "spool"))
	if err != nil {
		return nil, err
	}
	if have < size {
		return nil, &NoRoomError{Path: dir, Need: size, Have: have}
	}
	if err := CheckLength(dir, size); err != nil {
		return nil, err
	}
	return NewSpool(dir, cache)
}

// NewMemorySpool is NewSpool in memory that counts as that of this process (memfd_create(2)).
func NewMemorySpool() (*Spool, error) {
	fd, err := unix.MemfdCreate("procmem-spool", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create spool: %w", err)
	}
	file := &File{f: os.NewFile(uintptr(fd), "memfd")}
	return &Spool{pageset.NewStore(file, nil, 0, math.MaxInt64), file}, nil
}
