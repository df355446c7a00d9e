package snapshot

import (
	"errors"
	"time"

	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/process"
)

// callsOf returns the system calls of the threads that were not waited for.
func callsOf(threads []ptracer.Taken) (out []*process.Syscall) {
	for _, th := range threads {
		if th.Call != nil {
			out = append(out, th.Call)
		}
	}
	return out
}

// errMapsLocked reports that a thread that does not stop holds the lock of the mappings, or
// waits for it in vain. All readers of the mappings then wait, too.
var errMapsLocked = errors.New("a thread of it waits in the kernel (state D) and holds the lock of its mappings, for which everybody else waits")

// lockPatience is how long that lock may be held.
const lockPatience = 100 * time.Millisecond

// mapsAreFree looks whether the mappings can be read, where a thread did not stop. It does not
// wait for that itself. The tracing thread calls it.
func mapsAreFree(t *ptracer.Tracer, p *process.Process) error {
	if len(t.GivenUp()) == 0 {
		return nil
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if f, err := p.OpenMem("maps"); err == nil {
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
