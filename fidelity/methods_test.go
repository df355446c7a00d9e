package fidelity

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/elfcore"
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

// methods are those that give one moment.
var methods = []string{"stop", "fork", "precopy", "auto"}

// packed marks a method whose core is compressed, and is looked at as the
// command zstd unpacks it: most of its memory is not in the order of addresses.
const packed = " --compress=zstd"

// refusal matches what is said of a method that runs a system call in the
// target, for a program of 32 bits.
var refusal = regexp.MustCompile(`system call in .*386`)

// possible reports whether a method can be taken of a program. Where it
// cannot, procmem must say why, and leave no file.
func possible(t *testing.T, tc testproc.Toolchain, pid int, method string) bool {
	t.Helper()
	if tc != testproc.M32 || method == "stop" || method == "auto" {
		return true
	}
	dir := t.TempDir()
	for _, to := range []string{filepath.Join(dir, "core"), "-"} {
		out := run(t, procmemPath(), "core", "--method", method, "-o", to, strconv.Itoa(pid))
		if out.status != 1 || out.stdout != "" || !refusal.MatchString(out.stderr) {
			t.Errorf("status %d, %d bytes, %q", out.status, len(out.stdout), out.stderr)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	return false
}

// A stream holds what a file holds, by every method.
func TestStream(t *testing.T) {
	t.Parallel()
	for _, tc := range []testproc.Toolchain{testproc.Dynamic, testproc.M32} {
		t.Run(string(tc), func(t *testing.T) {
			p := startZoo(t, tc)
			hold(t, p.PID())
			file := ourCore(t, p.PID(), "--method", "stop")
			for _, method := range methods {
				t.Run(method, func(t *testing.T) {
					if !possible(t, tc, p.PID(), method) {
						return
					}
					stoppedAgain(t, p.PID())
					stream := streamed(t, p.PID(), "--method", method)
					stream.wantMethod(t, method)
					sameCore(t, stream, file)
				})
			}
		})
	}
}

// wantMethod requires that the core was taken by a method, as one moment. Auto
// stops what is stopped already.
func (c *corefile) wantMethod(t *testing.T, method string) {
	t.Helper()
	if method == "auto" {
		method = "stop"
	}
	if r := c.Report(); r == nil || r.Method != method || !r.Consistent || r.PauseMS <= 0 {
		t.Errorf("the report says %+v; want method %s", r, method)
	}
}

// wantTornByOthers requires that the core was taken by a method, and that what other
// processes wrote to meanwhile is all that may be of another moment.
func (c *corefile) wantTornByOthers(t *testing.T, method string) {
	t.Helper()
	r := c.Report()
	if r == nil || r.Method != method || r.Consistent || len(r.Torn) == 0 || r.PauseMS <= 0 {
		t.Fatalf("the report says %+v; want method %s, and torn memory", r, method)
	}
	maps, err := c.Mappings()
	if err != nil {
		t.Fatal(err)
	}
	for i := range maps {
		for _, torn := range r.Torn {
			if !maps[i].Shared() && maps[i].Start < torn.End && torn.Start < maps[i].End {
				t.Errorf("%s: %v, which is private, is torn", method, maps[i].Range)
			}
		}
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
	segs := joined(b.Segments())
	if other := joined(a.Segments()); !slices.Equal(other, segs) {
		t.Fatalf("segments\n%v\nand\n%v", other, segs)
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

// joined makes one of segments side by side: what lies in pieces in the file is
// the same memory.
func joined(segs []core.Segment) (out []core.Segment) {
	for _, s := range segs {
		if k := len(out) - 1; k >= 0 && out[k].End == s.Start && out[k].Perm == s.Perm && out[k].Dumped && s.Dumped {
			out[k].End = s.End
			continue
		}
		out = append(out, s)
	}
	return out
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
func (c *corefile) standardNotes(t *testing.T) []elfcore.Note {
	t.Helper()
	f, err := os.Open(c.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var notes []elfcore.Note
	for n := range c.Notes() {
		if n.Name != "CORE" && n.Name != "LINUX" || n.Type == procmem.NTPRStatus {
			continue
		}
		desc := make([]byte, n.Size)
		if _, err := f.ReadAt(desc, n.Offset); err != nil {
			t.Fatal(err)
		}
		notes = append(notes, elfcore.Note{Name: n.Name, Type: n.Type, Desc: desc})
	}
	return notes
}

// Whatever the way in which the moment is taken, the core is the same, and so
// is what debuggers make of it.
func TestMethods(t *testing.T) {
	for _, tc := range []testproc.Toolchain{testproc.Dynamic, testproc.StaticPIE, testproc.Musl, testproc.M32} {
		t.Run(string(tc), func(t *testing.T) {
			t.Parallel()
			p := startZoo(t, tc)
			hold(t, p.PID())
			var can []string
			for _, method := range methods {
				if possible(t, tc, p.PID(), method) {
					can = append(can, method)
				}
			}
			if slices.Contains(can, "precopy") {
				can = append(can, "precopy"+packed)
			}
			cores := coresBy(t, p.PID(), can...)
			both := take(t, p.PID())
			for method, c := range cores {
				t.Run(method, func(t *testing.T) {
					both.compareMethod(t, method, c)
					checkPlanted(t, p, c)
				})
			}
		})
	}
}

// coresBy takes cores of a process that is held, by several methods. They must
// come before gdb's: it leaves signals pending in a process that is stopped,
// and changes what its thread library knows of debuggers.
func coresBy(t *testing.T, pid int, methods ...string) map[string]*corefile {
	t.Helper()
	cores := map[string]*corefile{}
	for _, method := range methods {
		cores[method] = ourCore(t, pid, strings.Fields("--method "+method)...)
		stoppedAgain(t, pid)
	}
	return cores
}

// compareMethod compares a core of coresBy with those of the pair, of which
// ours was taken by method stop.
func (p *pair) compareMethod(t *testing.T, method string, c *corefile) {
	t.Helper()
	c.wantMethod(t, strings.TrimSuffix(method, packed))
	now := *p
	now.ours = c
	now.compareRegisters(t)
	now.compareMemory(t)
	shown := gdbThreads(t, now.exe, c.path)
	sameThreads(t, p.tids, shown, gdbThreads(t, p.exe, p.theirs.path))
	sameThreads(t, p.tids, shown, gdbThreads(t, p.exe, p.ours.path))
	p.ours.wantMethod(t, "stop")
	sameCore(t, c, p.ours)
	c.checkReadelf(t, len(p.tids))
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
