package ptracer

import (
	"errors"
	"time"
)

// errMapsLocked reports that a thread that does not stop holds the lock of the mappings, or
// waits for it in vain. All readers of the mappings then wait, too.
var errMapsLocked = errors.New("a thread of it waits in the kernel (state D) and holds the lock of its mappings, for which everybody else waits")

// lockPatience is how long that lock may be held.
const lockPatience = 100 * time.Millisecond

// MapsAreFree returns nil if the mappings can be read, and an error if a thread that did not
// stop keeps everybody from that. It does not wait for the mappings itself. Only the tracing
// thread may call it.
func (t *Tracer) MapsAreFree() error {
	if len(t.GivenUp()) == 0 {
		return nil
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if f, err := t.p.OpenMem("maps"); err == nil {
			_, _ = f.Read(make([]byte, 1))
			f.Close()
		}
	}()
	select {
	case <-done:
		return nil
	case <-time.After(lockPatience):
		return errMapsLocked
	}
}
