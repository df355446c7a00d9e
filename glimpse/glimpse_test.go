package glimpse_test

import (
	"slices"
	"testing"

	"github.com/procmem/procmem/glimpse"
	"github.com/procmem/procmem/internal/testproc"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/stacks"
	"github.com/procmem/procmem/symbols"
)

func open(t *testing.T, pid int) *process.Process {
	t.Helper()
	p, err := process.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func take(t *testing.T, p *process.Process, o glimpse.Options) *glimpse.Glimpse {
	t.Helper()
	tk, err := glimpse.New(p, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tk.Close() })
	g, err := tk.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func walker(t *testing.T, g *glimpse.Glimpse, pid int) *stacks.Walker {
	t.Helper()
	w, err := stacks.New(g.Memory, g.Image, stacks.Options{Open: symbols.OfProcess(pid, g.Memory)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// functions returns the names of the functions of a stack, the innermost first.
func functions(t *testing.T, w *stacks.Walker, s stacks.Stack) (names []string) {
	for _, f := range s.Frames {
		for _, p := range w.Places(t.Context(), f) {
			names = append(names, p.Function)
		}
	}
	return names
}

// The stacks of threads that go on are walked afterwards.
func TestTake(t *testing.T) {
	p := testproc.Start(t, testproc.Many, "threads", "25000")
	g := take(t, open(t, p.PID()), glimpse.Options{})
	w := walker(t, g, p.PID())
	whole := 0
	for s := range w.All(t.Context()) {
		if s.Stop != nil {
			t.Errorf("thread %d: %v", s.TID, s.Stop)
		}
		if names := functions(t, w, s); slices.Contains(names, "block") {
			whole++
		}
	}
	if whole != 200 || len(g.Image.Threads) != 201 {
		t.Errorf("%d of 200 stacks, of %d threads", whole, len(g.Image.Threads))
	}
	t.Logf("pause %v, quiet threads %v, %d bytes", g.Pause, g.Quiet, g.Copied)
}
