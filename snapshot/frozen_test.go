package snapshot

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/procmem/procmem/internal/inject"
	"github.com/procmem/procmem/internal/testproc"
)

var (
	freezes = flag.Int("freezes", 5, "how often TestFrozenMeanwhile freezes, for each method and version")
	kills   = flag.Int("kills", 7, "how often TestKilledToolWhileItCopies kills the tool, for each method")
)

// untouched waits until no helper works on the target any more, and lets the target look at
// itself.
func untouched(t *testing.T, p *testproc.Proc) {
	t.Helper()
	testproc.Until(t, "the helpers to end", func() bool { return len(helpers(p.PID())) == 0 })
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.PID()))
	for _, fd := range fds {
		if link, _ := os.Readlink(fd); link == "anon_inode:[userfaultfd]" {
			t.Errorf("the target has a userfaultfd left")
		}
	}
	if wrong, _ := p.Check(t); wrong != "" {
		t.Errorf("the target: %s", wrong)
	}
}

// A process that is frozen is taken by what does not need it to run, at once; what does
// says why it cannot.
func TestFrozenBefore(t *testing.T) {
	for version, group := range testproc.Freezers(t) {
		p := testproc.Start(t, testproc.Torture, "--ballast", "64M")
		group.Add(t, p.PID())
		for _, method := range []Method{MethodAuto, MethodStop, MethodLive, MethodFork, MethodPrecopy} {
			t.Run(version+"/"+string(method), func(t *testing.T) {
				group.Freeze(t)
				group.WaitFrozen(t)
				defer group.Thaw(t)
				s, err := Take(t.Context(), open(t, p), Options{Method: method, Prepare: into(testproc.NewPages())})
				if method == MethodFork || method == MethodPrecopy {
					if !errors.Is(err, inject.ErrFrozen) {
						t.Errorf("%v; want %v", err, inject.ErrFrozen)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				checkBallast(t, p, s)
				for _, th := range s.Image().Threads {
					if method == MethodLive {
						break
					}
					if _, _, ok := s.Image().Arch.PC(&th); !ok {
						t.Errorf("thread %d: no pc: %v", th.TID, th.Err)
					}
				}
			})
			untouched(t, p)
		}
	}
}

// A process may be frozen at any moment, and stay so for long. Take has returned before the
// thaw, with a moment or an error. After the thaw all is undone, and the process is unharmed.
func TestFrozenMeanwhile(t *testing.T) {
	for version, group := range testproc.Freezers(t) {
		for _, method := range []Method{MethodAuto, MethodStop, MethodFork, MethodPrecopy} {
			t.Run(version+"/"+string(method), func(t *testing.T) {
				p := testproc.Start(t, testproc.Torture, "--ballast", "48M")
				group.Add(t, p.PID())
				outcomes := map[string]int{}
				for range *freezes {
					frozen := make(chan struct{})
					go func() {
						defer close(frozen)
						time.Sleep(time.Duration(rand.IntN(60000)) * time.Microsecond)
						group.Freeze(t)
					}()
					s, err := Take(t.Context(), open(t, p), Options{Method: method, Prepare: into(testproc.NewPages())})
					<-frozen
					switch {
					case err == nil:
						checkBallast(t, p, s)
						if err = s.Close(); err != nil && !errors.Is(err, ErrStays) {
							t.Errorf("close: %v", err)
						}
						outcomes["taken"]++
					case errors.Is(err, ErrStays):
						outcomes["stays"]++
					case errors.Is(err, inject.ErrFrozen):
						outcomes["frozen"]++
					default:
						t.Errorf("take: %v", err)
					}
					group.Thaw(t)
					untouched(t, p)
				}
				t.Log(outcomes)
				if outcomes["frozen"]+outcomes["stays"] > 0 && slices.Contains([]Method{MethodStop, MethodAuto}, method) && version == "v2" {
					t.Errorf("version 2 keeps nobody from method stop")
				}
			})
		}
	}
}
