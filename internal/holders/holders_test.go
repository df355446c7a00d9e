package holders

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/testproc"
)

func memfd(t *testing.T) (*os.File, ID) {
	t.Helper()
	fd, err := unix.MemfdCreate("holders", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "memfd")
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	return f, idOf(t, f)
}

func idOf(t *testing.T, f *os.File) ID {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return ID{unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino}
}

func ownHold(id ID) holder {
	for _, h := range find([]int{os.Getpid()}, []ID{id}).holders[id] {
		return h
	}
	return holder{}
}

// A process may write to a file that it maps shared and writable, or has open for
// writing, and to no other.
func TestFind(t *testing.T) {
	f, id := memfd(t)
	if h := ownHold(id); h != (holder{os.Getpid(), false, true}) {
		t.Errorf("open: %+v", h)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	if h := ownHold(id); h != (holder{os.Getpid(), true, true}) {
		t.Errorf("open and mapped: %+v", h)
	}
	f.Close()
	if h := ownHold(id); h != (holder{os.Getpid(), true, false}) {
		t.Errorf("mapped: %+v", h)
	}
	if err := unix.Munmap(mem); err != nil {
		t.Fatal(err)
	}
	if h := ownHold(id); h != (holder{}) {
		t.Errorf("neither: %+v", h)
	}
}

// Who can only read is none of them.
func TestFindReaders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, make([]byte, 1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, flags := range [][2]int{{unix.PROT_READ, unix.MAP_SHARED}, {unix.PROT_READ | unix.PROT_WRITE, unix.MAP_PRIVATE}} {
		mem, err := unix.Mmap(int(f.Fd()), 0, 1<<16, flags[0], flags[1])
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Munmap(mem)
	}
	if h := ownHold(idOf(t, f)); h != (holder{}) {
		t.Errorf("%+v", h)
	}
}

// A process whose leader has exited still has what its threads have.
func TestFindLeaderHasExited(t *testing.T) {
	f, id := memfd(t)
	cmd := exec.Command(testproc.Build(t, testproc.Kids))
	cmd.ExtraFiles = []*os.File{f}
	p := testproc.StartCmd(t, cmd)
	p.Cmd(t, "leaderexit")
	got := find([]int{p.PID()}, []ID{id})
	if h := got.holders[id]; len(h) != 1 || !h[0].descriptor || got.unseen != 0 {
		t.Errorf("%+v", got)
	}
}
