package fidelity

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/procmem/procmem/internal/testproc"
)

// goroutines returns what delve lists, a line for each, the address of the
// core's file being the only thing that may differ.
func goroutines(t testing.TB, exe, path string) []string {
	t.Helper()
	dlv, err := delve()
	if err != nil {
		missing(t, "delve: %v", err)
	}
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("goroutines -t\nexit\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := run(t, dlv, "core", exe, path, "--init", script, "--allow-non-terminal-interactive=true").ok(t)
	return strings.Split(strings.TrimSpace(out), "\n")
}

var goroutineLine = regexp.MustCompile(`^[* ]+Goroutine (\d+) - `)

func TestGo(t *testing.T) {
	t.Parallel()
	p := testproc.Start(t, testproc.GoProg)
	testproc.Until(t, "the goroutines to block", func() bool { return p.Cmd(t, "ping") == "" })
	hold(t, p.PID())
	both := take(t, p.PID())
	both.compare(t)
	t.Run("delve", func(t *testing.T) {
		got, want := goroutines(t, both.exe, both.ours.path), goroutines(t, both.exe, both.theirs.path)
		if !slices.Equal(got, want) {
			t.Errorf("goroutines of ours:\n%s\nof gcore's:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		n := 0
		for _, line := range got {
			if goroutineLine.MatchString(line) {
				n++
			}
		}
		all := strings.Join(got, "\n")
		// The runtime has some of its own beside those of the program.
		if least := int(p.Int(t, "goroutines")); n < least {
			t.Errorf("%d goroutines, want %d or more:\n%s", n, least, all)
		}
		// Main.running may be hidden by the handler of a signal, with which the
		// runtime preempts it.
		for _, f := range []string{"main.blockedOnChannel", "main.blockedInSelect", "main.blockedInSyscall", "main.blockedOnMutex", "main.asleep"} {
			if !strings.Contains(all, f) {
				t.Errorf("no goroutine in %s:\n%s", f, all)
			}
		}
	})
}

// script starts a program in a language that is interpreted.
func script(t *testing.T, interpreter, name, text string) *testproc.Proc {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return startReady(t, exec.Command(interpreter, path))
}

// checkFrames requires that gdb shows at least so many frames of some thread.
func checkFrames(t *testing.T, c *pair, function string, least int) {
	t.Helper()
	most := 0
	for _, frames := range gdbThreads(t, c.exe, c.ours.path) {
		most = max(most, strings.Count(frames, function))
	}
	if most < least {
		t.Errorf("%d frames of %s at most, want %d", most, function, least)
	}
}

// Threads of which one is deep in recursion: map calls the interpreter again
// from C, so that frames of Python are frames of C as well.
const pythonScript = `
import os, threading, time
depth = 60
deep = threading.Event()
def fall(n):
    if n == 0:
        deep.set()
        time.sleep(3600)
    return list(map(fall, [n - 1]))
lock = threading.Lock()
lock.acquire()
for f, a in ((fall, (depth,)), (lock.acquire, ()), (time.sleep, (3600,))):
    threading.Thread(target=f, args=a, daemon=True).start()
deep.wait()
print("ready", flush=True)
os.read(0, 1)
`

func TestPython(t *testing.T) {
	t.Parallel()
	// A shim of pyenv would be the shell for a while.
	p := script(t, need(t, "/usr/bin/python3", "python3"), "deep.py", pythonScript)
	p.WaitBlocked(t, 4)
	hold(t, p.PID())
	both := take(t, p.PID())
	both.compare(t)
	if n := len(both.tids); n != 4 {
		t.Errorf("%d threads, want 4", n)
	}
	t.Run("depth", func(t *testing.T) { checkFrames(t, both, "#", 100) })
}

// lldb 14 takes half a minute for a stack with frames of V8's builtins in it,
// so the process should be idle when it is stopped, as it mostly is: "ready"
// comes when all that starting it entails is over.
const nodeScript = `
const { Worker } = require('worker_threads');
const worker = new Worker(
  "let s = 0; setInterval(() => { s += Math.sqrt(s + 1) }, 50)", { eval: true });
setInterval(() => { JSON.stringify({ a: Math.random() }) }, 50);
worker.on('online', () => setTimeout(() => console.log("ready"), 200));
process.stdin.on('end', () => process.exit()).resume();
`

func TestNode(t *testing.T) {
	t.Parallel()
	p := script(t, need(t, "node", "nodejs"), "timers.js", nodeScript)
	p.WaitBlocked(t, len(p.TIDs()))
	hold(t, p.PID())
	both := take(t, p.PID())
	both.compare(t)
	t.Run("frames", func(t *testing.T) { checkFrames(t, both, "uv_run", 1) })
}

// A process whose main thread has exited: gcore refuses it, so debuggers have
// the last word.
func TestLeaderExited(t *testing.T) {
	t.Parallel()
	p := testproc.Start(t, testproc.Kids)
	p.Cmd(t, "threads 3")
	heir := p.Cmd(t, "leaderexit")
	p.WaitState(t, 'Z')
	hold(t, p.PID())
	want := living(p.PID())
	if !slices.Contains(tidStrings(want), heir) || len(want) != 4 {
		t.Fatalf("threads %v, want 4 and %s", want, heir)
	}
	c := ourCore(t, p.PID())
	c.checkReadelf(t, len(want))
	shown := gdbThreads(t, p.Path, c.path)
	if strings.Contains(shown[p.PID()], "<unavailable>") {
		// The thread library, which gdb asks, finds the leader's descriptor
		// in memory. It has no registers any more.
		delete(shown, p.PID())
	}
	sameThreads(t, want, shown, shown)
	stacks := euStack(t, c.path)
	sameThreads(t, want, stacks, stacks)
	if got := lldbThreads(t, p.Path, c.path); !slices.Equal(got, want) {
		t.Errorf("lldb shows frames of the threads %v, want %v", got, want)
	}
	for _, frames := range shown {
		if !strings.Contains(frames, "thread_main") {
			t.Errorf("no thread_main in\n%s", frames)
		}
	}
}

func tidStrings(tids []int) []string {
	var s []string
	for _, tid := range tids {
		s = append(s, strconv.Itoa(tid))
	}
	return s
}
