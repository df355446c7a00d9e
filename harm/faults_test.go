package harm

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var (
	points   = flag.Int("points", 32, "how many faults TestFaults injects, into all methods together")
	oneFault = flag.String("fault", "", `the one that TestFaults injects: "helper|main CALL N ERRNO|kill TIMES"`)
)

// faultErrors are those that the calls fail with. EAGAIN at a socket would be a
// lie that nobody could live with: there would be no event to wait for.
var faultErrors = map[string][]unix.Errno{
	"ptrace": {unix.EPERM, unix.EIO, unix.ESRCH}, "waitid": {unix.ECHILD, unix.EINTR, unix.EINVAL}, "wait4": {unix.EINTR, unix.ECHILD},
	"ioctl": {unix.ENOMEM, unix.EIO, unix.EPERM, unix.EAGAIN}, "kill": {unix.EPERM},
	"pidfd_open": {unix.EMFILE, unix.ESRCH, unix.ENOMEM}, "pidfd_getfd": {unix.EMFILE, unix.EPERM, unix.ESRCH},
	"process_vm_readv": {unix.EFAULT, unix.ESRCH, unix.ENOMEM, unix.EPERM},
	"clone":            {unix.EAGAIN, unix.ENOMEM}, "clone3": {unix.EAGAIN, unix.ENOMEM}, "execve": {unix.ENOENT, unix.ENOMEM, unix.EACCES},
	"mmap": {unix.ENOMEM}, "sendmsg": {unix.EPIPE, unix.ENOBUFS, unix.EINTR}, "recvmsg": {unix.ECONNRESET, unix.ENOMEM, unix.EINTR},
	"socketpair": {unix.EMFILE}, "pipe2": {unix.EMFILE}, "openat": {unix.EMFILE, unix.ENOENT, unix.EACCES, unix.ENOMEM},
	"pread64": {unix.EIO}, "readlinkat": {unix.ENOENT, unix.EACCES}, "sched_setattr": {unix.EPERM},
}

// faultTimes are how many calls fail. What fails for ever cannot be undone, and
// is not asked for.
var faultTimes = []int{1, 1, 3, 40}

// Whatever system call of procmem fails, the target is none the worse for it,
// procmem ends, and there is no half core.
func TestFaults(t *testing.T) {
	calls := slices.Sorted(maps.Keys(faultErrors))
	n := (*points + len(allMethods) - 1) / len(allMethods)
	forEachMethod(t, allMethods, func(t *testing.T, method string) {
		random := random(t)
		v := &victim{}
		if method == "auto" { // which holds a small target while it is copied
			v.more = []string{"--ballast", ballast}
		}
		v.start(t)
		counts := cleanCalls(t, v, method, calls)
		maps.DeleteFunc(counts, func(w where, _ int) bool { return faultErrors[w.call] == nil })
		places := slices.SortedFunc(maps.Keys(counts), func(a, b where) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		outcomes := map[string]int{}
		if method == "fork" || method == "precopy" { // a task of another user, without CAP_KILL
			outcomes[inject(t, v, method, fault{helper: true, call: "kill", errno: unix.EPERM, times: 40})]++
		}
		for range n {
			w := places[random.IntN(len(places))]
			f := fault{helper: w.helper, call: w.call, n: random.IntN(counts[w])}
			if f.kill = !f.helper && random.IntN(8) == 0; !f.kill {
				f.errno = faultErrors[w.call][random.IntN(len(faultErrors[w.call]))]
				f.times = faultTimes[random.IntN(len(faultTimes))]
			}
			if w.call == "pread64" { // 40 are all that there are at the end of a helper
				f.times = min(f.times, 3)
			}
			if *oneFault != "" {
				f = parseFault(t, *oneFault)
			}
			outcomes[inject(t, v, method, f)]++
		}
		t.Logf("outcomes %v", outcomes)
	})
}

// The kernel refuses for a while all that is asked of threads which stand where they were stopped.
// They get their registers back, and are let go with the signals that they were about to take, and
// none of them sees a task of ours.
func TestHeldThreadsCannotBeAsked(t *testing.T) {
	forEachMethod(t, []string{"precopy", "fork"}, func(t *testing.T, method string) {
		v := &victim{}
		v.start(t)
		counts := cleanCalls(t, v, method, []string{"ptrace"})
		n := counts[where{helper: true, call: "ptrace"}]
		if n < 20 {
			t.Fatalf("the helper calls ptrace %d times: %v", n, counts)
		}
		for at := n / 4; at < n; at += max(n/16, 1) {
			for _, e := range []unix.Errno{unix.ESRCH, unix.EIO} {
				inject(t, v, method, fault{helper: true, call: "ptrace", n: at, errno: e, times: 40})
			}
		}
	})
}

// cleanCalls counts the calls of runs in which nothing fails.
func cleanCalls(t *testing.T, v *victim, method string, calls []string) map[where]int {
	t.Helper()
	got, counts, _ := supervised(t, nil, v.dir, calls, v.args(method)...)
	got.want(t, 0, "^$")
	if wrong := v.file(t, got); wrong != "" {
		t.Fatal(wrong)
	}
	if wrong := v.harm(t); wrong != "" {
		t.Fatal(wrong)
	}
	return counts
}

// inject runs procmem with a fault, and tells how it ended.
func inject(t *testing.T, v *victim, method string, f fault) string {
	t.Helper()
	began := time.Now()
	passed := atFailure(t, "method %s: %v", method, f)
	got, _, hit := supervised(t, &f, v.dir, []string{f.call}, v.args(method)...)
	took := time.Since(began)
	wrong := v.file(t, got) // of this target: there may be another
	harm := v.harm(t)
	passed()
	// A runtime that gets no memory or thread gives up, which is the end of the helper:
	// docs/pause.md says what that may do while it has a child in the target.
	if f.helper && (f.call == "mmap" || f.call == "clone") && harm != "" && seenByWait(harm) {
		t.Logf("method %s: %v: the end of the helper: %s", method, f, harm)
		harm = ""
	}
	if harm != "" {
		t.Errorf("method %s: %v: harm: %s\nafter %v", method, f, harm, got)
	}
	if wrong != "" {
		t.Errorf("method %s: %v: %s", method, f, wrong)
	}
	if testing.Verbose() {
		t.Logf("method %s: %v: %v, hit %v, status %d %.150q", method, f, took.Round(time.Millisecond), hit, got.status, got.stderr)
	}
	return fmt.Sprintf("status %d", got.status)
}

// atFailure logs what was tried where the test ends before the function that it
// returns is called.
func atFailure(t *testing.T, format string, args ...any) (passed func()) {
	done := false
	t.Cleanup(func() {
		if !done {
			t.Logf(format, args...)
		}
	})
	return func() { done = true }
}

func parseFault(t *testing.T, text string) (f fault) {
	t.Helper()
	var who, what string
	if _, err := fmt.Sscan(text, &who, &f.call, &f.n, &what, &f.times); err != nil {
		t.Fatal(err)
	}
	f.helper, f.kill = who == "helper", what == "kill"
	for e := unix.Errno(1); e < 200; e++ {
		if unix.ErrnoName(e) == what {
			f.errno = e
		}
	}
	return f
}

// random returns a source for the -seed, which it logs.
func random(t *testing.T) *rand.Rand {
	t.Helper()
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", s)
	return rand.New(rand.NewPCG(s, 0))
}
