package sink

import (
	"sync"

	"golang.org/x/sys/unix"
)

// cacheWindow is how many bytes are written through the page cache before they are brought to
// the disk. They are dropped while the next as many are written.
const cacheWindow = 32 << 20

// window keeps what is written through the page cache from filling it.
type window struct {
	mu         sync.Mutex
	cur, older written
}

// written is the part of a file in which n bytes were written.
type written struct{ off, end, n int64 }

// wrote notes that n bytes were written at off through fd.
func (w *window) wrote(fd int, off int64, n int) {
	w.mu.Lock()
	if w.cur.n == 0 {
		w.cur = written{off, off, 0}
	}
	w.cur = written{min(w.cur.off, off), max(w.cur.end, off+int64(n)), w.cur.n + int64(n)}
	if w.cur.n < cacheWindow {
		w.mu.Unlock()
		return
	}
	full, older := w.cur, w.older
	w.cur, w.older = written{}, full
	w.mu.Unlock()
	// What fails here is no loss: the data is in the cache, and stays there.
	unix.SyncFileRange(fd, full.off, full.end-full.off, unix.SYNC_FILE_RANGE_WRITE)
	if older.n > 0 {
		older.drop(fd)
	}
}

// drop waits until the part is on the disk and takes it out of the cache.
func (s written) drop(fd int) {
	const wait = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	unix.SyncFileRange(fd, s.off, s.end-s.off, wait)
	unix.Fadvise(fd, s.off, s.end-s.off, unix.FADV_DONTNEED)
}
