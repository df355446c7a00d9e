package harm

import (
	"slices"
	"strings"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
)

// sharedPages are more than are copied during a pause.
const sharedPages = 12 << 10

// torn tells why memory may be of another moment, "" where it is not.
func (c taken) torn(r procmem.Range) string {
	for _, t := range c.report.Torn {
		if t.Start < r.End && r.Start < t.End {
			return t.Reason
		}
	}
	return ""
}

// Large shared memory that the process alone has is of one moment, however often it
// maps it, or the core says that it is not: a fork does not copy it. Precopy does.
func TestLargeSharedMemory(t *testing.T) {
	for _, memory := range []string{"memfd", "shared"} {
		t.Run(memory, func(t *testing.T) {
			forEachMethod(t, allMethods, func(t *testing.T, method string) {
				p := testproc.Start(t, testproc.Witness, "--memory", memory, "--pages", "12K", "--twice")
				for range min(*dumps, 3) {
					sweepOn(t, p)
					before := look(t, p.PID())
					c := take(t, p.PID(), method)
					c.want(t, 0, "^$")
					undone(t, p.PID(), before)
					for _, at := range []string{"base", "second"} {
						base := p.Addr(t, at)
						steps, torn := c.steps(t, base, sharedPages), c.torn(procmem.Range{Start: base, End: base + sharedPages*procmem.PageSize})
						if (torn == "") != (c.report.Method != "fork") || steps > 1 && torn == "" {
							t.Fatalf("%s: %d steps; %+v", at, steps, c.report)
						}
						if c.report.Consistent != (torn == "") {
							t.Errorf("consistent is %v, and torn %q", c.report.Consistent, torn)
						}
					}
					if c.report.Method == "fork" && !strings.Contains(c.report.Reason, "may be of another moment") {
						t.Errorf("%+v", c.report)
					}
					c.done(t)
				}
				unharmed(t, p)
			})
		})
	}
}

// Shared memory that another process maps, too, may be written to by that.
func TestSharedWithAnother(t *testing.T) {
	forEachMethod(t, allMethods, func(t *testing.T, method string) {
		for _, pages := range []string{"1K", "12K"} {
			p := testproc.Start(t, testproc.Witness, "--memory", "memfd", "--pages", pages, "--child")
			c := take(t, p.PID(), method)
			c.want(t, 0, "^$")
			if c.report.Consistent || !slices.ContainsFunc(c.report.Torn, func(r piece) bool { return strings.Contains(r.Reason, "process "+p.Fact(t, "child")+" ") }) {
				t.Errorf("%s pages: %+v", pages, c.report)
			}
			c.done(t)
			p.Kill()
		}
	})
}

// One that the process maps twice is no other process's.
func TestSharedTwice(t *testing.T) {
	forEachMethod(t, allMethods, func(t *testing.T, method string) {
		p := testproc.Start(t, testproc.Witness, "--memory", "memfd", "--twice")
		c := take(t, p.PID(), method)
		c.want(t, 0, "^$")
		if !c.report.Consistent || len(c.report.Torn) > 0 {
			t.Errorf("%+v", c.report)
		}
		info := call(t, "info", c.path)
		info.want(t, 0, "^$")
		if !strings.Contains(info.stdout, "consistent   yes") {
			t.Error(info.stdout)
		}
	})
}
