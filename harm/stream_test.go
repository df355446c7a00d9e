package harm

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/testproc"
)

// The reader of a stream goes away, and the target, which notices whatever is
// done to it, notices nothing.
func TestReaderGoesAway(t *testing.T) {
	p := testproc.Start(t, testproc.Torture)
	before := look(t, p.PID())
	compressed := []any{"--compress", "zstd"}
	for _, c := range []struct {
		method string
		form   []any
		after  int64 // bytes
	}{
		{"stop", nil, 1}, {"stop", compressed, 300 << 10}, {"fork", nil, 300 << 10}, {"fork", compressed, 0},
		{"precopy", nil, 0}, {"precopy", compressed, 1}, {"auto", compressed, 300 << 10},
	} {
		t.Run(fmt.Sprint(c.method, c.form, c.after), func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			cmd := command(append(c.form, "core", "-o", "-", "--method", c.method, p.PID())...)
			cmd.Stdout = w
			b := begin(t, cmd)
			w.Close()
			if n, err := io.CopyN(io.Discard, r, c.after); err != nil {
				t.Fatalf("%d bytes, %v", n, err)
			}
			r.Close()
			b.wait(t).want(t, 1, `^procmem: .*the reader of the output has closed it\n$`)
			undone(t, p.PID(), before)
			notices(t, p)
		})
	}
}

// Whatever ends procmem while it compresses into a file, nothing is left but
// what has the name of something that is not whole, and the next run takes
// that over.
func TestInterruptedCompression(t *testing.T) {
	p := testproc.Start(t, testproc.Torture, "--ballast", "24M")
	before := look(t, p.PID())
	name := fmt.Sprintf("core.%d.zst", p.PID())
	for _, method := range []string{"stop", "fork", "precopy"} {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
			t.Run(fmt.Sprint(method, " ", sig), func(t *testing.T) {
				dir := t.TempDir()
				path := filepath.Join(dir, name)
				args := []any{"core", "--compress", "zstd", "--force", "-o", filepath.Join(dir, "core"), p.PID(), "--method"}
				for try := 0; ; try++ {
					b := begin(t, command(append(args, method)...))
					testproc.Until(t, "something to be written", func() bool { return b.ended() || written(path+".partial") > 0 })
					b.signal(sig)
					got := b.wait(t)
					undone(t, p.PID(), before)
					notices(t, p)
					if got.status != 0 && written(path) == 0 {
						if sig == syscall.SIGKILL {
							wantNames(t, dir, name+".partial")
							break
						}
						got.want(t, statusOf(syscall.SIGTERM), "^procmem: .*stopped by SIGTERM\n$")
						wantNames(t, dir)
						return
					}
					if try == 100 {
						t.Fatal("procmem is too quick to be ended while it compresses")
					}
					if err := os.Remove(path); err != nil {
						t.Fatal(err)
					}
				}
				// The others wait for processors that the target does not want.
				call(t, append(args, "stop")...).want(t, 0, "^$")
				wantNames(t, dir, name)
				call(t, "verify", path).want(t, 0, "^$")
				undone(t, p.PID(), before)
				notices(t, p)
			})
		}
	}
}

// What is ignored when procmem is started stays so, as with nohup(1).
func TestIgnoredSignals(t *testing.T) {
	w := startWriter(t, "1M")
	r, stdout := pipe(t)
	b := begin(t, &exec.Cmd{Path: "/bin/sh", Stdout: stdout,
		Args: []string{"sh", "-c", `trap "" HUP INT; exec "$0" core -o - "$1"`, program, fmt.Sprint(w.PID())}})
	stdout.Close()
	testproc.Until(t, "procmem to fill the pipe", func() bool { return b.ended() || writing(b.pid()) })
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT} {
		b.signal(sig)
	}
	n, err := io.Copy(io.Discard, r)
	if got := b.wait(t); got.status != 0 || err != nil || n < 1<<20 {
		t.Errorf("%d bytes, %v, %v", n, err, got)
	}
	unharmed(t, w.Proc)
}

// A stdout that is closed is no place for a core.
func TestClosedStdout(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	neverStopped(t, p, func() {
		for _, verb := range []string{"core", "dump"} {
			cmd := &exec.Cmd{Path: "/bin/sh", Args: []string{"sh", "-c", `exec "$0" "$1" -o - "$2" >&-`, program, verb, fmt.Sprint(p.PID())}}
			begin(t, cmd).wait(t).want(t, 1, "^procmem: stdout is closed, or ")
		}
	})
	cmd := &exec.Cmd{Path: "/bin/sh", Args: []string{"sh", "-c", `exec "$0" core -o - "$1" >/dev/null`, program, fmt.Sprint(p.PID())}}
	begin(t, cmd).wait(t).want(t, 0, "^the stream: ")
}

// Signals end procmem also while its compressor waits for who does not read.
func TestStuckCompression(t *testing.T) {
	w := startWriter(t, "16M")
	before := look(t, w.PID())
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		for _, method := range append(allMethods, "live") {
			t.Run(fmt.Sprint(method, " ", sig), func(t *testing.T) {
				r := beginStuck(t, "core", "-o", "-", "--compress", "zstd", "--method", method, w.PID())
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

// The disk promises more than it gives, as an ext4 does that keeps blocks for
// itself: to reserve the room shows it, and nothing was stopped.
func TestNoRoomToReserve(t *testing.T) {
	p := testproc.Start(t, testproc.Many, "fill", "80M")
	disk := smallExt4(t, 256<<20)
	want := predicted(t, p.PID(), filepath.Join(disk, "core"))
	var st unix.Statfs_t
	if err := unix.Statfs(disk, &st); err != nil {
		t.Fatal(err)
	}
	const more = 1 << 20
	kept := int64(st.Bfree-st.Bavail) * st.Bsize
	if kept < 2*more {
		t.Skipf("the disk keeps no more than %d bytes", kept)
	}
	filler, err := os.Create(filepath.Join(disk, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer filler.Close()
	if err := unix.Fallocate(int(filler.Fd()), 0, 0, int64(st.Bfree)*st.Bsize-want-more); err != nil {
		t.Fatal(err)
	}
	neverStopped(t, p, func() {
		for _, verb := range []string{"core", "dump"} {
			call(t, verb, "-o", filepath.Join(disk, verb), p.PID()).want(t, 1,
				`^procmem: write .*: no room: .*(no space left on device|needed and .* free).*\(nothing was stopped\)\n$`)
		}
	})
	wantNames(t, disk, "filler", "lost+found")
	// Without the filler there is room.
	if err := os.Remove(filler.Name()); err != nil {
		t.Fatal(err)
	}
	filler.Close()
	call(t, "core", "-o", filepath.Join(disk, "core"), p.PID()).want(t, 0, "^$")
	call(t, "verify", fmt.Sprintf("%s/core.%d", disk, p.PID())).want(t, 0, "^$")
	unharmed(t, p)
}

// smallExt4 returns an ext4 of this size in a file, which is gone with the
// test.
func smallExt4(t *testing.T, size int64) string {
	t.Helper()
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	if err := join(os.WriteFile(image, nil, 0o600), os.Truncate(image, size)); err != nil {
		t.Fatal(err)
	}
	for _, argv := range [][]string{
		{"mkfs.ext4", "-q", "-F", "-m", "0", "-J", "size=4", "-N", "128", "-E", "lazy_itable_init=0,nodiscard", image},
		{"mount", "-o", "loop", image, dir},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Skipf("%s: %v %s", strings.Join(argv, " "), err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-d", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	return dir
}

// Whoever does not read holds up procmem, and not the process.
func TestSlowReaderHoldsNobody(t *testing.T) {
	w := startWriter(t, "64M") // more than is copied at once in any case
	before := look(t, w.PID())
	for _, form := range [][]any{{"core"}, {"core", "--compress", "zstd"}, {"dump"}} {
		t.Run(fmt.Sprint(form), func(t *testing.T) {
			r := beginStuck(t, append(form, "-o", "-", "--method", "stop", w.PID())...)
			w.unharmed(t)
			if r.ended() {
				t.Fatal("procmem has ended")
			}
			r.signal(syscall.SIGTERM)
			r.wait(t).want(t, statusOf(syscall.SIGTERM), "stopped by SIGTERM")
			undone(t, w.PID(), before)
		})
	}
	w.sum(t)
}
