package testproc

import (
	"errors"
	"sync"

	"github.com/procmem/procmem"
)

// Pages is a Store in memory.
type Pages struct {
	mu   sync.Mutex
	Have map[procmem.Addr][]byte
	Err  error // of Put
}

// NewPages returns an empty one.
func NewPages() *Pages { return &Pages{Have: map[procmem.Addr][]byte{}} }

func (s *Pages) Put(addr procmem.Addr, p []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Err != nil {
		return s.Err
	}
	if addr != addr.PageDown() || len(p)%procmem.PageSize != 0 {
		return errors.New("no whole pages")
	}
	for ; len(p) > 0; addr, p = addr+procmem.PageSize, p[procmem.PageSize:] {
		s.Have[addr] = append([]byte(nil), p[:procmem.PageSize]...)
	}
	return nil
}

func (s *Pages) Forget(r procmem.Range) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Size()/procmem.PageSize < uint64(len(s.Have)) {
		for a := r.Start; a < r.End; a += procmem.PageSize {
			delete(s.Have, a)
		}
		return nil
	}
	for a := range s.Have {
		if r.Contains(a) {
			delete(s.Have, a)
		}
	}
	return nil
}

// ReadAt fails for what was not put: nobody may read what is not known.
func (s *Pages) ReadAt(p []byte, addr procmem.Addr) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := 0
	for done < len(p) {
		a := addr + procmem.Addr(done)
		page := s.Have[a.PageDown()]
		if page == nil {
			return done, &procmem.FaultError{Addr: a, Err: procmem.ErrNotMapped}
		}
		done += copy(p[done:], page[a-a.PageDown():])
	}
	return done, nil
}

func (s *Pages) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.Have)
}
