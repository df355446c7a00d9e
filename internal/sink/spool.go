package sink

import (
	"fmt"
	"math"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/pageset"
)

// Spool keeps pages by address in a file that has no name, for memory that
// is copied in an order in which a stream cannot take it. Place in the file is
// given in the order of first use. Close ends it, as does the end of the
// process, however it comes.
type Spool struct {
	*pageset.Store
	file *File
}

// NewSpool makes a spool of mode 0600 in a folder. With cache, what comes first
// stays in the page cache, as long as that is little of what the machine has:
// it is read back sooner, but to find memory for it may take longer than to
// write it.
func NewSpool(dir string, cache bool) (*Spool, error) {
	f, err := Unnamed(dir)
	if err != nil {
		return nil, fmt.Errorf("create spool: %w", err)
	}
	file := &File{f: f, direct: openDirect(f), disk: onDisk(f)}
	if cache {
		file.cached = mayCache()
	}
	return &Spool{pageset.NewStore(file, nil, 0, math.MaxInt64), file}, nil
}

// mayCache returns how much of a spool the page cache may hold: it is soon read
// back and then dropped, mostly before it has been written to the disk. The
// kernel begins to write where a tenth of the memory that it can have is dirty
// (vm.dirty_background_ratio), and a spool should not make it.
func mayCache() int64 {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "MemAvailable: %d kB", &kib); err == nil {
			return kib << 10 / 16
		}
	}
	return 0
}

// Unnamed returns a new file of mode 0600 without a name, in a folder.
func Unnamed(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if err == nil {
		return f, nil
	}
	// A file system may lack O_TMPFILE.
	if f, err = os.CreateTemp(dir, "procmem-*"+suffix); err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Close gives back the room that the spool takes.
func (s *Spool) Close() { s.file.close() }
