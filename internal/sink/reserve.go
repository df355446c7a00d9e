package sink

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/regular"
)

// reserve is room on a disk that nobody else can take. It is a file without a name, which
// becomes shorter as another file is written. That file cannot take its room itself. Which
// parts of it will be holes is not known before they have been read.
type reserve struct {
	mu   sync.Mutex
	f    *os.File
	left int64 // bytes that it still has to have
	has  int64
}

// reserveStep is by how much it becomes shorter at once.
const reserveStep = 64 << 20

// newReserve takes n bytes in a folder. If the file system cannot do that it returns nil: then
// there is nothing but to try.
func newReserve(dir string, n int64) (*reserve, error) {
	if n <= 0 {
		return nil, nil
	}
	f, err := regular.Unnamed(dir)
	if err != nil {
		return nil, nil
	}
	if !onDisk(f) { // there it would be memory, and written
		f.Close()
		return nil, nil
	}
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Fallocate(int(f.Fd()), 0, 0, n)
	}
	switch {
	case err == nil:
		return &reserve{f: f, left: n, has: n}, nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		f.Close()
		return nil, fmt.Errorf("reserve %d bytes in %s: %w", n, dir, err)
	}
	f.Close()
	return nil, nil
}

// use gives back the room for n bytes, before they are written.
func (r *reserve) use(n int) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.f == nil {
		return
	}
	if r.left -= int64(n); r.left < r.has {
		r.has = max(0, r.left-reserveStep)
		_ = r.f.Truncate(r.has)
	}
}

func (r *reserve) close() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.f != nil {
		r.f.Close()
		r.f = nil
	}
}
