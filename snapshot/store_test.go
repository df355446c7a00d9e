package snapshot

import (
	"errors"
	"sync"

	"github.com/procmem/procmem"
)

// pages is a Store in memory.
type pages struct {
	mu   sync.Mutex
	have map[procmem.Addr][]byte
	err  error // of Put
}

func newPages() *pages { return &pages{have: map[procmem.Addr][]byte{}} }

func (s *pages) Put(addr procmem.Addr, p []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if addr != addr.PageDown() || len(p)%procmem.PageSize != 0 {
		return errors.New("no whole pages")
	}
	for ; len(p) > 0; addr, p = addr+procmem.PageSize, p[procmem.PageSize:] {
		s.have[addr] = append([]byte(nil), p[:procmem.PageSize]...)
	}
	return nil
}

func (s *pages) Forget(r procmem.Range) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Size()/procmem.PageSize < uint64(len(s.have)) {
		for a := r.Start; a < r.End; a += procmem.PageSize {
			delete(s.have, a)
		}
		return nil
	}
	for a := range s.have {
		if r.Contains(a) {
			delete(s.have, a)
		}
	}
	return nil
}

// ReadAt fails for what was not put: nobody may read what is not known.
func (s *pages) ReadAt(p []byte, addr procmem.Addr) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := 0
	for done < len(p) {
		a := addr + procmem.Addr(done)
		page := s.have[a.PageDown()]
		if page == nil {
			return done, &procmem.FaultError{Addr: a, Err: procmem.ErrNotMapped}
		}
		done += copy(p[done:], page[a-a.PageDown():])
	}
	return done, nil
}

func (s *pages) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.have)
}
