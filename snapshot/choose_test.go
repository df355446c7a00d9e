package snapshot

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/procmem/procmem/internal/forkroom"
	"github.com/procmem/procmem/internal/testproc"
)

// switches tells how often each thread of a process has been switched to
// another: stopping one shows in that.
func switches(t testing.TB, p *testproc.Proc) (out string) {
	t.Helper()
	for _, tid := range p.TIDs() {
		for line := range strings.Lines(string(readFile(t, fmt.Sprintf("/proc/%d/task/%d/status", p.PID(), tid)))) {
			if strings.HasPrefix(line, "voluntary_ctxt_switches") {
				out += fmt.Sprint(tid, " ", line)
			}
		}
	}
	return out
}

// A bound that no method keeps is refused before anything is stopped.
func TestAutoRefuses(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "anon,untouched", "--untouched", "64M")
	p.Cmd(t, "touch untouched")
	p.WaitBlocked(t, 9)
	before := switches(t, p)
	proc := open(t, p)
	_, err := Take(t.Context(), proc, Options{MaxPause: time.Nanosecond, Prepare: into(testproc.NewPages())})
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Tried != nil || len(refused.Estimates) != 3 || refused.Bound != time.Nanosecond {
		t.Fatalf("%v; want a refusal with three estimates", err)
	}
	for _, e := range refused.Estimates {
		if e.Pause <= 0 || e.Err == nil && !strings.Contains(err.Error(), string(e.Method)) {
			t.Errorf("%+v in %q", e, err)
		}
	}
	if got := switches(t, p); got != before {
		t.Errorf("threads were stopped: switches\n%s; before\n%s", got, before)
	}
	stop(t, proc).Close()
	p.WaitBlocked(t, 9)
	if switches(t, p) == before {
		t.Error("a stop does not show")
	}
}

// What auto takes of processes that are small, stopped, or of another
// architecture, and of large ones.
func TestAutoChooses(t *testing.T) {
	if err := canTrack(); err != nil {
		t.Skip(err)
	}
	large := []string{"fill", "64M", "random"}
	for _, c := range []struct {
		name    string
		variant testproc.Variant
		args    []string
		store   Store
		stopped bool
		want    Method
	}{
		{"small", testproc.Kids, nil, testproc.NewPages(), false, MethodStop},
		{"large", testproc.Many, large, testproc.NewPages(), false, MethodPrecopy},
		{"large, without a store", testproc.Many, large, nil, false, MethodFork},
		{"large, with a store that fails", testproc.Many, large, &testproc.Pages{Err: errTest}, false, MethodFork},
		{"large and stopped", testproc.Many, large, testproc.NewPages(), true, MethodStop},
		{"32-bit", testproc.Many.With(testproc.M32), large, testproc.NewPages(), false, MethodStop},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := testproc.Start(t, c.variant, c.args...)
			if c.stopped {
				syscall.Kill(p.PID(), syscall.SIGSTOP)
				p.WaitState(t, 'T')
			}
			before := testproc.TracesOf(t, p.PID())
			s, err := Take(t.Context(), open(t, p), Options{Prepare: into(c.store)})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if s.Method != c.want || s.Why == "" {
				t.Errorf("method %s, because %q; want %s", s.Method, s.Why, c.want)
			}
			if tried := strings.Contains(s.Why, errTest.Error()); tried != (c.name == "large, with a store that fails") {
				t.Errorf("the reason is %q", s.Why)
			}
			if len(s.Image().Threads) == 0 {
				t.Error("no threads")
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			testproc.UntouchedSince(t, p.PID(), before)
			if c.stopped {
				p.WaitState(t, 'T')
				syscall.Kill(p.PID(), syscall.SIGCONT)
			}
			p.Cmd(t, "ping")
		})
	}
}

// Precopy may hold the process for twice as long as a fork would, which goes on
// costing it something, and not for longer.
func TestPrecopyBeforeFork(t *testing.T) {
	if err := canTrack(); err != nil {
		t.Skip(err)
	}
	// What is written in each round takes some 26 ms to copy.
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "untouched", "--untouched", "104M")
	p.Cmd(t, "touch untouched")
	for _, c := range []struct {
		fork time.Duration
		busy bool
	}{{15 * time.Millisecond, false}, {5 * time.Millisecond, true}} {
		o := Options{Method: MethodAuto, OnStep: func(s Step) {
			if s.Kind == StepRound {
				p.Cmd(t, "touch untouched")
			}
		}}
		chooser := chooser{taking: &taking{p: open(t, p), o: o, store: testproc.NewPages()}, all: []Estimate{{Method: MethodPrecopy}, {Method: MethodFork, Pause: c.fork}, {Method: MethodStop}}}
		s, err := chooser.try(t.Context(), chooser.all[0])
		if err == nil {
			s.Close()
		}
		if errors.Is(err, ErrBusy) != c.busy || !c.busy && err != nil {
			t.Errorf("where a fork takes %v: %v", c.fork, err)
		}
	}
}

// What cannot be taken is told of another architecture.
func TestOtherArchitecture(t *testing.T) {
	p := testproc.Start(t, testproc.Kids.With(testproc.M32))
	proc := open(t, p)
	for _, m := range []Method{MethodFork, MethodPrecopy} {
		_, err := Take(t.Context(), proc, Options{Method: m, Prepare: into(testproc.NewPages())})
		if err == nil || !strings.Contains(err.Error(), "386") {
			t.Errorf("%s: %v", m, err)
		}
	}
	all, err := Estimates(proc, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if (e.Err == nil) != (e.Method == MethodStop) {
			t.Errorf("%s: %v", e.Method, e.Err)
		}
	}
	p.Cmd(t, "ping")
}

// The order in which methods are tried.
func TestOrder(t *testing.T) {
	const small, big = 1 << 20, 1 << 30
	no := errors.New("not possible")
	for _, c := range []struct {
		name                string
		x                   footprint
		precopy, fork, stop time.Duration
		cannot              []int
		bound               time.Duration
		want                []Method
	}{
		{"large", footprint{wanted: big}, 1e6, 10e6, 1e9, nil, 0, []Method{MethodPrecopy, MethodFork, MethodStop}},
		{"small", footprint{wanted: small}, 1e6, 1e6, 1e6, nil, 0, []Method{MethodStop, MethodPrecopy, MethodFork}},
		{"huge pages", footprint{wanted: big, Footprint: forkroom.Footprint{HugePages: 500}}, 1e6, 2e6, 1e9, nil, 0, []Method{MethodFork, MethodPrecopy, MethodStop}},
		{"huge pages, and slow", footprint{wanted: big, Footprint: forkroom.Footprint{HugePages: 500}}, 1e6, 50e6, 1e9, nil, 0, []Method{MethodPrecopy, MethodFork, MethodStop}},
		{"stopped", footprint{wanted: big, stopped: "it was stopped"}, 1e6, 1e6, 1e9, nil, 0, []Method{MethodStop, MethodPrecopy, MethodFork}},
		{"stopped, bound", footprint{wanted: big, stopped: "it was stopped"}, 1e6, 1e6, 1e9, nil, 1, []Method{MethodStop}},
		{"all slow", footprint{wanted: big}, 3e9, 2e9, 1e9, nil, 0, []Method{MethodStop, MethodFork, MethodPrecopy}},
		{"bound", footprint{wanted: big}, 1e6, 10e6, 1e9, nil, 5e6, []Method{MethodPrecopy}},
		{"bound for fork", footprint{wanted: big}, 30e6, 10e6, 1e9, nil, 20e6, []Method{MethodFork}},
		{"bound for none", footprint{wanted: big}, 1e6, 10e6, 1e9, nil, 1, nil},
		{"no precopy", footprint{wanted: big}, 1e6, 10e6, 1e9, []int{0}, 0, []Method{MethodFork, MethodStop}},
		{"fork tears", footprint{wanted: big, tornByFork: big}, 30e6, 10e6, 1e9, nil, 0, []Method{MethodPrecopy, MethodFork, MethodStop}},
		{"fork tears, and stop is not long", footprint{wanted: big, tornByFork: big}, 30e6, 10e6, 100e6, []int{0}, 0, []Method{MethodStop, MethodFork}},
		{"fork tears, and stop is long", footprint{wanted: big, tornByFork: big}, 30e6, 10e6, 1e9, []int{0}, 0, []Method{MethodFork, MethodStop}},
		{"fork tears, within the bound", footprint{wanted: big, tornByFork: big}, 30e6, 10e6, 1e9, nil, 20e6, []Method{MethodFork}},
		{"neither", footprint{wanted: big}, 1e6, 10e6, 1e9, []int{0, 1}, 0, []Method{MethodStop}},
	} {
		all := []Estimate{{Method: MethodPrecopy, Pause: c.precopy}, {Method: MethodFork, Pause: c.fork, Torn: c.x.tornByFork}, {Method: MethodStop, Pause: c.stop}}
		for _, i := range c.cannot {
			all[i].Err = no
		}
		slices.Reverse(all) // methods are found by name, wherever they stand
		ch := chooser{taking: &taking{o: Options{Method: MethodAuto, MaxPause: c.bound}}, x: &c.x, all: all}
		var got []Method
		for _, e := range ch.order() {
			got = append(got, e.Method)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v; want %v", c.name, got, c.want)
		}
	}
}

// Estimates grow with what there is to copy, and stop nothing.
func TestEstimates(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "anon,untouched,dontfork", "--untouched", "64M")
	p.WaitBlocked(t, 9)
	proc := open(t, p)
	before := switches(t, p)
	small, err := Estimates(proc, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := switches(t, p); got != before {
		t.Errorf("threads were stopped: switches\n%s; before\n%s", got, before)
	}
	p.Cmd(t, "touch untouched")
	large, err := Estimates(proc, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range large {
		if e.Method != small[i].Method || e.Pause <= small[i].Pause {
			t.Errorf("%s: %v for 64 MiB, %v without", e.Method, e.Pause, small[i].Pause)
		}
		if e.Pause > time.Second || small[i].Pause <= 0 {
			t.Errorf("%s: %v", e.Method, e.Pause)
		}
	}
	if large[0].Pause >= large[2].Pause || large[1].Pause >= large[2].Pause {
		t.Errorf("%+v: stop is not the longest", large)
	}
}
