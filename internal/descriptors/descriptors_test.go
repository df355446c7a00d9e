package descriptors

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/testproc"
)

// links returns what the descriptors of a process show.
func links(t *testing.T, pid int) (out []string) {
	t.Helper()
	dir, err := os.OpenFile(fmt.Sprintf("/proc/%d", pid), unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := Walk(dir, nil, func(d Descriptor) bool {
		link, err := d.Link()
		if err == nil {
			out = append(out, link)
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func count(in []string, part string) (n int) {
	for _, s := range in {
		if strings.Contains(s, part) {
			n++
		}
	}
	return n
}

// unique returns a short word that no other test has.
func unique() string { return strconv.FormatInt(time.Now().UnixNano(), 36) }

// memfd makes a file that has a name of its own.
func memfd(t *testing.T, name string) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), name)
}

// Each table is walked once, however many threads have it. A thread with a table of its own is
// not overlooked.
func TestTables(t *testing.T) {
	// A thread of an earlier test may have its table still.
	of := unique()
	shared := memfd(t, "shared "+of)
	defer shared.Close()
	ready, end := make(chan error), make(chan bool)
	defer close(end)
	go func() {
		runtime.LockOSThread() // the thread ends with its table
		err := unix.Unshare(unix.CLONE_FILES)
		if err == nil {
			_, err = unix.MemfdCreate("private "+of, 0)
		}
		ready <- err
		<-end
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	got := links(t, os.Getpid())
	// The other table began as a copy.
	if a, b := count(got, "shared "+of), count(got, "private "+of); a != 2 || b != 1 {
		t.Errorf("%d and %d times; want 2 and 1: %q", a, b, got)
	}
}

// A leader that has exited has no table, but its threads have theirs.
func TestLeaderHasExited(t *testing.T) {
	f := memfd(t, "inherited")
	defer f.Close()
	cmd := exec.Command(testproc.Build(t, testproc.Kids))
	cmd.ExtraFiles = []*os.File{f}
	p := testproc.StartCmd(t, cmd)
	p.Cmd(t, "threads 5")
	p.Cmd(t, "leaderexit")
	if got := links(t, p.PID()); count(got, "inherited") != 1 {
		t.Errorf("%q", got)
	}
}

// The walk ends where it is told to, where there are too many, and where the process has ended.
func TestEnds(t *testing.T) {
	dir, err := os.OpenFile("/proc/self", unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	var seen []string
	if err := Walk(dir, nil, func(d Descriptor) bool {
		seen = append(seen, d.Name)
		return false
	}); err != nil || len(seen) != 1 {
		t.Errorf("%q, %v", seen, err)
	}
	full := walk{step: func() {}, f: func(Descriptor) bool { return true }, looked: Most - 2}
	if err := full.table(dir, "."); !errors.Is(err, ErrTooMany) {
		t.Errorf("too many: %v", err)
	}
	p := testproc.Start(t, testproc.Kids)
	gone, err := os.OpenFile(fmt.Sprintf("/proc/%d", p.PID()), unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close()
	p.Kill()
	_, _ = p.Wait()
	if err := Walk(gone, nil, func(Descriptor) bool { return true }); err != nil {
		t.Errorf("of a process that has ended: %v", err)
	}
}

// A descriptor tells its flags and its file.
func TestDescriptor(t *testing.T) {
	f := memfd(t, "one "+unique())
	defer f.Close()
	var want unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &want); err != nil {
		t.Fatal(err)
	}
	dir, err := os.OpenFile("/proc/self", unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	found := false
	err = Walk(dir, nil, func(d Descriptor) bool {
		if link, err := d.Link(); err != nil || !strings.Contains(link, f.Name()) {
			return true
		}
		found = true
		info, err := d.Info()
		if lines := slices.Collect(strings.Lines(string(info))); err != nil || count(lines, "flags:") != 1 {
			t.Errorf("fdinfo: %q, %v", info, err)
		}
		if st, err := d.Stat(); err != nil || st.Ino != want.Ino || st.Dev != want.Dev {
			t.Errorf("stat: %+v, %v", st, err)
		}
		return false
	})
	if err != nil || !found {
		t.Errorf("found: %v, %v", found, err)
	}
}
