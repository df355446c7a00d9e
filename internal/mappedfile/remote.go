package mappedfile

import (
	"io"
	"sync"
	"time"
)

// remoteFile is a file on a server. It is not asked again once the server has failed to answer.
type remoteFile struct {
	r     *fileReader
	way   way
	path  string // for people
	inode uint64
	held  func() bool

	mu   sync.Mutex
	gen  int
	id   int
	dead error
}

func (f *remoteFile) patience() time.Duration {
	if f.held() {
		return heldPatience
	}
	return serverPatience
}

// open opens the file.
func (f *remoteFile) open() error {
	a, gen, err := f.r.ask(question{Op: 'o', Name: f.way.name, Link: f.way.link, Inode: f.inode}, f.path, f.patience())
	if err == nil && a.Errno != 0 {
		err = a.Errno
	}
	f.gen, f.id = gen, a.ID
	return err
}

// ask asks something about the file, which may have to be opened again.
func (f *remoteFile) ask(q question) (a answer, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for try := 0; f.dead == nil; try++ {
		q.ID = f.id
		a, gen, err := f.r.ask(q, f.path, f.patience())
		switch {
		case err != nil:
			f.dead = err
		case gen == f.gen && a.Errno != 0:
			return a, a.Errno
		case gen == f.gen:
			return a, nil
		case try > 0:
			f.dead = ErrNoAnswer
		default:
			f.dead = f.open()
		}
	}
	return answer{}, f.dead
}

// ReadAt implements File.
func (f *remoteFile) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		a, err := f.ask(question{Op: 'r', Off: off + int64(n), N: len(p) - n})
		if err != nil {
			return n, err
		}
		n += copy(p[n:], a.Bytes)
		if a.EOF || len(a.Bytes) == 0 {
			return n, io.EOF
		}
	}
	return n, nil
}

// Size implements File.
func (f *remoteFile) Size() (int64, error) {
	a, err := f.ask(question{Op: 's'})
	return a.Size, err
}

// SeekData implements File.
func (f *remoteFile) SeekData(off int64) (data, hole int64, err error) {
	a, err := f.ask(question{Op: 'd', Off: off})
	return a.Data, a.Hole, err
}

// Close does nothing: the process that has the file open closes it.
func (f *remoteFile) Close() error { return nil }
