package snapshot

import (
	"bytes"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
)

// A moment that begins with a look is no older for it, and looks no second
// time.
func TestLook(t *testing.T) {
	for _, m := range []Method{MethodStop, MethodFork, MethodPrecopy, MethodAuto} {
		t.Run(string(m), func(t *testing.T) {
			p := testproc.Start(t, testproc.Zoo, "--nospin", "--memfd", "1M", "--untouched", "16M", "--none", "1M")
			p.Cmd(t, "touch untouched")
			p.Cmd(t, "unmap untouched 2048 2048")
			looks := 0
			o := Options{OnStep: func(s Step) {
				if s.Kind == StepLook {
					looks++
				}
			}}
			o.Prepare = func(img *procmem.Image, mem procmem.Sparse) (Store, error) {
				if img.Process.PID != p.PID() || len(img.Mappings) == 0 || len(img.Auxv) == 0 {
					t.Errorf("the look tells of process %d, %d mappings, %d entries of the auxiliary vector",
						img.Process.PID, len(img.Mappings), len(img.Auxv))
				}
				anon, got := p.Map(t, "anon"), make([]byte, page)
				if _, err := mem.ReadAt(got, anon.Page(1)); err != nil || !bytes.Equal(got, p.Want(t, anon, 1)) {
					t.Errorf("memory of the look: %v", err)
				}
				for _, change := range []string{"remap untouched 2048 1000", "unmap untouched 100 100", "zero anon 0", "drop thp", "remap file", "protect dontfork r"} {
					p.Cmd(t, "%s", change)
				}
				return testproc.NewPages(), nil
			}
			s := takeBy(t, p, m, o)
			if looks != 1 {
				t.Errorf("it has looked %d times", looks)
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
			s := takeBy(t, p, m, Options{Prepare: func(*procmem.Image, procmem.Sparse) (Store, error) {
				p.Send(t, "exec %s --ballast 40M", p.Path)
				p.ReadFacts(t)
				return testproc.NewPages(), nil
			}})
			checkBallast(t, p, s)
			s.Close()
			p.Cmd(t, "ping")
		})
	}
}

// What Prepare returns as an error ends Take, with nothing left.
func TestPrepareFails(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	_, err := Take(t.Context(), open(t, p), Options{Prepare: func(*procmem.Image, procmem.Sparse) (Store, error) { return nil, errTest }})
	if err != errTest {
		t.Errorf("%v; want %v", err, errTest)
	}
}
