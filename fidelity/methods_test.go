package fidelity

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/testproc"
)

// streamed takes a core through a pipe.
func streamed(t *testing.T, pid int, flags ...string) *corefile {
	t.Helper()
	path := filepath.Join(t.TempDir(), "streamed")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(procmemPath(), append(append([]string{"core", "-o", "-"}, flags...), strconv.Itoa(pid))...)
	cmd.Stdout = struct{ io.Writer }{f} // not a file to exec, which hence makes a pipe
	out := runCmd(t, cmd)
	if out.status != 0 && out.status != statusMissing {
		t.Fatalf("status %d: %s", out.status, out.stderr)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, path)
}

// A stream holds what a file holds.
func TestStream(t *testing.T) {
	t.Parallel()
	for _, tc := range []testproc.Toolchain{testproc.Dynamic, testproc.M32} {
		t.Run(string(tc), func(t *testing.T) {
			p := startZoo(t, tc)
			hold(t, p.PID())
			stream := streamed(t, p.PID())
			stoppedAgain(t, p.PID())
			sameCore(t, stream, ourCore(t, p.PID()))
		})
	}
}

// sameCore compares two of our own cores of the same moment.
func sameCore(t *testing.T, a, b *corefile) {
	t.Helper()
	if x, y := a.timeless(), b.timeless(); !reflect.DeepEqual(x, y) {
		t.Errorf("images\n%+v\nand\n%+v", x, y)
	}
	if x, y := a.standardNotes(t), b.standardNotes(t); !reflect.DeepEqual(x, y) {
		t.Errorf("notes\n%v\nand\n%v", x, y)
	}
	if x, y := a.Report().Missing, b.Report().Missing; !slices.Equal(x, y) {
		t.Errorf("missing %v and %v", x, y)
	}
	segs := b.Segments()
	if !slices.Equal(a.Segments(), segs) {
		t.Fatalf("segments\n%v\nand\n%v", a.Segments(), segs)
	}
	buf, other := make([]byte, 1<<20), make([]byte, 1<<20)
	for _, s := range segs {
		if !s.Dumped {
			continue
		}
		faults, err := procmem.ReadFull(a, s.Range, buf, func(at procmem.Addr, p []byte) error {
			q := other[:len(p)]
			if _, err := b.ReadAt(q, at); err != nil || !bytes.Equal(p, q) {
				t.Errorf("%d bytes at %v differ (%v)", len(p), at, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range faults {
			if !slices.ContainsFunc(b.Report().Missing, func(m core.Missing) bool { return m.Range == f.Range }) {
				t.Errorf("%v: %v", f.Range, f.Err)
			}
		}
	}
}

// timeless returns the image without the processor time of its threads:
// being held by a tracer costs a stopped thread a little of it.
func (c *corefile) timeless() procmem.Image {
	img := *c.Image()
	img.Threads = slices.Clone(img.Threads)
	for i := range img.Threads {
		th := &img.Threads[i]
		th.UserTime, th.SystemTime, th.ChildUserTime, th.ChildSystemTime = 0, 0, 0, 0
	}
	return img
}

// standardNotes returns the notes that are not procmem's own, and not PRSTATUS,
// all of which the image has.
func (c *corefile) standardNotes(t *testing.T) []core.Note {
	t.Helper()
	f, err := os.Open(c.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var notes []core.Note
	for n := range c.Notes() {
		if n.Name != "CORE" && n.Name != "LINUX" || n.Type == procmem.NTPRStatus {
			continue
		}
		desc := make([]byte, n.Size)
		if _, err := f.ReadAt(desc, n.Offset); err != nil {
			t.Fatal(err)
		}
		notes = append(notes, core.Note{Name: n.Name, Type: n.Type, Desc: desc})
	}
	return notes
}

// Whatever the way in which the moment is taken, the core is the same.
func TestMethods(t *testing.T) {
	t.Parallel()
	p := startZoo(t, testproc.Dynamic)
	hold(t, p.PID())
	both := take(t, p.PID())
	want := gdbThreads(t, both.exe, both.theirs.path)
	for _, method := range []string{"stop", "fork", "precopy", "auto"} {
		t.Run(method, func(t *testing.T) {
			const usage = 2
			if out := run(t, procmemPath(), "core", "--method", method, "-o", filepath.Join(t.TempDir(), "c"), strconv.Itoa(p.PID())); out.status == usage {
				t.Skipf("procmem has no such method: %s", out.stderr)
			}
			now := *both
			now.ours = ourCore(t, p.PID(), "--method", method)
			now.compareRegisters(t)
			now.compareMemory(t)
			sameThreads(t, now.tids, gdbThreads(t, now.exe, now.ours.path), want)
			checkPlanted(t, p, now.ours)
		})
	}
}

// A core of a process that goes on is no moment and says so, but debuggers
// open it, and blocked threads are where they are.
func TestLive(t *testing.T) {
	t.Parallel()
	p := startZoo(t, testproc.Dynamic)
	live := ourCore(t, p.PID(), "--method", "live")
	if live.Report().Consistent || live.Report().InconsistentReason == "" {
		t.Errorf("the report says %+v", live.Report())
	}
	hold(t, p.PID())
	still := ourCore(t, p.PID())
	checkMemory(t, p, live)
	spinning := p.TID(t, "zoo-6")
	where := map[int][2]procmem.Addr{}
	for i := range still.Image().Threads {
		th := &still.Image().Threads[i]
		pc, sp, _ := still.Image().Arch.PC(th)
		where[th.TID] = [2]procmem.Addr{pc, sp}
	}
	for i := range live.Image().Threads {
		th := &live.Image().Threads[i]
		pc, sp, ok := live.Image().Arch.PC(th)
		if th.Err == nil {
			t.Errorf("thread %d: nothing says that its registers are not whole", th.TID)
		}
		if got := [2]procmem.Addr{pc, sp}; th.TID != spinning && (!ok || got != where[th.TID]) {
			t.Errorf("thread %d: pc and sp are %v, and %v when it is stopped", th.TID, got, where[th.TID])
		}
	}
	live.checkReadelf(t, len(where))
	shown := gdbThreads(t, p.Path, live.path)
	// The one that runs has no registers, and gdb shows none of its frames
	// but one at address 0.
	sameThreads(t, living(p.PID()), shown, shown)
}
