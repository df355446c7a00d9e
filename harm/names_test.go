package harm

import (
	"path/filepath"
	"strconv"
	"testing"

	"github.com/procmem/procmem/internal/testproc"
)

// A name is decoration: where it is longer than any path that can be opened, or
// is nothing, or belongs to a thread that has ended since, all else is as
// ever, with each command and each method.
func TestNamesThatCannotBeHad(t *testing.T) {
	for what, prepare := range map[string]func(p *testproc.Proc){
		"long": func(p *testproc.Proc) {
			p.Send(t, "deep %s 40", p.Path)
			p.ReadFacts(t)
		},
		"longer than a line": func(p *testproc.Proc) {
			p.Send(t, "deep %s 400", p.Path)
			p.ReadFacts(t)
		},
		"none": func(p *testproc.Proc) {
			p.Send(t, "exec %x", p.Path)
			p.ReadFacts(t)
			p.Cmd(t, "name")
		},
	} {
		t.Run(what, func(t *testing.T) {
			p := testproc.Start(t, testproc.Odd)
			prepare(p)
			p.Cmd(t, "thread")
			p.Cmd(t, "thread")
			page := p.Cmd(t, "map %x", "page")
			pid, dir := strconv.Itoa(p.PID()), t.TempDir()
			for _, args := range [][]any{{"maps", pid}, {"threads", pid}, {"threads", "-r", pid}, {"info", pid}, {"doctor", "-o", dir + "/", pid},
				{"read", pid, page + "+8"}, {"read", pid, page + "+8", "--follow"}, {"read", pid, "sym:main", "-f", "hex"}, {"strings", pid},
				{"search", pid, "odd page"}, {"search", pid, "--pointer-to", "[stack]"}, {"dump", pid, "-o", filepath.Join(dir, "dump")}} {
				call(t, args...).want(t, 0, "^$")
			}
			call(t, "diff", pid, pid).want(t, 0, "goes on while it is compared")
			for _, m := range []string{"stop", "fork", "precopy", "live", "auto"} {
				prefix := filepath.Join(dir, m)
				call(t, "core", "--method", m, "-o", prefix, pid).want(t, 0, "^$")
				c := openCore(t, prefix+"."+pid)
				if n := len(c.Image().Threads); n != 3 {
					t.Errorf("%s: %d threads", m, n)
				}
				call(t, "read", prefix+"."+pid, page+"+8").want(t, 0, "^$")
				call(t, "info", prefix+"."+pid).want(t, 0, "^$")
				call(t, "verify", prefix+"."+pid).want(t, 0, "^$")
			}
			if got := p.Cmd(t, "ping"); got != "" {
				t.Errorf("it says %q", got)
			}
		})
	}
}
