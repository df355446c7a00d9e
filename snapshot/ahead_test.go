package snapshot

import (
	"sync"
	"testing"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
)

// worker is a store that works ahead as long as it is told to, which takes its
// time.
type worker struct {
	*testproc.Pages
	wait func(put uint64) // called before each Put that is worked on

	mu       sync.Mutex
	ahead    bool
	calls    int    // of Ahead
	working  bool   // on a Put
	worked   uint64 // bytes so far
	last     procmem.Addr
	disorder bool
}

func (w *worker) Ahead(likely bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ahead = likely
	w.calls++
	return true
}

func (w *worker) Put(addr procmem.Addr, p []byte) error {
	w.mu.Lock()
	if w.ahead {
		w.disorder = w.disorder || w.working || addr < w.last
		w.working, w.last = true, addr
		w.worked += uint64(len(p))
		n := w.worked
		w.mu.Unlock()
		w.wait(n)
		w.mu.Lock()
		w.working = false
	}
	w.mu.Unlock()
	return w.Pages.Put(addr, p)
}

// What is copied in the first round is worked on at once, one block after the
// other, unless it is written again.
func TestWorkAhead(t *testing.T) {
	const size, some = 256 << 20, 40 << 20
	for _, rate := range []string{"-1", "0"} {
		t.Run("writer "+rate, func(t *testing.T) {
			p := testproc.Start(t, testproc.Many, "fill", "256M", "random", "--writer", rate)
			began, waited := time.Now(), false
			w := &worker{Pages: testproc.NewPages()}
			w.wait = func(worked uint64) {
				if worked < some || waited {
					return
				}
				waited = true
				writes := p.CmdInts(t, "writes")[0]
				testproc.Until(t, "writes, and the time to look for them", func() bool {
					return time.Since(began) > 200*time.Millisecond && (rate == "-1" || p.CmdInts(t, "writes")[0] > writes+size/procmem.PageSize)
				})
			}
			s := takeBy(t, p, MethodPrecopy, Options{Prepare: into(w)})
			if w.ahead || w.disorder || s.Rounds < 2 {
				t.Errorf("after %d rounds: ahead %v, in disorder %v", s.Rounds, w.ahead, w.disorder)
			}
			switch {
			case rate == "-1" && (w.worked < size || w.calls < 3):
				t.Errorf("%d of %d bytes were worked on, told %d times", w.worked, size, w.calls)
			case rate == "0" && w.worked > size/2:
				t.Errorf("%d bytes were worked on, though all is written again", w.worked)
			}
		})
	}
}
