package fidelity

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
	"github.com/procmem/procmem/stacks"
	"github.com/procmem/procmem/symbols"
)

// frames are the addresses of the frames of each thread, the innermost first.
type frames map[int][]procmem.Addr

// ourFrames walks the stacks of a core.
func ourFrames(t testing.TB, c *corefile) (frames, map[int]stacks.Stack) {
	t.Helper()
	w, err := stacks.New(c, c.Image(), stacks.Options{Open: filesOf(c)})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	found, all := frames{}, map[int]stacks.Stack{}
	for s := range w.All(context.Background()) {
		all[s.TID] = s
		for _, f := range s.Frames {
			found[s.TID] = append(found[s.TID], f.PC)
		}
	}
	return found, all
}

// filesOf returns the files of a core, and of the process, which is still there, where they have
// no build id: musl-gcc makes such programs.
func filesOf(c *corefile) symbols.Opener {
	ofCore, ofProcess := symbols.OfCore(c), symbols.OfProcess(c.Image().Process.PID, c)
	return func(m *procmem.Mapping) (symbols.File, error) {
		if f, err := ofCore(m); err == nil {
			return f, nil
		}
		return ofProcess(m)
	}
}

// gdbScript prints a line for each thread, and one for each of its frames that is not inlined.
const gdbScript = `
import gdb
for thread in gdb.selected_inferior().threads():
    thread.switch()
    print("TID %d" % (thread.ptid[1] or thread.ptid[0]))
    frame = gdb.newest_frame()
    while frame is not None and frame.is_valid():
        if frame.type() != gdb.INLINE_FRAME:
            print("FRAME %d" % frame.pc())
        try:
            frame = frame.older()
        except gdb.error:
            break
`

// gdbFrames asks gdb for the frames.
func gdbFrames(t testing.TB, exe, path string) frames {
	t.Helper()
	script := filepath.Join(t.TempDir(), "frames.py")
	if err := os.WriteFile(script, []byte(gdbScript), 0o600); err != nil {
		t.Fatal(err)
	}
	out := gdb(t, exe, path, "set backtrace past-main on", "set backtrace past-entry on", "set backtrace limit unlimited", "source "+script)
	found, tid := frames{}, 0
	for line := range strings.Lines(out) {
		word, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseUint(value, 10, 64)
		switch {
		case err != nil:
		case word == "TID":
			tid = int(n)
		case word == "FRAME":
			found[tid] = append(found[tid], procmem.Addr(n))
		}
	}
	return found
}

var euFrame = regexp.MustCompile(`^#\d+ +(0x[0-9a-f]+)`)

// euFrames asks elfutils.
func euFrames(t testing.TB, path string) frames {
	t.Helper()
	found, tid := frames{}, 0
	for line := range strings.Lines(run(t, "eu-stack", "-n", "0", "--core", path).stdout) {
		if m := euHead.FindStringSubmatch(line); m != nil {
			tid, _ = strconv.Atoi(m[1])
		}
		if m := euFrame.FindStringSubmatch(line); m != nil {
			a, err := procmem.ParseAddr(m[1])
			if err != nil {
				t.Fatal(err)
			}
			found[tid] = append(found[tid], a)
		}
	}
	return found
}

// likeness counts the frames that are the same, and all that either has. Debuggers show what
// they take for return addresses where the stack of a thread of Go, or of a program without
// call frame information, has ended. What is not in code is none.
func likeness(c *corefile, ours, theirs []procmem.Addr) (same, all int) {
	if i := slices.IndexFunc(theirs, func(a procmem.Addr) bool { return !isCode(c, a) }); i > 0 {
		theirs = theirs[:i]
	}
	for i := range min(len(ours), len(theirs)) {
		if ours[i] == theirs[i] {
			same++
		}
	}
	return same, max(len(ours), len(theirs))
}

func isCode(c *corefile, a procmem.Addr) bool {
	ms := c.Image().Mappings
	i := procmem.FindMapping(ms, a)
	return i < len(ms) && ms[i].Contains(a) && ms[i].Perm&procmem.PermExec != 0
}

// judge compares the frames of a core with those of gdb or of elfutils: of each thread with
// those that are more like ours, since either fails now and then.
func judge(t *testing.T, c *corefile, exe string) map[int]stacks.Stack {
	t.Helper()
	ours, kept := ourFrames(t, c)
	byGDB, byEU := gdbFrames(t, exe, c.path), euFrames(t, c.path)
	same, all := 0, 0
	for tid, frames := range ours {
		s, n := likeness(c, frames, byGDB[tid])
		if s2, n2 := likeness(c, frames, byEU[tid]); s2*n > s*n2 {
			s, n = s2, n2
		}
		if s < n {
			t.Logf("thread %d: %d of %d frames\nours: %v (%v)\ngdb:  %v\neu:   %v", tid, s, n, brief(frames), kept[tid].Stop, brief(byGDB[tid]), brief(byEU[tid]))
		}
		same, all = same+s, all+n
	}
	t.Logf("%d of %d frames are the same, of %d threads", same, all, len(ours))
	if all == 0 || float64(same) < 0.995*float64(all) {
		t.Errorf("%d of %d frames are the same; want 99.5 %%", same, all)
	}
	return kept
}

// judgeMusl compares the frames of a program of musl, whose library has no call frame
// information. Debuggers leave out frames, and end early: eu-stack follows the frame pointer,
// which is that of a function further out, and gdb takes numbers on the stack for return
// addresses. So each frame of eu-stack must be one of ours, in the same order, as far as frames
// are in the program.
func judgeMusl(t *testing.T, c *corefile, p *testproc.Proc) {
	t.Helper()
	ours, _ := ourFrames(t, c)
	theirs := euFrames(t, c.path)
	for _, th := range p.Threads {
		all := inProgram(c, ours[th.TID])
		left := all
		for _, a := range inProgram(c, theirs[th.TID]) {
			i := slices.Index(left, a)
			if i < 0 {
				t.Errorf("%s: ours are %v, of eu-stack %v", th.Name, brief(ours[th.TID]), brief(theirs[th.TID]))
				break
			}
			left = left[i+1:]
		}
		// At least the function that blocks, that of the thread, and what starts threads.
		if len(all) < 3 {
			t.Errorf("%s: only %v", th.Name, all)
		}
	}
}

// inProgram returns the frames in the text of the program.
func inProgram(c *corefile, frames []procmem.Addr) (in []procmem.Addr) {
	ms := c.Image().Mappings
	for _, a := range frames {
		if i := procmem.FindMapping(ms, a); i < len(ms) && ms[i].Contains(a) && ms[i].Path == c.Image().Exe {
			in = append(in, a)
		}
	}
	return in
}

// brief shows a stack.
func brief(frames []procmem.Addr) string {
	if n := len(frames); n > 60 {
		return fmt.Sprintf("%v .. %v (%d)", frames[:30], frames[n-30:], n)
	}
	return fmt.Sprint(frames)
}

func TestStacksOfZoo(t *testing.T) {
	for _, tc := range testproc.Toolchains() {
		t.Run(string(tc), func(t *testing.T) {
			t.Parallel()
			p := startZoo(t, tc)
			hold(t, p.PID())
			if tc == testproc.Musl {
				judgeMusl(t, ourCore(t, p.PID()), p)
				return
			}
			judge(t, ourCore(t, p.PID()), p.Path)
		})
	}
}

func TestStacksThatAreHard(t *testing.T) {
	for _, tc := range testproc.Toolchains() {
		t.Run(string(tc), func(t *testing.T) {
			t.Parallel()
			p := testproc.Start(t, testproc.Frames.With(tc))
			hold(t, p.PID())
			if tc == testproc.Musl {
				judgeMusl(t, ourCore(t, p.PID()), p)
				return
			}
			all := judge(t, ourCore(t, p.PID()), p.Path)
			for _, th := range p.Threads {
				if s := all[th.TID]; s.Stop != nil {
					t.Errorf("%s: %v", th.Name, s.Stop)
				}
			}
		})
	}
}

func TestStacksOfGo(t *testing.T) {
	t.Parallel()
	p := testproc.Start(t, testproc.GoProg)
	hold(t, p.PID())
	judge(t, ourCore(t, p.PID()), p.Path)
}

func TestStacksOfPython(t *testing.T) {
	t.Parallel()
	p := script(t, need(t, "/usr/bin/python3", "python3"), "deep.py", pythonScript)
	p.WaitBlocked(t, 4)
	hold(t, p.PID())
	judge(t, ourCore(t, p.PID()), exeOf(t, p.PID()))
}

func TestStacksOfNode(t *testing.T) {
	t.Parallel()
	p := script(t, need(t, "node", "nodejs"), "timers.js", nodeScript)
	p.WaitBlocked(t, len(p.TIDs()))
	hold(t, p.PID())
	judge(t, ourCore(t, p.PID()), exeOf(t, p.PID()))
}

// A thread is in the destructor of an object of a function through which an exception goes.
const cxxProgram = `
#include <cstdio>
#include <stdexcept>
#include <string>
#include <thread>
#include <unistd.h>
static int fds[2];
struct Blocks { ~Blocks() { char c; (void)!read(fds[0], &c, 1); } };
__attribute__((noinline)) void thrower(int n) {
	if (n == 0) throw std::runtime_error(std::string(100, 'x'));
	thrower(n - 1);
	asm volatile("");
}
__attribute__((noinline)) void holder(int n) { Blocks b; thrower(n); asm volatile(""); }
__attribute__((noinline)) int middle(int n) {
	volatile char room[300];
	room[n] = 1;
	try { holder(n); } catch (const std::logic_error &) { return 1; }
	return room[n];
}
int main() {
	if (pipe(fds)) return 1;
	std::thread a([] { try { middle(5); } catch (const std::exception &) {} });
	std::thread b([] { try { thrower(3); } catch (const std::exception &e) { Blocks b; asm volatile(""); } });
	std::puts("ready");
	std::fflush(stdout);
	char c;
	return (int)read(0, &c, 1);
}
`

func TestStacksOfExceptions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	source, exe := filepath.Join(dir, "throws.cc"), filepath.Join(dir, "throws")
	if err := os.WriteFile(source, []byte(cxxProgram), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, need(t, "g++"), "-O2", "-s", "-pthread", "-o", exe, source).ok(t)
	p := startReady(t, exec.Command(exe))
	p.WaitBlocked(t, 3)
	hold(t, p.PID())
	all := judge(t, ourCore(t, p.PID()), exe)
	if len(all) != 3 || slices.ContainsFunc(slices.Collect(maps.Values(all)), func(s stacks.Stack) bool { return s.Stop != nil }) {
		t.Errorf("stacks end early: %v", all)
	}
}

func exeOf(t testing.TB, pid int) string {
	t.Helper()
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

func TestStacksOfRedis(t *testing.T) {
	t.Parallel()
	redis, cli := need(t, "redis-server"), need(t, "redis-cli")
	socket := filepath.Join(t.TempDir(), "s")
	p := server(t, func() bool { return strings.TrimSpace(run(t, cli, "-s", socket, "ping").stdout) == "PONG" }, nil,
		redis, "--port", "0", "--unixsocket", socket, "--dir", filepath.Dir(socket), "--save", "", "--io-threads", "2")
	stop(t, p, syscall.SIGTERM)
	release := hold(t, p.PID())
	judge(t, ourCore(t, p.PID()), exeOf(t, p.PID()))
	release()
}

// A stack of a hundred thousand frames is walked to its end.
func TestStacksThatAreDeep(t *testing.T) {
	t.Parallel()
	const depth = 100_000
	p := testproc.Start(t, testproc.Frames, "--depth", strconv.Itoa(depth))
	hold(t, p.PID())
	c := ourCore(t, p.PID())
	_, all := ourFrames(t, c)
	s := all[p.TID(t, "fr-deep")]
	if len(s.Frames) < depth || s.Stop != nil {
		t.Fatalf("%d frames, %v", len(s.Frames), s.Stop)
	}
	// Debuggers take minutes for it. Of a thousand frames, they say the same (TestStacksThatAreHard).
	for i, f := range s.Frames[3:depth] {
		if f.PC != s.Frames[3].PC {
			t.Fatalf("frame %d is at %v, and others are at %v", 3+i, f.PC, s.Frames[3].PC)
		}
	}
}
