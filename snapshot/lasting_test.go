package snapshot

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/testproc"
)

// What stays of a copy when it has ended is what docs/pause.md lists, and no
// more.
func TestForkLasting(t *testing.T) {
	const ballast = 64 << 20
	p := testproc.Start(t, testproc.Kids, "--ballast", fmt.Sprint(ballast))
	before := p.CmdInts(t, "lasting")
	score := readFile(t, fmt.Sprintf("/proc/%d/oom_score_adj", p.PID()))
	times := childTimes(t, p.PID())
	takeBy(t, p, MethodFork, Options{}).Close()
	after := p.CmdInts(t, "lasting")

	const value, attached, last, signals, rss = 0, 1, 2, 3, 4
	for what, i := range map[string]int{"semaphore": value, "attached": attached, "SIGCHLD": signals} {
		if after[i] != before[i] {
			t.Errorf("%s: %d; before %d", what, after[i], before[i])
		}
	}
	if got := readFile(t, fmt.Sprintf("/proc/%d/oom_score_adj", p.PID())); string(got) != string(score) {
		t.Errorf("oom_score_adj: %s; before %s", got, score)
	}
	f, err := os.Open(filepath.Join(p.Dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil || lock.Type != unix.F_WRLCK || int(lock.Pid) != p.PID() {
		t.Errorf("the lock is %+v, %v; want one of %d", lock, err, p.PID())
	}

	// These are listed: the copy counts as a child.
	if before[rss] != 0 || after[rss] < ballast>>10 {
		t.Errorf("the largest child had %d KiB, before %d: docs/pause.md tells otherwise", after[rss], before[rss])
	}
	if before[last] != 1 || after[last] != 0 {
		t.Errorf("the last to attach the segment: %d, before %d: docs/pause.md tells otherwise", after[last], before[last])
	}
	t.Logf("minor and major faults, user and system time of children: %v; before %v", childTimes(t, p.PID()), times)

	// Of an agent alone, the first of them stays.
	p = testproc.Start(t, testproc.Kids, "--ballast", fmt.Sprint(ballast))
	before = p.CmdInts(t, "lasting")
	takeBy(t, p, MethodPrecopy, Options{}).Close()
	after = p.CmdInts(t, "lasting")
	if after[rss] < ballast>>10 {
		t.Errorf("precopy: the largest child had %d KiB: docs/pause.md tells otherwise", after[rss])
	}
	before[rss] = after[rss]
	if fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("precopy: %v; before %v", after, before)
	}
}

// childTimes returns cminflt, cmajflt, cutime and cstime of /proc/PID/stat.
func childTimes(t testing.TB, pid int) []string {
	text := string(readFile(t, fmt.Sprintf("/proc/%d/stat", pid)))
	f := strings.Fields(text[strings.LastIndexByte(text, ')'):]) // f[1] is field 3
	return []string{f[9], f[11], f[14], f[15]}
}
