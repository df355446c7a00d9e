package harm

import (
	"testing"

	"github.com/procmem/procmem/internal/testproc"
)

// Nothing that is put into a target is seen by anybody in it: not by a child that
// another thread forks meanwhile, not by who lists the files of the process or shares
// its table of them, not by who waits for any child.
func TestNothingIsSeen(t *testing.T) {
	for _, method := range []string{"precopy", "fork"} {
		t.Run(method, func(t *testing.T) {
			p := testproc.Start(t, testproc.Hunter, "--hunt", "--ballast", "16M")
			for range *dumps {
				before := p.CmdInts(t, "seen")[0]
				c := take(t, p.PID(), method)
				c.want(t, 0, "^$")
				if c.report.Method != method {
					t.Fatalf("method %s: %s", c.report.Method, c.report.Why)
				}
				c.done(t)
				if p.CmdInts(t, "seen")[0] == before {
					t.Fatal("nobody has looked")
				}
			}
			seen := p.CmdInts(t, "seen")
			t.Logf("%d looks", seen[0])
			if method == "fork" {
				seen[4] = 0 // a copy that lives is a child, and ends unseen
			}
			for i, what := range []string{"children", "threads", "processes that share the files", "threads that wait"} {
				if seen[i+1] != 0 {
					t.Errorf("%d times, %s have seen what was put into the process", seen[i+1], what)
				}
			}
			unharmed(t, p)
		})
	}
}

// A thread whose table of files is its own is as good as any, whatever the main
// thread does.
func TestOwnTables(t *testing.T) {
	for _, method := range []string{"precopy", "fork"} {
		p := testproc.Start(t, testproc.Hunter, "--tables", "--ballast", ballast)
		before := look(t, p.PID())
		c := take(t, p.PID(), method)
		c.want(t, 0, "^$")
		if c.report.Method != method {
			t.Errorf("method %s: %s", c.report.Method, c.report.Why)
		}
		c.checkMap(t, p, p.Map(t, "ballast"))
		undone(t, p.PID(), before)
		p.Cmd(t, "ping")
	}
}

// A fork that would wait for a thread, which is held for it, is none.
func TestForkEvents(t *testing.T) {
	for _, method := range []string{"fork", "auto"} {
		p := testproc.Start(t, testproc.Hunter, "--forkevents", "--ballast", ballast)
		explained(t, p, method)
		unharmed(t, p)
	}
}
