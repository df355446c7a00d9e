package main

import (
	"io"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/testproc"
)

// narrow is a terminal that many have in a corner of the screen.
const narrow = 60

func TestProgressLine(t *testing.T) {
	m := moment{phase: "copying ahead, round 1", done: func() int64 { return 1 << 30 }, total: 3 << 30, since: time.Now().Add(-time.Minute)}
	for width := 120; width >= len("copying ahead, round 1, 1m59s left"); width-- {
		line := m.line(width)
		if len(line) > width || !strings.Contains(line, m.phase) || !strings.HasSuffix(line, " left") {
			t.Errorf("%d columns: %q", width, line)
		}
	}
	if line := m.line(120); !strings.Contains(line, "33% [######..............] 1.0 GiB of 3.0 GiB, 17.") {
		t.Errorf("with all there is: %q", line)
	}
	if line := m.line(12); !strings.Contains(line, " left") {
		t.Errorf("12 columns: %q", line)
	}
	m.since = time.Now() // nothing is known of the speed yet
	if line := m.line(narrow); line != m.phase {
		t.Errorf("at first: %q", line)
	}
}

// While a stream is slow, the time left shows.
func TestTimeLeftOnNarrowTerminal(t *testing.T) {
	p := testproc.Start(t, testproc.Many, "fill", "16M")
	slave, text := terminal(t)
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: narrow}); err != nil {
		t.Fatal(err)
	}
	s := beginStuck(t, slave, "core", "-o", "-", "--method", "stop", strconv.Itoa(p.PID()))
	if _, err := io.CopyN(io.Discard, s.out, 8<<20); err != nil {
		t.Fatal(err)
	}
	testproc.Until(t, "the time left", func() bool {
		return strings.Contains(screen(text()), "writing") && strings.Contains(screen(text()), " left")
	})
	s.finish(t)
}

// Rows of tables fit.
func TestTablesOnNarrowTerminal(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--without", "uffd,secret")
	pid := strconv.Itoa(p.PID())
	prefix := t.TempDir() + "/core"
	if _, msg, status := procmemCommand(t, "core", "-o", prefix, pid); status != exitDone && status != exitMissing {
		t.Fatal(msg)
	}
	p.Cmd(t, "touch anon 0 2")
	p.Cmd(t, "add new 8K")
	for _, args := range [][]string{{"maps", pid}, {"maps", prefix + "." + pid}, {"threads", pid}, {"threads", "-r", pid},
		{"diff", prefix + "." + pid, pid}, {"doctor", pid}} {
		slave, text := terminal(t)
		if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: narrow}); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("procmem", append(args, "--color", "never")...)
		cmd.Stdout = slave
		_ = cmd.Run() // diff has found something
		if _, err := slave.WriteString("end\n"); err != nil {
			t.Fatal(err)
		}
		testproc.Until(t, "the end", func() bool { return strings.HasSuffix(text(), "end\r\n") })
		lines := strings.Split(screen(text()), "\n")
		if len(lines) < 5 {
			t.Errorf("%v prints %q", args, lines)
		}
		for _, line := range lines {
			if n := utf8.RuneCountInString(line); n > narrow && !strings.Contains(line, " compared") {
				t.Errorf("%v: %d columns: %s", args, n, line)
			}
		}
	}
}
