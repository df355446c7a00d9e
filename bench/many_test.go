package bench

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/testproc"
)

const gib = 1 << 30

// many is a target: testproc's program of that name, and its arguments.
type many struct {
	what string
	n    int
	args string
}

// start returns the target, and what ends it before the test does.
func (m many) start(t *testing.T) (s subject, end func()) {
	args := append([]string{m.what, fmt.Sprint(m.n / *scale)}, strings.Fields(m.args)...)
	p := testproc.Start(t, testproc.Many, args...)
	s = subject{pid: p.PID(), dir: *disk}
	if m.gap() {
		s.meter = func(t *testing.T, during func()) values { return gaps(t, p, during) }
	}
	return s, func() {
		p.Kill()
		if _, err := p.Wait(); err != nil {
			t.Fatal(err)
		}
	}
}

func (m many) gap() bool { return strings.Contains(m.args, "--gap") }

// compare compares procmem with gcore.
func (m many) compare(g goal) func(*testing.T, io.Writer) {
	return func(t *testing.T, w io.Writer) {
		s, _ := m.start(t)
		// What it does to a process that 2 GiB are copied beside it is not
		// to be taken for what it does to their owner.
		if m.gap() && m.what == "fill" {
			twin, _ := many{m.what, m.n, "random"}.start(t)
			s.twin = twin.pid
		}
		s.compare(t, w, g)
	}
}

// methods compares the methods that procmem has with one another.
func (m many) methods(t *testing.T, w io.Writer) {
	var tools []tool
	for _, name := range []string{"stop", "fork", "precopy", "live"} {
		// A method that it does not know is an error before the help is.
		if exec.Command(*binary, "core", "--method", name, "--help").Run() == nil {
			tools = append(tools, byMethod(name))
		}
	}
	s, _ := m.start(t)
	columns := s.measure(t, append(tools, nothing)...)
	table(w, columns)
}

// gaps returns the longest gaps in p while during runs.
func gaps(t *testing.T, p *testproc.Proc, during func()) values {
	t.Helper()
	const iteration = 20 * time.Millisecond // of the threads that measure, at least
	p.Cmd(t, "gap reset")
	time.Sleep(iteration) // each thread resets its own
	during()
	time.Sleep(iteration) // a gap counts once it is over
	ns := p.CmdInts(t, "gap")
	v := values{}
	for i, kind := range []string{sleeping, computing, writing} {
		if ns[i] > 0 { // there may be no writer
			v[kind] = float64(ns[i]) / 1e9
			v[longest] = max(v[longest], v[kind])
		}
	}
	return v
}

// eachGiB measures what more memory costs.
func eachGiB(t *testing.T, w io.Writer) {
	const small, large, limit = 2, 8, 1e-3
	// procmem and the page cache need a little more.
	if reason := lacks(float64(large*gib / *scale + gib), *disk); reason != "" {
		skip(w, reason)
		return
	}
	var columns []column
	for _, n := range []int{small, large} { // one after the other: their meters would disturb one another
		s, end := many{"fill", n * gib, "random --gap"}.start(t)
		both := s.measure(t, procmem(), nothing)
		both[0].name = fmt.Sprintf("%d GiB", n)
		both[1].name += ", " + both[0].name
		columns = append(columns, both...)
		end()
	}
	less, more := columns[0], columns[2]
	each := func(what string) float64 {
		return (median(more.all(what)) - median(less.all(what))) * float64(*scale) / (large - small)
	}
	table(w, columns, derived{"each GiB more", func(r row) string {
		return number(each(r.what)*r.scale) + " " + r.unit
	}})
	fmt.Fprintf(w, "\nGoal: each GiB adds ≤ %s to the longest gap and to `pause_ms`. %s: %s and %s.\n", ms(limit),
		reached(each(longest) <= limit && each(pause) <= limit), ms(each(longest)), ms(each(pause)))
}

// lacks tells what there are not so many bytes of: memory, or disk.
func lacks(want float64, dir string) string {
	b, _ := os.ReadFile("/proc/meminfo")
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err.Error()
	}
	for _, have := range []struct {
		what  string
		bytes float64
	}{
		{"memory", field(string(b), "MemAvailable:")},
		{"disk", float64(st.Bavail) * float64(st.Bsize)},
	} {
		if have.bytes < want {
			return fmt.Sprintf("%.1f GiB of %s is free, and %.1f GiB are needed", have.bytes/gib, have.what, want/gib)
		}
	}
	return ""
}
