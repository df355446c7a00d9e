package harm

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/testproc"
)

// forEachMethod runs a test for methods by which a moment is taken. One that
// procmem does not have is skipped.
func forEachMethod(t *testing.T, methods []string, test func(t *testing.T, method string)) {
	for _, m := range methods {
		t.Run(m, func(t *testing.T) {
			skipLacking(t, m)
			test(t, m)
		})
	}
}

var (
	allMethods = []string{"stop", "fork", "precopy", "auto"}
	// injecting are those that may run system calls in the target.
	injecting = []string{"fork", "precopy", "auto"}
)

// report is what `core --json` says.
type report struct {
	Method     string  `json:"method"`
	Consistent bool    `json:"consistent"`
	Reason     string  `json:"inconsistent_reason"`
	Pause      float64 `json:"pause_ms"`
	Rounds     int     `json:"rounds"`
	Why        string  `json:"why"`
	Missing    []piece `json:"missing"`
	Torn       []piece `json:"torn"`
}

type piece struct {
	Start  procmem.Addr `json:"start"`
	End    procmem.Addr `json:"end"`
	Bytes  uint64       `json:"bytes"`
	Error  string       `json:"error"`
	Reason string       `json:"reason"`
}

// taken is a core and what was said about it.
type taken struct {
	result
	*core.File
	report report
	path   string
}

// take takes a core, which must succeed; data may be missing.
func take(t testing.TB, pid int, method string, args ...any) taken {
	t.Helper()
	return takenBy(t, pid, t.TempDir(), func(args ...any) result { return call(t, args...) }, append([]any{"--method", method}, args...)...)
}

func takenBy(t testing.TB, pid int, dir string, run func(args ...any) result, args ...any) taken {
	t.Helper()
	prefix := filepath.Join(dir, "core")
	r := run(append([]any{"core", "--json", "--force", "-o", prefix, pid}, args...)...)
	if r.status != 0 && r.status != 3 {
		t.Fatalf("%v: %v", args, r)
	}
	c := taken{result: r, path: fmt.Sprintf("%s.%d", prefix, pid)}
	if slices.Contains(args, any("--compress")) {
		c.path += ".zst"
	}
	c.parse(t)
	c.File = openCore(t, c.path)
	return c
}

func (c *taken) parse(t testing.TB) {
	t.Helper()
	if err := json.Unmarshal([]byte(c.stdout), &c.report); err != nil {
		t.Fatalf("%v: %v", err, c.result)
	}
}

// read is for the checkers of testproc.
func (c taken) read(addr procmem.Addr, p []byte) error {
	_, err := c.ReadAt(p, addr)
	return err
}

// done removes a core of which there will be many.
func (c taken) done(t testing.TB) {
	t.Helper()
	if err := join(c.Close(), os.Remove(c.path)); err != nil {
		t.Error(err)
	}
}

// checkMap compares a mapping in a core with what the helper planted there.
func (c taken) checkMap(t testing.TB, p *testproc.Proc, m testproc.Map) {
	t.Helper()
	page := make([]byte, procmem.PageSize)
	for i := range m.Pages() {
		if err := c.read(m.Page(i), page); err != nil || string(page) != string(p.Want(t, m, i)) {
			t.Fatalf("%s page %d of %d in a core by %s: %v, begins with %x", m.Name, i, m.Pages(), c.report.Method, err, page[:8])
		}
	}
}

// traces are what an attempt to take a core may leave in a target.
type traces struct {
	children string
	fds      string
	threads  []int
	watched  int // mappings that belong to a userfaultfd
}

func look(t testing.TB, pid int) traces {
	t.Helper()
	var w traces
	for _, tid := range tids(pid) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, tid))
		if err != nil {
			t.Fatal(err)
		}
		w.children += string(b)
	}
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, e.Name()))
		if err != nil {
			link = err.Error()
		}
		w.fds += e.Name() + " " + link + "\n"
	}
	w.threads = tids(pid)
	slices.Sort(w.threads)
	smaps, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(smaps)) {
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && (strings.Contains(flags, " uw") || strings.Contains(flags, " um")) {
			w.watched++
		}
	}
	return w
}

func (w traces) equal(v traces) bool {
	return w.children == v.children && w.fds == v.fds && slices.Equal(w.threads, v.threads) && w.watched == v.watched
}

// undone waits until procmem, which has ended or was killed, has left no trace
// in a target whose threads, children and files stay the same: what was begun
// in it is finished by a process that outlives procmem.
func undone(t testing.TB, pid int, before traces) {
	t.Helper()
	testproc.Until(t, "the helper of procmem to end", func() bool { return len(helpers()) == 0 })
	testproc.Until(t, "nobody to trace the target", func() bool { return untraced(pid) })
	if after := look(t, pid); !after.equal(before) {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // with how it ended, if it did
		t.Fatalf("children, files, threads, watched mappings of the target:\n%+v\nbefore:\n%+v\n%s", after, before, stat)
	}
}

// helpers returns the processes of the command under test. Call it when those
// that the test has begun have ended.
func helpers() []string {
	var found []string
	all, _ := os.ReadDir("/proc")
	for _, e := range all {
		if exe, err := os.Readlink("/proc/" + e.Name() + "/exe"); err == nil && slices.Contains(programs, strings.TrimSuffix(exe, " (deleted)")) {
			found = append(found, e.Name())
		}
	}
	return found
}
