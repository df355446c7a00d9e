package fidelity

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
	"github.com/procmem/procmem/process"
)

// checkWhole compares every byte that a held process can read with what a
// reader has of the core and of the files that it names.
func (c *corefile) checkWhole(t *testing.T, pid int) {
	t.Helper()
	p, err := process.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	maps, err := p.Smaps()
	if err != nil {
		t.Fatal(err)
	}
	mem, err := p.OpenMem("mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	all := &comparison{t: t}
	for i := range maps {
		if m := &maps[i]; m.End < 1<<63 && (!m.Special() || m.Path == "[vdso]") {
			all.mappingIsWhole(c, m, mem)
		}
	}
	if all.errors > maxErrors {
		t.Errorf("and %d more", all.errors-maxErrors)
	}
	if all.same == 0 {
		t.Error("nothing was compared")
	}
}

// mappingIsWhole is checkWhole for one mapping.
func (c *comparison) mappingIsWhole(ours *corefile, m *procmem.Mapping, mem io.ReaderAt) {
	c.t.Helper()
	truth, got := make([]byte, procmem.PageSize), make([]byte, procmem.PageSize)
	for a := m.Start; a < m.End; a += procmem.PageSize {
		if n, err := mem.ReadAt(truth, int64(a)); n < len(truth) || err != nil {
			continue // a guard, beyond the end of the file, nobody's
		}
		_, err := ours.ReadAt(got, a)
		switch {
		case err == nil && bytes.Equal(got, truth):
			c.same += procmem.PageSize
		case err == nil:
			c.errorf("%v is something else in the core; %s", a, m)
		case !errors.Is(err, procmem.ErrNotDumped):
			c.errorf("%v: %v; %s", a, err, m)
		default:
			if why := notInCore(m, a, truth); why != "" {
				c.errorf("%v is not in the core: %s; %s [%v]", a, why, m, m.Flags)
			}
		}
	}
}

// notInCore tells what is wrong with leaving a page out of a core, or "". These
// are all the reasons that docs/consumers.md has.
func notInCore(m *procmem.Mapping, a procmem.Addr, truth []byte) string {
	switch {
	case m.Flags&(procmem.VMDontDump|procmem.VMIO|procmem.VMPFNMap) != 0:
		return "" // the program has asked for it, or it is a device
	case m.Shared() && m.Flags&procmem.VMHugeTLB != 0:
		return "" // coredump_filter
	case !m.HasFile() && zero(truth):
		return "" // never touched
	case !m.HasFile():
		return "it is not zero"
	}
	f, err := os.Open(m.Path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	b := make([]byte, len(truth))
	if _, err := f.ReadAt(b, int64(m.Offset+uint64(a-m.Start))); err != nil && err != io.EOF {
		return err.Error()
	}
	if !bytes.Equal(b, truth) {
		return "the file of that name holds something else"
	}
	return ""
}

// everyWay takes a core by each method into a file, and a compressed one and a
// stream.
func everyWay(t *testing.T, pid int, f func(t *testing.T, c *corefile)) {
	for _, method := range append(methods, "live", "precopy"+packed, "fork"+packed) {
		t.Run(method, func(t *testing.T) {
			stoppedAgain(t, pid)
			args := append([]string{"--method"}, strings.Fields(method)...)
			f(t, ourCore(t, pid, args...))
		})
	}
	t.Run("stream", func(t *testing.T) {
		stoppedAgain(t, pid)
		f(t, streamed(t, pid))
	})
}

// Whatever a process can read is in its core, or in a file under the name that
// the core has for it.
func TestNothingIsLeftOut(t *testing.T) {
	testproc.HugePages(t, 2)
	p := testproc.StartCmd(t, zooCommand(t, testproc.Build(t, testproc.Zoo), "--hugeshared"))
	p.WaitBlocked(t, 8)
	hold(t, p.PID())
	everyWay(t, p.PID(), func(t *testing.T, c *corefile) { c.checkWhole(t, p.PID()) })
}

// zooCommand is a zoo on one processor, as of startZoo.
func zooCommand(t *testing.T, path string, args ...string) *exec.Cmd {
	t.Helper()
	args = append(append([]string{"-c", strconv.Itoa(processor(t)), path}, zooSizes...), args...)
	return exec.Command(need(t, "taskset"), args...)
}

// cLibrary is the name of the C library that dynamic helpers use.
const cLibrary = "libc.so.6"

func libraryPath(t *testing.T) string {
	t.Helper()
	out := run(t, "ldd", testproc.Build(t, testproc.Zoo)).ok(t)
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) >= 3 && f[0] == cLibrary {
			return f[2]
		}
	}
	t.Fatalf("no %s in %q", cLibrary, out)
	return ""
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o755); err != nil {
		t.Fatal(err)
	}
}

// overwrite puts another file into the place of one, as an upgrade does.
func overwrite(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte("another version"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// A program and its library were replaced while it ran, or never had a name:
// what gdb shows is what it shows of gcore's core, and nothing is left out.
func TestFilesThatAreGone(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) *testproc.Proc{"replaced": startReplaced, "memfd": startMemfd} {
		t.Run(name, func(t *testing.T) {
			p := start(t)
			p.WaitBlocked(t, 8)
			hold(t, p.PID())
			everyWay(t, p.PID(), func(t *testing.T, c *corefile) { c.checkWhole(t, p.PID()) })
			stoppedAgain(t, p.PID())
			both := take(t, p.PID())
			ours, theirs := gdbThreads(t, testproc.Build(t, testproc.Zoo), both.ours.path), gdbThreads(t, testproc.Build(t, testproc.Zoo), both.theirs.path)
			sameThreads(t, both.tids, ours, theirs)
			if frames := strings.Count(ours[p.TID(t, "zoo-8")], "zoo_level_"); frames != 10 {
				t.Errorf("gdb shows %d of 10 frames:\n%s", frames, ours[p.TID(t, "zoo-8")])
			}
		})
	}
}

func startReplaced(t *testing.T) *testproc.Proc {
	dir := t.TempDir()
	program, library := filepath.Join(dir, "zoo"), filepath.Join(dir, cLibrary)
	copyFile(t, testproc.Build(t, testproc.Zoo), program)
	copyFile(t, libraryPath(t), library)
	cmd := zooCommand(t, program)
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+dir)
	p := testproc.StartCmd(t, cmd)
	overwrite(t, program)
	overwrite(t, library)
	return p
}

// startMemfd runs a program that is a memfd, with a library that is another one.
// Its number is one that no gdb has: to gdb, too, it is a file by that name.
func startMemfd(t *testing.T) *testproc.Proc {
	const libraryFD = 100
	cmd := zooCommand(t, "/proc/self/fd/3")
	cmd.ExtraFiles = make([]*os.File, libraryFD-3+1)
	cmd.ExtraFiles[0], cmd.ExtraFiles[libraryFD-3] = inMemfd(t, testproc.Build(t, testproc.Zoo)), inMemfd(t, libraryPath(t))
	cmd.Env = append(os.Environ(), fmt.Sprintf("LD_PRELOAD=/proc/self/fd/%d", libraryFD))
	return testproc.StartCmd(t, cmd)
}

func inMemfd(t *testing.T, path string) *os.File {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.MemfdCreate(filepath.Base(path), 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	return f
}

// In another mount namespace the names lead to other files, or to none. What
// has the same build id under that name here need not be in the core.
func TestFilesOfAnotherNamespace(t *testing.T) {
	dir := t.TempDir()
	zoo := testproc.Build(t, testproc.Zoo)
	copyFile(t, zoo, filepath.Join(dir, "zoo"))
	inner := zooCommand(t, "$1/zoo")
	script := fmt.Sprintf(`mount -t tmpfs tmpfs "$1" && cp %s "$1/zoo" && cp %s "$1" && LD_LIBRARY_PATH="$1" exec %s`,
		zoo, libraryPath(t), strings.Join(inner.Args, " "))
	p := testproc.StartCmd(t, exec.Command(need(t, "unshare"), "--mount", "--propagation", "private", "sh", "-c", script, "sh", dir))
	p.WaitBlocked(t, 8)
	hold(t, p.PID())
	everyWay(t, p.PID(), func(t *testing.T, c *corefile) {
		c.checkWhole(t, p.PID())
		for _, m := range c.Image().Mappings {
			if m.Perm&procmem.PermExec == 0 || !strings.HasPrefix(m.Path, dir) {
				continue
			}
			_, err := c.ReadAt(make([]byte, 1), m.Start)
			if hasName := filepath.Base(m.Path) == "zoo"; hasName != errors.Is(err, procmem.ErrNotDumped) {
				t.Errorf("%s: %v", &m, err)
			}
		}
	})
}
