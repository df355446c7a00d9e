package glimpse_test

import (
	"encoding/binary"
	"errors"
	"flag"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/procmem/procmem"
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

var manyThreads = flag.Int("threads", 0, "measure glimpses of a process with so many threads")

// TestMany measures: go test ./glimpse -v -run TestMany -args -threads 25000
func TestMany(t *testing.T) {
	if *manyThreads == 0 {
		t.Skip("-threads is not given")
	}
	p := testproc.Start(t, testproc.Many, "threads", strconv.Itoa(*manyThreads), "--gap")
	p.Cmd(t, "gap reset")
	began := time.Now()
	g := take(t, open(t, p.PID()), glimpse.Options{})
	t.Logf("pause %v, threads that sleep %v, %d KiB; %s", g.Pause, g.Quiet, g.Copied>>10, p.Cmd(t, "gap"))
	p.Cmd(t, "gap reset")
	took := time.Since(began)
	time.Sleep(took) // what the machine does by itself in that time, for comparison
	t.Logf("without: %s in %v", p.Cmd(t, "gap"), took)
}

// The stacks of threads that go on are walked afterwards.
func TestTake(t *testing.T) {
	p := testproc.Start(t, testproc.Many, "threads", "200")
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
	if g.Quiet <= g.Pause || g.Pause <= 0 {
		t.Errorf("the pause was %v, and threads that sleep were held for %v", g.Pause, g.Quiet)
	}
}

// What is beyond the bound of a stack is cut, and says so. What was not copied is never read
// from the process, which goes on.
func TestBounds(t *testing.T) {
	p := testproc.Start(t, testproc.Frames)
	g := take(t, open(t, p.PID()), glimpse.Options{Stack: 4 << 10})
	w := walker(t, g, p.PID())
	cut := 0
	for s := range w.All(t.Context()) {
		if s.Stop != nil && errors.Is(s.Stop, glimpse.ErrCut) {
			cut++
		}
	}
	if cut == 0 {
		t.Error("no stack was cut")
	}
	heap := slices.IndexFunc(g.Image.Mappings, func(m procmem.Mapping) bool { return m.Path == "[heap]" })
	m := g.Image.Mappings[heap]
	if n, err := g.Memory.ReadAt(make([]byte, 8), m.Start); n != 0 || !errors.Is(err, glimpse.ErrNotCopied) {
		t.Errorf("the heap: %d bytes, %v", n, err)
	}
	if n, err := g.Memory.ReadAt(make([]byte, 8), 16); n != 0 || !errors.Is(err, procmem.ErrNotMapped) {
		t.Errorf("the null page: %d bytes, %v", n, err)
	}
}

// What a caller reads in the pause can be read again afterwards, and no more than its bounds.
func TestAlso(t *testing.T) {
	p := testproc.Start(t, testproc.Many, "fill", "16777216", "--writer", "0")
	fill := p.Fill(t)
	counter := fill.Start + procmem.PageSize - 8 // which the writer counts up
	var inPause [8]byte
	var late, unmapped error
	tk, err := glimpse.New(open(t, p.PID()), glimpse.Options{Total: 8 << 20, Also: func(h *glimpse.Held) {
		if len(h.Threads()) < 2 || h.Arch() == procmem.ArchUnknown {
			t.Error("the threads are not there yet")
		}
		if _, err := h.ReadAt(inPause[:], counter); err != nil {
			t.Error(err)
		}
		_, unmapped = h.ReadAt(make([]byte, 8), 16)
		late = h.Keep(fill.Range)
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer tk.Close()
	g, err := tk.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var after [8]byte
	if _, err := g.Memory.ReadAt(after[:], counter); err != nil || after != inPause || binary.LittleEndian.Uint64(after[:]) == 0 {
		t.Errorf("%x in the pause, %x afterwards, %v", inPause, after, err)
	}
	if !errors.Is(unmapped, procmem.ErrNotMapped) {
		t.Errorf("the null page: %v", unmapped)
	}
	if !errors.Is(late, glimpse.ErrLate) || g.Copied > 8<<20 {
		t.Errorf("16 MiB with a bound of 8: %v, %d bytes", late, g.Copied)
	}
	// A later glimpse has other bytes.
	first := inPause
	for range 1000 {
		if _, err = tk.Take(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := g.Memory.ReadAt(after[:], counter); err != nil {
			t.Fatal(err)
		}
		if after != inPause {
			t.Fatalf("%x in the pause, %x afterwards", inPause, after)
		}
		if after != first {
			return
		}
	}
	t.Error("the memory is that of the first glimpse")
}

// A program that executes another one is looked at anew.
func TestExec(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	tk, err := glimpse.New(open(t, p.PID()), glimpse.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tk.Close()
	if _, err := tk.Take(t.Context()); err != nil {
		t.Fatal(err)
	}
	zoo := testproc.Build(t, testproc.Zoo)
	p.Send(t, "exec %s --nospin", zoo)
	p.ReadFacts(t)
	g, err := tk.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Image.Threads) != 9 || g.Image.Exe != zoo {
		t.Errorf("%d threads of %s", len(g.Image.Threads), g.Image.Exe)
	}
}
