package snapshot

import (
	"strings"
	"testing"

	"github.com/procmem/procmem/internal/testproc"
)

// A process that writes to a huge page after a fork needs another, and gets
// SIGBUS where there is none.
func TestForkHugeUnreserved(t *testing.T) {
	testproc.HugePages(t, 1)
	p := testproc.Start(t, testproc.Kids, "--ballast", "1M")
	if _, err := p.TryCmd(t, "huge"); err != nil {
		t.Fatal(err)
	}
	s, err := Take(t.Context(), open(t, p), Options{Method: MethodFork})
	if err == nil {
		s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "2 MiB of private huge pages without a reservation") {
		t.Errorf("%v", err)
	}
	s = takeBy(t, p, MethodAuto, Options{})
	p.Cmd(t, "huge")
	s.Close()
	p.Cmd(t, "huge")
}
