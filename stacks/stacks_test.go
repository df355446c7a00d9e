package stacks_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/capture"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/testproc"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/stacks"
	"github.com/procmem/procmem/symbols"
)

// coreOf takes a core of a helper.
func coreOf(t testing.TB, p *testproc.Proc) *core.File {
	t.Helper()
	proc, err := process.Open(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	path := filepath.Join(t.TempDir(), "core")
	if _, err := capture.ToFile(t.Context(), proc, path, capture.Options{}); err != nil {
		t.Fatal(err)
	}
	c, err := core.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func walker(t testing.TB, mem procmem.Memory, img *procmem.Image, o stacks.Options) *stacks.Walker {
	t.Helper()
	w, err := stacks.New(mem, img, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func threadOf(t testing.TB, c *core.File, tid int) *procmem.Thread {
	t.Helper()
	for i := range c.Image().Threads {
		if th := &c.Image().Threads[i]; th.TID == tid {
			return th
		}
	}
	t.Fatalf("no thread %d", tid)
	return nil
}

// named returns the functions of a stack that begin with fr_, and "signal" for each frame that
// the kernel has made, and "?" for code without a name in memory without a file.
func named(t testing.TB, w *stacks.Walker, s stacks.Stack) (names []string) {
	t.Helper()
	for _, f := range s.Frames {
		p := w.Places(t.Context(), f)
		switch last := p[len(p)-1]; {
		case f.Signal:
			names = append(names, "signal")
		case last.Function == "" && last.Module == "":
			names = append(names, "?")
		case strings.HasPrefix(last.Function, "fr_"):
			names = append(names, last.Function)
		}
	}
	return names
}

// Each thread of the helper is where it says, however hard its stack is to walk.
func TestWalk(t *testing.T) {
	want := map[string][]string{
		"fr-altstack": {"fr_block", "fr_inner", "signal", "fr_outer", "signal"},
		"fr-fault":    {"fr_block", "fr_faulted", "signal", "fr_trap"},
		"fr-noreturn": {"fr_block", "fr_never", "fr_last"},
		"fr-realign":  {"fr_block", "fr_realign"},
		"fr-jit":      {"fr_block", "fr_called", "?", "fr_again", "?"},
		"fr-deep":     append([]string{"fr_block"}, slices.Repeat([]string{"fr_deep"}, 101)...),
	}
	for _, tc := range []testproc.Toolchain{testproc.Dynamic, testproc.NoPIE, testproc.StaticPIE, testproc.M32, testproc.Musl} {
		t.Run(string(tc), func(t *testing.T) {
			p := testproc.Start(t, testproc.Frames.With(tc), "--depth", "100")
			c := coreOf(t, p)
			open := symbols.OfCore(c)
			if tc == testproc.Musl { // its programs have no build id
				open = symbols.OfProcess(p.PID(), c)
			}
			w := walker(t, c, c.Image(), stacks.Options{Open: open})
			for name, functions := range want {
				s := w.Walk(t.Context(), threadOf(t, c, p.TID(t, name)))
				if got := named(t, w, s); !slices.Equal(got, functions) || s.Stop != nil {
					t.Errorf("%s: %v, %v; want %v", name, got, s.Stop, functions)
				}
			}
		})
	}
}

func TestGroup(t *testing.T) {
	const threads = 40
	p := testproc.Start(t, testproc.Many, "threads", "40")
	c := coreOf(t, p)
	w := walker(t, c, c.Image(), stacks.Options{Open: symbols.OfCore(c)})
	groups := stacks.Group(w.All(t.Context()))
	if len(groups) != 2 || len(groups[0].TIDs) != threads || len(groups[1].TIDs) != 1 || !slices.IsSorted(groups[0].TIDs) {
		t.Fatalf("groups: %v", groups)
	}
	if groups[1].TIDs[0] != p.PID() {
		t.Errorf("the main thread is %d, want %d", groups[1].TIDs[0], p.PID())
	}
}

// Stacks that end for different reasons are different, and so are a call and a signal.
func TestGroupDifferent(t *testing.T) {
	frames := []stacks.Frame{{PC: 1}, {PC: 2}}
	all := []stacks.Stack{
		{TID: 3, Frames: frames},
		{TID: 1, Frames: frames, Stop: &stacks.StopError{TID: 1, Reason: stacks.NoCFI}},
		{TID: 2, Frames: []stacks.Frame{{PC: 1, SP: 8}, {PC: 2, SP: 16}}},
		{TID: 4, Frames: []stacks.Frame{{PC: 1, Signal: true}, {PC: 2}}},
		{TID: 5, Frames: frames[:1]},
	}
	var got [][]int
	for _, g := range stacks.Group(slices.Values(all)) {
		got = append(got, g.TIDs)
	}
	if want := [][]int{{2, 3}, {1}, {4}, {5}}; !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("groups %v, want %v", got, want)
	}
}

// A bound on the frames, and a context that has ended, are reasons for an end.
func TestStops(t *testing.T) {
	p := testproc.Start(t, testproc.Frames)
	c := coreOf(t, p)
	th := threadOf(t, c, p.TID(t, "fr-deep"))
	w := walker(t, c, c.Image(), stacks.Options{Open: symbols.OfCore(c), MaxFrames: 10})
	if s := w.Walk(t.Context(), th); len(s.Frames) != 10 || s.Stop == nil || s.Stop.Reason != stacks.Limit {
		t.Errorf("%d frames, %v", len(s.Frames), s.Stop)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s := w.Walk(ctx, th); s.Stop == nil || s.Stop.Reason != stacks.Canceled || !errors.Is(s.Stop, context.Canceled) {
		t.Errorf("%v, want that it is canceled", s.Stop)
	}
	for range w.Frames(t.Context(), th) {
		break
	}
	var none *stacks.StopError
	if errors.Is(none, context.Canceled) || none.Error() == "" {
		t.Errorf("a stack that does not stop early: %q", none.Error())
	}
	if s := w.Walk(t.Context(), &procmem.Thread{TID: 1}); len(s.Frames) != 0 || s.Stop == nil {
		t.Errorf("without registers: %v", s)
	}
}

// Without files, a core has neither the code nor what tells how it returns, and says so.
func TestWithoutText(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo.With(testproc.Dynamic), "--memfd", "1M", "--untouched", "64K", "--none", "64K")
	c := coreOf(t, p)
	w := walker(t, c, c.Image(), stacks.Options{})
	for s := range w.All(t.Context()) {
		if len(s.Frames) == 0 {
			t.Errorf("thread %d has no frame", s.TID)
		}
		if s.Stop != nil && s.Stop.Reason == stacks.NoCFI && !errors.Is(s.Stop, procmem.ErrNotDumped) {
			t.Errorf("thread %d: %v, want that it is not in the core", s.TID, s.Stop)
		}
	}
}

// damaged is a memory in which some words of each page are others.
type damaged struct {
	procmem.Memory
	seed uint64
	in   func(a procmem.Addr) bool
}

func (d damaged) ReadAt(p []byte, addr procmem.Addr) (int, error) {
	n, err := d.Memory.ReadAt(p, addr)
	for i := range p[:n] {
		a := addr + procmem.Addr(i)
		if r := rand.New(rand.NewPCG(d.seed, uint64(a))).Uint64(); r%64 == 0 && d.in(a) {
			p[i] ^= byte(r >> 32)
		}
	}
	return n, err
}

// Whatever is in memory, each walk ends, with frames that are in code.
func TestDamaged(t *testing.T) {
	p := testproc.Start(t, testproc.Frames, "--depth", "50")
	c := coreOf(t, p)
	ms := c.Image().Mappings
	filled := symbols.Fill(c, ms, nil)
	defer filled.Close()
	at := func(a procmem.Addr) *procmem.Mapping { return &ms[procmem.FindMapping(ms, a)] }
	kinds := map[string]func(a procmem.Addr) bool{
		"stacks": func(a procmem.Addr) bool { return at(a).Perm&procmem.PermWrite != 0 },
		"tables": func(a procmem.Addr) bool { return at(a).Perm&(procmem.PermWrite|procmem.PermExec) == 0 },
		"all":    func(procmem.Addr) bool { return true },
	}
	for name, in := range kinds {
		t.Run(name, func(t *testing.T) {
			ends := map[stacks.Reason]int{}
			for seed := range uint64(4) {
				w := walker(t, damaged{filled, seed, in}, c.Image(), stacks.Options{MaxFrames: 1000})
				for s := range w.All(t.Context()) {
					for i, f := range s.Frames[min(1, len(s.Frames)):] {
						if m := at(f.PC); m.Perm&procmem.PermExec == 0 {
							t.Errorf("frame %d of thread %d is not in code: %v", i+1, s.TID, f)
						}
					}
					if s.Stop == nil {
						ends[stacks.End]++
					} else {
						ends[s.Stop.Reason]++
					}
				}
			}
			if len(ends) < 2 {
				t.Errorf("stacks end by %v alone: nothing was damaged", ends)
			}
			t.Log(ends)
		})
	}
}

// The files of a Go program are found for a core: their names, and .debug_frame, which is
// compressed.
func TestGo(t *testing.T) {
	p := testproc.Start(t, testproc.GoProg, "--nospin")
	c := coreOf(t, p)
	w := walker(t, c, c.Image(), stacks.Options{Open: symbols.OfCore(c)})
	var functions []string
	for s := range w.All(t.Context()) {
		for i, f := range s.Frames {
			if f.How == stacks.ByFramePointer || f.How == stacks.ByInstruction {
				t.Errorf("frame %d of thread %d was found by %v", i, s.TID, f.How)
			}
			functions = append(functions, w.Places(t.Context(), f)[0].Function)
		}
	}
	if !slices.Contains(functions, "main.main") || !slices.Contains(functions, "syscall.Syscall") {
		t.Errorf("functions %v, want main.main, which reads", functions)
	}
}
