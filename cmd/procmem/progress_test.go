package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/testproc"
)

// stuck is the command with a stdout that is read when the test wants it.
type stuck struct {
	*exec.Cmd
	out *os.File // to read from
}

// beginStuck starts the command and returns when it waits for the reader of
// its stdout.
func beginStuck(t *testing.T, stderr *os.File, args ...string) *stuck {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
		t.Fatal(err)
	}
	s := &stuck{exec.Command("procmem", args...), r}
	s.Stdout, s.Stderr = w, stderr
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		_ = s.Process.Kill()
		_ = s.Wait()
	})
	w.Close()
	stderr.Close()
	testproc.Until(t, "the pipe to be full", func() bool {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", s.Process.Pid))
		for _, task := range tasks {
			b, err := os.ReadFile(task)
			if err == nil && strings.HasPrefix(string(b), fmt.Sprintf("%d 0x1 ", unix.SYS_WRITE)) {
				return true
			}
		}
		return false
	})
	return s
}

// finish reads what the command writes until it ends, and returns that.
func (s *stuck) finish(t *testing.T) (stdout []byte) {
	t.Helper()
	out, err := io.ReadAll(s.out)
	if err := errors.Join(err, s.Wait()); err != nil {
		t.Fatal(err)
	}
	return out
}

// On SIGUSR1 the command says in a line how far it is, and goes on.
func TestProgressOnSignal(t *testing.T) {
	p := testproc.Start(t, testproc.Many, "fill", "16M")
	pid := strconv.Itoa(p.PID())
	const amount = `\d+(\.\d)? ([KMG]iB|bytes?|B)`
	for _, args := range [][]string{{"--method", "stop"}, {"--method", "stop", "--compress", "zstd"}, {"--method", "fork"},
		{"--method", "precopy", "--compress", "zstd"}, {"--method", "live"}} {
		t.Run(fmt.Sprint(args), func(t *testing.T) {
			msgs, stderr, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer msgs.Close()
			s := beginStuck(t, stderr, append(args, "core", "-o", "-", pid)...)
			phase := "writing"
			if p.State() == 't' {
				phase = "process held, writing"
			}
			lines := bufio.NewReader(msgs)
			want := regexp.MustCompile(`^procmem: process ` + pid + `: ` + phase + `, ` + amount + ` of ` + amount + `(, ` + amount + `/s(, \d+\S* left)?)?\n$`)
			for range 2 {
				if err := s.Process.Signal(syscall.SIGUSR1); err != nil {
					t.Fatal(err)
				}
				if line, err := lines.ReadString('\n'); err != nil || !want.MatchString(line) {
					t.Errorf("%q, %v; want %v", line, err, want)
				}
			}
			if len(s.finish(t)) == 0 {
				t.Error("nothing was written")
			}
			rest, err := io.ReadAll(lines)
			if err != nil || !strings.HasPrefix(string(rest), "the stream: process ") || strings.Contains(string(rest), "procmem: process") {
				t.Errorf("then it says %s, %v", rest, err)
			}
		})
	}
	p.Cmd(t, "ping")
}

// What is unpacked before anything else takes its time, too.
func TestProgressOfUnpacking(t *testing.T) {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "zeros.zst")
	if err := os.WriteFile(path, bytes.Repeat(z.EncodeAll(make([]byte, 32<<20), nil), 1024), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"verify", "unpack"} {
		cmd := exec.Command("procmem", verb, path)
		msgs, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(msgs)
		if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, "has no seek table") {
			t.Errorf("%s: %q, %v", verb, line, err)
		}
		for line := ""; err == nil && !strings.Contains(line, ": unpacking, "); {
			_ = cmd.Process.Signal(syscall.SIGUSR1)
			line, err = lines.ReadString('\n')
		}
		if err != nil {
			t.Errorf("%s: it has not told how far it is: %v", verb, err)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// The signal does not end a command without progress either.
func TestSignalWithoutProgress(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	msgs, stderr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer msgs.Close()
	s := beginStuck(t, stderr, "read", strconv.Itoa(p.PID()), "[stack]", "-f", "raw")
	if err := s.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	s.finish(t)
	if rest, err := io.ReadAll(msgs); err != nil || len(rest) > 0 {
		t.Errorf("it says %s, %v", rest, err)
	}
}

// terminal returns a terminal: what is on it can be had with text.
func terminal(t *testing.T) (slave *os.File, text func() string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 120})
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all []byte
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			mu.Lock()
			all = append(all, buf[:n]...)
			mu.Unlock()
			if err != nil { // EIO: it is not open any more
				return
			}
		}
	}()
	t.Cleanup(func() {
		slave.Close()
		master.Close()
		<-done
	})
	return slave, func() string {
		mu.Lock()
		defer mu.Unlock()
		return string(all)
	}
}

// screen is what one sees when a terminal has got text.
func screen(text string) string {
	lines, col := [][]rune{nil}, 0
	for i := 0; i < len(text); {
		last := &lines[len(lines)-1]
		if m := regexp.MustCompile(`^\x1b\[(\d*)([A-Za-z])`).FindStringSubmatch(text[i:]); m != nil {
			switch m[1] + m[2] {
			case "K", "0K":
				*last = (*last)[:min(col, len(*last))]
			case "2K":
				*last = nil
			}
			i += len(m[0])
			continue
		}
		r := []rune(text[i:min(len(text), i+4)])[0]
		i += len(string(r))
		switch r {
		case '\r':
			col = 0
		case '\n':
			lines, col = append(lines, nil), 0
		default:
			for len(*last) <= col {
				*last = append(*last, ' ')
			}
			(*last)[col] = r
			col++
		}
	}
	var out strings.Builder
	for _, l := range lines {
		out.WriteString(strings.TrimRight(string(l), " ") + "\n")
	}
	return strings.TrimRight(out.String(), "\n") + "\n"
}

// On a terminal one sees it move, and in the end nothing of that is left.
func TestProgressOnTerminal(t *testing.T) {
	p := testproc.Start(t, testproc.Many, "fill", "16M")
	for method, columns := range map[string]uint16{"stop": 6, "precopy": 120} {
		t.Run(method, func(t *testing.T) {
			slave, text := terminal(t)
			if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
				t.Fatal(err)
			}
			s := beginStuck(t, slave, "core", "-o", "-", "--method", method, strconv.Itoa(p.PID()))
			testproc.Until(t, "the phase", func() bool {
				return strings.Contains(screen(text()), map[string]string{"stop": "writi", "precopy": "writing"}[method])
			})
			// How far it is can be asked for all the same.
			if err := s.Process.Signal(syscall.SIGUSR1); err != nil {
				t.Fatal(err)
			}
			testproc.Until(t, "a line", func() bool { return strings.Contains(text(), "procmem: process") })
			for piece := range strings.SplitSeq(text(), "\r") {
				if n := len([]rune(strings.TrimPrefix(piece, clearLine[1:]))); n >= int(columns) && !strings.Contains(piece, "procmem: process") {
					t.Errorf("%d columns in a terminal of %d: %q", n, columns, piece)
				}
			}
			s.finish(t)
			testproc.Until(t, "the report", func() bool { return strings.Contains(text(), "memory is missing") })
			end := screen(text())
			end = end[strings.LastIndex(end, "\nthe stream: ")+1:]

			if strings.Contains(end, "%") || strings.Contains(end, "writing") || !strings.HasPrefix(end, "the stream: ") {
				t.Errorf("in the end one sees\n%s", screen(text()))
			}
		})
	}
}

// In a pipe there is no bar, however long it takes.
func TestNoProgressInPipe(t *testing.T) {
	p := testproc.Start(t, testproc.Many, "fill", "4M")
	msgs, stderr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer msgs.Close()
	began := time.Now()
	s := beginStuck(t, stderr, "core", "-o", "-", strconv.Itoa(p.PID()))
	testproc.Until(t, "the time for a bar", func() bool { return time.Since(began) > 2*showAfter })
	s.finish(t)
	if rest, err := io.ReadAll(msgs); err != nil || bytes.ContainsAny(rest, "\r\x1b%") || !bytes.HasPrefix(rest, []byte("the stream: ")) {
		t.Errorf("it says %q, %v", rest, err)
	}
}

// Code that enters a phase may hold a process. So it never waits for stderr, whether its
// terminal is stopped or its pipe has no reader.
func TestProgressNeverWaits(t *testing.T) {
	r, w := io.Pipe()
	p := &progress{out: w, stop: make(chan struct{}), stopped: make(chan struct{})}
	signals := make(chan os.Signal, 1)
	signals <- syscall.SIGUSR1
	go p.run(signals, true)
	first := make([]byte, 1)
	if _, err := r.Read(first); err != nil { // the rest of the line has no reader
		t.Fatal(err)
	}
	told := make(chan bool)
	go func() {
		p.enter("paused")
		p.count(func() int64 { return 1 }, 2)
		close(told)
	}()
	testproc.Until(t, "a phase to be entered", func() bool {
		select {
		case <-told:
			return true
		default:
			return false
		}
	})
	go io.Copy(io.Discard, r)
	p.end()
}
