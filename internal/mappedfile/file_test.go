package mappedfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/procfs"
	"github.com/procmem/procmem/internal/testproc"
)

// mapping returns the mapping of a process at an address.
func mapping(t *testing.T, pid int, a procmem.Addr) *procmem.Mapping {
	t.Helper()
	text, err := privilege.ReadProc(pid, "maps")
	if err != nil {
		t.Fatal(err)
	}
	ms, err := procfs.ParseMaps(bytes.NewReader(text))
	i := procmem.FindMapping(ms, a)
	if err != nil || i == len(ms) || !ms[i].Contains(a) {
		t.Fatalf("no mapping at %v, %v", a, err)
	}
	return &ms[i]
}

// of returns what a process tells of the files that it maps.
func of(t *testing.T, pid int) Process {
	t.Helper()
	dir, err := os.Open(privilege.ProcPath(pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	text, err := privilege.ReadProc(pid, "mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return Process{PID: pid, Dir: dir, Mounts: ParseMounts(bytes.NewReader(text)), Held: func() bool { return true }}
}

// A file on a server is read by another process, and is given up once the server does not
// answer.
func TestFileOnServer(t *testing.T) {
	fuse := testproc.MountFuse(t, t.TempDir())
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<10)
	path := fuse.Put("data", want)
	p := testproc.Start(t, testproc.Kids)
	t.Cleanup(fuse.Answer)
	m := mapping(t, p.PID(), procmem.Addr(p.CmdInts(t, "map %s private", path)[0]))

	process := of(t, p.PID())
	files := New(process)
	defer files.Close()
	if !files.Remote(m) {
		t.Fatalf("%v is not told to be on a server", m)
	}
	f, release := files.File(m)
	defer release()
	if f == nil {
		t.Fatal("no file")
	}
	if _, local := f.(Local); local {
		t.Error("this process has it open")
	}
	got := make([]byte, len(want))
	if n, err := f.ReadAt(got, 0); n != len(want) || err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if size, err := f.Size(); size != int64(len(want)) || err != nil {
		t.Errorf("size %d, %v; want %d", size, err, len(want))
	}
	maps := []procmem.Mapping{*m}
	if process.Unreachable(maps)[0].Unreachable {
		t.Error("its path does not lead to it")
	}

	fuse.Hang()
	testproc.DropCaches(t)
	began := time.Now()
	if n, err := f.ReadAt(got, 0); n != 0 || !errors.Is(err, ErrNoAnswer) {
		t.Errorf("%d bytes of a server that does not answer, %v; want %v", n, err, ErrNoAnswer)
	}
	if took := time.Since(began); took > 10*heldPatience {
		t.Errorf("waited for %v", took)
	}
	if process.Unreachable(maps)[0].Unreachable {
		t.Error("a path that nobody has confirmed counts as wrong")
	}
}

// A file that has no name any more, and one whose name another file has, are not reachable.
func TestUnreachable(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "file,deleted,replaced")
	process := of(t, p.PID())
	for name, want := range map[string]bool{"file": false, "deleted": true, "replaced": true} {
		m := mapping(t, p.PID(), p.Map(t, name).Start)
		in := []procmem.Mapping{*m}
		out := process.Unreachable(slices.Clone(in))
		if out[0].Unreachable != want {
			t.Errorf("%s: unreachable %v; want %v", name, out[0].Unreachable, want)
		}
		if out[0].Unreachable = false; fmt.Sprint(out) != fmt.Sprint(in) {
			t.Errorf("%s: %v; want %v", name, out, in)
		}
	}
}
