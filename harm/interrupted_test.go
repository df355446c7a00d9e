package harm

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
)

// writer is a target that counts up in its memory, and knows how often.
type writer struct {
	*testproc.Proc
	fill testproc.Fill
}

func startWriter(t testing.TB, size string) writer {
	t.Helper()
	p := testproc.Start(t, testproc.Many, "fill", size, "--writer", "20000", "--writeset", "256K")
	return writer{p, p.Fill(t)}
}

// unharmed checks that the writer goes on, and that its memory holds exactly
// what it has written.
func (w writer) unharmed(t testing.TB) {
	t.Helper()
	unharmed(t, w.Proc)
	n := w.CmdInts(t, "writes")[0]
	testproc.Until(t, "the writer to go on", func() bool { return w.CmdInts(t, "writes")[0] > n })
}

// sum stops the writer for good and compares what its memory holds with what
// it has counted.
func (w writer) sum(t testing.TB) {
	t.Helper()
	w.Cmd(t, "writer -1")
	last := int64(-1)
	testproc.Until(t, "the writer to end", func() bool {
		now := w.CmdInts(t, "writes")[0]
		same := now == last
		last = now
		return same && testproc.State(w.PID(), w.TID(t, "writer")) == 'S'
	})
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", w.PID()))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	got, want := make([]byte, procmem.PageSize), make([]byte, procmem.PageSize)
	var sum uint64
	for i := range int(w.fill.Size() / procmem.PageSize) {
		if _, err := mem.ReadAt(got, int64(w.fill.Start)+int64(i)*procmem.PageSize); err != nil {
			t.Fatal(err)
		}
		w.fill.Want(want, i)
		const end = procmem.PageSize - 8
		if string(got[:end]) != string(want[:end]) {
			t.Fatalf("page %d of the target has changed", i)
		}
		sum += binary.LittleEndian.Uint64(got[end:]) - binary.LittleEndian.Uint64(want[end:])
	}
	if n := w.CmdInts(t, "writes")[0]; sum != uint64(n) {
		t.Errorf("the target has written %d times, and its memory shows %d", n, sum)
	}
}

// written is how much of a file is on the disk, 0 where there is none.
func written(path string) int64 {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	return st.Blocks * 512
}

// Whatever ends procmem, and whenever, the target goes on unharmed, and
// nothing is left that looks like a core and is none.
func TestInterrupted(t *testing.T) {
	const size, bytes = "24M", 24 << 20
	w := startWriter(t, size)
	random := rand.New(rand.NewPCG(1, 2))
	signals := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGKILL}
	outcomes := map[string]int{}
	for trial := range 50 {
		sig := signals[trial%len(signals)]
		verb, what := "core", fmt.Sprintf("core.%d", w.PID())
		if trial%8 >= 6 {
			verb, what = "dump", "dump"
		}
		dir := t.TempDir()
		path := filepath.Join(dir, what)
		prefix := strings.TrimSuffix(path, fmt.Sprintf(".%d", w.PID()))
		r := begin(t, command(verb, w.PID(), "-o", prefix))

		// The moment: a while after the start, when the target is attached
		// to, when so much has been written, or never.
		switch random.IntN(4) {
		case 0:
			time.Sleep(time.Duration(random.IntN(30000)) * time.Microsecond)
		case 1:
			for !r.ended() && untraced(w.PID()) {
			}
		default:
			at := random.Int64N(bytes)
			partial := path + ".partial"
			for !r.ended() && writtenIn(partial) < at {
			}
		}
		r.signal(sig)
		got := r.wait(t)
		w.unharmed(t)

		left := names(t, dir)
		switch {
		case got.status == 0:
			outcomes["done"]++
			wantNames(t, dir, what)
			if verb == "core" {
				openCore(t, path)
			}
		case sig == syscall.SIGKILL:
			outcomes["killed"]++
			switch {
			case len(left) == 1 && left[0] == what: // killed after its work
				if verb == "core" {
					openCore(t, path)
				}
			case len(left) > 1 || len(left) == 1 && left[0] != what+".partial":
				t.Fatalf("trial %d: after SIGKILL there is %q", trial, left)
			}
		case got.status == statusOf(sig) && strings.Contains(got.stderr, "stopped by "+unix.SignalName(sig)):
			outcomes["stopped"]++
			wantNames(t, dir)
		case got.status == -1 && r.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() == sig,
			sig == syscall.SIGQUIT && strings.HasPrefix(got.stderr, "SIGQUIT: quit\n"): // by the Go runtime
			outcomes["early"]++ // before procmem had asked for the signal
			wantNames(t, dir)
		default:
			t.Fatalf("trial %d: %v: %v", trial, sig, got)
		}

		if sig == syscall.SIGKILL && verb == "core" {
			// The next run takes over what was left.
			call(t, verb, w.PID(), "-o", prefix, "--force").want(t, 0, "")
			wantNames(t, dir, what)
			openCore(t, path)
		}
	}
	t.Logf("outcomes: %v", outcomes)
	if outcomes["killed"] < 3 || outcomes["stopped"] < 6 {
		t.Errorf("outcomes %v: the moments were badly chosen", outcomes)
	}
	w.sum(t)
}

// writtenIn is written for a file, or the files in a folder.
func writtenIn(path string) int64 {
	n := written(path)
	list, _ := os.ReadDir(path)
	for _, e := range list {
		n += written(filepath.Join(path, e.Name()))
	}
	return n
}

// A run that was killed while it held the target, and wrote to a file that is
// taken over by the next run.
func TestTakeOver(t *testing.T) {
	w := startWriter(t, "8M")
	dir := t.TempDir()
	path := filepath.Join(dir, fmt.Sprintf("core.%d", w.PID()))
	if err := os.WriteFile(path+".partial", make([]byte, 64<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	call(t, "core", "-o", filepath.Join(dir, "core"), w.PID()).want(t, 0, "^$")
	wantNames(t, dir, filepath.Base(path))
	openCore(t, path)
	if fi, err := os.Stat(path); err != nil || fi.Mode() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", fi.Mode(), err)
	}
	w.unharmed(t)
}

// Signals end procmem also while it cannot write: the reader of a pipe may
// have stopped reading.
func TestStuckOutput(t *testing.T) {
	w := startWriter(t, "8M")
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGKILL} {
		calls := [][]any{{"dump", "-o", "-"}}
		for _, m := range append(allMethods, "live") {
			calls = append(calls, []any{"core", "-o", "-", "--method", m})
		}
		for _, args := range calls {
			t.Run(fmt.Sprint(args, " ", sig), func(t *testing.T) {
				before := look(t, w.PID())
				r := beginStuck(t, append(args, w.PID())...)
				r.signal(sig)
				got := r.wait(t)
				undone(t, w.PID(), before)
				w.unharmed(t)
				if sig != syscall.SIGKILL {
					got.want(t, statusOf(sig), "stopped by "+unix.SignalName(sig))
				}
			})
		}
	}
	w.sum(t)
}

// The reader goes away, as head does.
func TestClosedPipe(t *testing.T) {
	w := startWriter(t, "8M")
	for _, args := range [][]any{{"core", "-o", "-", w.PID()}, {"dump", "-o", "-", w.PID()},
		{"read", w.PID(), w.fill.Range}} {
		t.Run(fmt.Sprint(args[0]), func(t *testing.T) {
			r, out := pipe(t)
			cmd := command(args...)
			cmd.Stdout = out
			b := begin(t, cmd)
			out.Close()
			if _, err := r.Read(make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			r.Close()
			if args[0] == "read" { // like strings(1) and others that print
				b.wait(t).want(t, -1, "^$")
			} else {
				b.wait(t).want(t, 1, `^procmem: .*the reader of the output has closed it\n$`)
			}
			w.unharmed(t)
		})
	}
}
