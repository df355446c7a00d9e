package core

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
)

// cold is a core that is read once, from front to back. What is not in the page cache is read
// around it (O_DIRECT), and takes no room there from data that others need. What is in the
// cache stays. If the kernel (before 6.5) or the file system does not support that, all goes
// through the cache.
type cold struct {
	*os.File
	size   int64
	direct *os.File // the same file; nil if the file system refuses
}

// coldMin is the smallest read, in bytes, for which it pays to ask for the page cache.
const coldMin = 64 << 10

func newCold(f *os.File, size int64) *cold {
	c := &cold{File: f, size: size}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err == nil {
		c.direct = os.NewFile(uintptr(fd), f.Name())
	}
	return c
}

// ReadAt implements io.ReaderAt.
func (c *cold) ReadAt(p []byte, off int64) (int, error) {
	if c.direct != nil && len(p) >= coldMin && (off|int64(len(p)))%procmem.PageSize == 0 && !c.cached(off, len(p)) {
		if n, err := c.direct.ReadAt(p, off); err == nil || err == io.EOF {
			return n, err
		}
	}
	return c.File.ReadAt(p, off)
}

// cached reports whether n bytes at off are all in the page cache, or the kernel does not tell.
func (c *cold) cached(off int64, n int) bool {
	var st unix.Cachestat_t
	r := unix.CachestatRange{Off: uint64(off), Len: uint64(n)}
	return unix.Cachestat(uint(c.Fd()), &r, &st, 0) != nil || st.Cache >= uint64(n/procmem.PageSize)
}

// NextData implements HoleReaderAt.
func (c *cold) NextData(off int64) (start, end int64) { return pageset.FileData(c.File, off, c.size) }

func (c *cold) close() {
	if c.direct != nil {
		c.direct.Close()
	}
}
