package harm

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/testproc"
)

var (
	trials = flag.Int("trials", 12, "how often TestTorture ends procmem, for each method")
	seed   = flag.Uint64("seed", 0, "of TestTorture; 0 takes one from the clock")
)

// Procmem ends at any moment, and the target, which notices whatever is done
// to it, notices nothing.
func TestTorture(t *testing.T) {
	forEachMethod(t, allMethods, func(t *testing.T, method string) {
		s := *seed
		if s == 0 {
			s = uint64(time.Now().UnixNano())
		}
		t.Logf("-seed %d", s)
		random := rand.New(rand.NewPCG(s, 0))
		p := testproc.Start(t, testproc.Torture)
		dir := t.TempDir()
		name := fmt.Sprintf("core.%d", p.PID())
		args := []any{"core", "--method", method, "--force", "-o", filepath.Join(dir, "core"), p.PID()}
		before := look(t, p.PID())
		var first map[string]int64
		check := func(when string) map[string]int64 {
			t.Helper()
			undone(t, p.PID(), before)
			wrong, counts := p.Check(t)
			if wrong != "" {
				t.Fatalf("%s: the target says %s; all its counts: %v", when, wrong, counts)
			}
			return counts
		}
		first = check("before anything was done")
		// How long a run takes, by the median of a few.
		var durations []time.Duration
		for range 5 {
			start := time.Now()
			call(t, args...).want(t, 0, "^$")
			durations = append(durations, time.Since(start))
			check("after a whole run")
		}
		trials := *trials
		if method == "stop" { // which changes nothing in the target, and has TestInterrupted
			trials = (trials + 4) / 5
		}
		outcomes := map[string]int{}
		signals := []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGKILL, syscall.SIGINT}
		for trial := range trials {
			sig := signals[trial%len(signals)]
			// Half of them soon after threads were attached to, which is when
			// system calls are run in the target.
			typical := median(durations)
			wait, since := time.Duration(random.Int64N(int64(typical*11/10))), "the start"
			if trial%8 >= 4 {
				wait, since = wait/10, "attaching"
			}
			when := fmt.Sprintf("trial %d, %v %v after %s of a run that takes %v", trial, sig, wait, since, typical)
			partial := strings.Contains(strings.Join(names(t, dir), " "), ".partial")
			cmd := command(args...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			start := time.Now()
			r := begin(t, cmd)
			for since == "attaching" && !r.ended() && untraced(p.PID()) {
			}
			time.Sleep(wait)
			if random.IntN(2) == 0 {
				_ = r.signal(sig)
			} else if !r.ended() { // to all that a terminal would send it to
				_ = syscall.Kill(-r.pid(), sig)
			}
			got := r.wait(t)
			took := time.Since(start)
			check(when)

			left := strings.Join(names(t, dir), " ")
			switch {
			case got.status == 0 && left == name:
				outcomes["done"]++
				// As busy as the machine is now.
				durations = append(durations[1:], took)
			case sig == syscall.SIGKILL && got.status == -1 && (left == name || left == name+" "+name+".partial"):
				outcomes["killed"]++
				if trial%8 == 0 { // else the next run takes it over, if it comes so far
					_ = os.Remove(filepath.Join(dir, name+".partial"))
				}
			case got.status == statusOf(sig) && strings.Contains(got.stderr, "stopped by "+unix.SignalName(sig)) && (left == name || partial):
				outcomes["stopped"]++
			case got.status == -1 && r.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() == sig:
				outcomes["early"]++ // before procmem had asked for the signal
			default:
				t.Fatalf("%s: left %q after %v", when, left, got)
			}
		}
		t.Logf("a run takes %v; outcomes %v", median(durations), outcomes)
		if trials >= 30 && (outcomes["killed"] == 0 || outcomes["stopped"] == 0) {
			t.Errorf("outcomes %v: the moments were badly chosen", outcomes)
		}

		call(t, args...).want(t, 0, "^$")
		last := check("at the end")
		wantNames(t, dir, name)
		c := taken{File: openCore(t, filepath.Join(dir, name))}
		c.report.Method = c.Report().Method
		c.checkMap(t, p, p.Map(t, "ballast"))
		// It was busy all the time.
		for name, n := range last {
			if n == first[name] && n != 0 && name != "eintr" {
				t.Errorf("%s: %d, as before", name, n)
			}
		}
		t.Logf("counts %v", last)
	})
}

func median(ds []time.Duration) time.Duration {
	ds = slices.Sorted(slices.Values(ds))
	return ds[len(ds)/2]
}

// Two at once: one may refuse, but says why, and neither harms the target.
func TestTwoAtOnce(t *testing.T) {
	methods := allMethods
	p := testproc.Start(t, testproc.Torture)
	before := look(t, p.PID())
	done := map[string]int{}
	for _, first := range methods {
		for _, second := range methods {
			dir := t.TempDir()
			start := func(name, method string) *run {
				return begin(t, command("core", "--method", method, "-o", filepath.Join(dir, name), p.PID()))
			}
			a := start("a", first)
			for !a.ended() && untraced(p.PID()) {
			}
			b := start("b", second)
			for _, r := range []*run{a, b} {
				got := r.wait(t)
				if got.status != 0 && (got.status != 1 || !strings.HasPrefix(got.stderr, "procmem: ")) {
					t.Errorf("%s beside %s: %v", first, second, got)
				}
				done[fmt.Sprint("status ", got.status)]++
			}
			undone(t, p.PID(), before)
			if notices(t, p); t.Failed() {
				t.Fatalf("%s beside %s", first, second)
			}
		}
	}
	t.Logf("%v", done)
	if done["status 0"] == 0 {
		t.Error("no core was taken at all")
	}
}
