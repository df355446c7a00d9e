package snapshot

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/testproc"
)

// A process that reads files past its page tables: precopy cannot see what is written so. It tells,
// and is not chosen where a fork is possible.
func TestPinnedMemory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	kids := testproc.Start(t, testproc.Kids).Path
	for _, c := range []struct {
		name   string
		flags  int
		leader bool // it lives
		pinned bool
	}{
		{"read", unix.O_RDONLY, true, true},
		{"read and the leader has exited", unix.O_RDONLY, false, true},
		{"written", unix.O_WRONLY, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := os.OpenFile(path, c.flags|unix.O_DIRECT, 0)
			if err != nil {
				t.Skip(err) // not on every file system
			}
			defer f.Close()
			cmd := exec.Command(kids, "--ballast", "40M")
			cmd.ExtraFiles = []*os.File{f}
			p := testproc.StartCmd(t, cmd)
			if !c.leader {
				p.Cmd(t, "leaderexit")
			}
			s := takeBy(t, p, MethodPrecopy, Options{})
			if told := len(s.Torn) > 0 && strings.Contains(strings.Join(reasons(s), ""), "O_DIRECT"); told != c.pinned {
				t.Errorf("torn: %v, %q", s.Torn, reasons(s))
			}
			checkBallast(t, p, s)
			s.Close()
			s = takeBy(t, p, MethodAuto, Options{})
			if s.Method == MethodPrecopy == c.pinned || len(s.Torn) > 0 {
				t.Errorf("auto takes %s (%s), and %v is torn", s.Method, s.Why, s.Torn)
			}
			s.Close()
		})
	}
}
