package snapshot

import (
	"bytes"
	"testing"

	"github.com/procmem/procmem/internal/testproc"
)

func lookAt(t testing.TB, p *testproc.Proc) *Look {
	t.Helper()
	l, err := LookAt(open(t, p))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// A moment that begins with a look is no older for it, and looks no second
// time.
func TestLook(t *testing.T) {
	for _, m := range []Method{MethodStop, MethodFork, MethodPrecopy, MethodAuto} {
		t.Run(string(m), func(t *testing.T) {
			p := testproc.Start(t, testproc.Zoo, "--nospin", "--memfd", "1M", "--untouched", "16M", "--none", "1M")
			p.Cmd(t, "touch untouched")
			p.Cmd(t, "unmap untouched 2048 2048")
			l := lookAt(t, p)
			if got := l.Program(); got.Process.PID != p.PID() || len(got.Mappings) == 0 || len(got.Auxv) == 0 {
				t.Errorf("the look tells of process %d, %d mappings, %d entries of the auxiliary vector",
					got.Process.PID, len(got.Mappings), len(got.Auxv))
			}
			anon, got := p.Map(t, "anon"), make([]byte, page)
			if _, err := l.Memory().ReadAt(got, anon.Page(1)); err != nil || !bytes.Equal(got, p.Want(t, anon, 1)) {
				t.Errorf("memory of the look: %v", err)
			}
			for _, change := range []string{"remap untouched 2048 1000", "unmap untouched 100 100", "zero anon 0", "drop thp", "remap file", "protect dontfork r"} {
				p.Cmd(t, "%s", change)
			}
			s := takeBy(t, p, m, Options{Look: l})
			if used := l.f == nil; !used && m != MethodFork {
				t.Error("it looked itself")
			}
			checkAll(t, p, s, mapRanges(p)...)
			p.Cmd(t, "ping")
		})
	}
}

// What was executed after the look is what the moment shows.
func TestExecAfterLook(t *testing.T) {
	for _, m := range []Method{MethodStop, MethodFork, MethodPrecopy, MethodAuto} {
		t.Run(string(m), func(t *testing.T) {
			p := testproc.Start(t, testproc.Kids, "--ballast", "40M")
			l := lookAt(t, p)
			p.Send(t, "exec %s --ballast 40M", p.Path)
			p.ReadFacts(t)
			s := takeBy(t, p, m, Options{Look: l})
			checkBallast(t, p, s)
			s.Close()
			p.Cmd(t, "ping")
		})
	}
}
