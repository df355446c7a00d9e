package harm

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var kills = flag.Int("kills", 6, "how often TestHelperKilled kills the helper of procmem, for each method")

// helperCalls are those at which the helper is killed.
var helperCalls = []string{"ptrace", "waitid", "ioctl", "kill", "pidfd_open", "pidfd_getfd", "sendmsg", "recvmsg", "openat",
	"pread64", "sched_setattr", "write", "readlinkat"}

// The helper of procmem is killed, at any of its system calls, or at any moment.
// That may harm the target, and docs/pause.md says when. It never leaves a
// descriptor or a zombie, and nobody hangs.
func TestHelperKilled(t *testing.T) {
	for _, method := range []string{"fork", "precopy"} {
		t.Run(method, func(t *testing.T) {
			skipLacking(t, method)
			random := random(t)
			v := &victim{}
			v.start(t)
			counts := cleanCalls(t, v, method, helperCalls)
			all := counts[where{true, "any"}]
			t.Logf("the helper makes %d calls: %v", all, counts)
			table := map[string]int{}
			for i := range *kills {
				var what, at string
				if i%2 == 0 {
					f := fault{helper: true, call: "any", n: random.IntN(all), kill: true}
					if *oneFault != "" {
						f = parseFault(t, *oneFault)
					}
					told := atFailure(t, "method %s: %v", method, f)
					got, _, _ := supervised(t, &f, v.dir, helperCalls, v.args(method)...)
					what, at = v.afterKill(t, got), fmt.Sprintf("call %d, %s", f.n, f.at)
					told()
				} else {
					got, since := killedOnce(t, v, method, random)
					what, at = v.afterKill(t, got), fmt.Sprintf("%v after its start", since)
				}
				table[what]++
				if what != "" {
					t.Logf("killed at %s: %s", at, what)
				}
			}
			t.Logf("killed %d times:", *kills)
			for _, what := range slices.Sorted(maps.Keys(table)) {
				t.Logf("  %4d  %s", table[what], map[bool]string{true: "nothing", false: what}[what == ""])
			}
		})
	}
}

// afterKill tells what the target is the worse for, in a word.
func (v *victim) afterKill(t *testing.T, got result) string {
	t.Helper()
	if wrong := v.file(t, got); wrong != "" {
		t.Error(wrong)
	}
	full := v.harm(t)
	switch {
	case full == "":
		return ""
	case strings.HasPrefix(full, "it has died"):
		return "the target died"
	case seenByWait(full):
		return "a thread got the child by wait4"
	}
	t.Errorf("%s; after %v", full, got)
	return full
}

// seenByWait reports whether a thread of the target has got a child that is not its
// own from wait4(2), and that is all that is wrong.
func seenByWait(harm string) bool {
	counts, stderr, _ := strings.Cut(harm, ";")
	for _, count := range strings.Fields(counts) {
		if name, _, _ := strings.Cut(count, "="); name != "returned" && name != "foreign" {
			return false
		}
	}
	for line := range strings.Lines(stderr) {
		if strings.HasPrefix(line, "system call ") && !strings.HasPrefix(line, fmt.Sprintf("system call %d returned", syscall.SYS_WAIT4)) {
			return false
		}
	}
	return true
}

// killedOnce kills the helper at a moment, most often soon after its start.
func killedOnce(t *testing.T, v *victim, method string, random *rand.Rand) (got result, since time.Duration) {
	t.Helper()
	r := begin(t, command(v.args(method)...))
	helper := 0
	for helper == 0 && !r.ended() {
		for _, pid := range children(r.pid()) { // the runtime of Go has one, too, for a moment
			if args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.HasPrefix(string(args), "core-helper") {
				helper = pid
			}
		}
	}
	since = time.Duration(random.Int64N(int64(20 * time.Millisecond)))
	if random.IntN(3) == 0 {
		since *= 20
	}
	for end := time.Now().Add(since); time.Now().Before(end); {
	}
	if helper != 0 && !r.ended() {
		_ = syscall.Kill(helper, syscall.SIGKILL)
	}
	return r.wait(t), since
}
