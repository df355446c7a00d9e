package harm

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fileErrors are those that what is done to the file of a core fails with.
var fileErrors = map[string][]unix.Errno{
	"pwrite64": {unix.ENOSPC, unix.EIO, unix.EDQUOT}, "write": {unix.ENOSPC, unix.EIO}, "fallocate": {unix.ENOSPC, unix.EOPNOTSUPP, unix.EIO},
	"ftruncate": {unix.EIO, unix.EFBIG}, "fsync": {unix.EIO, unix.ENOSPC}, "renameat": {unix.EIO, unix.EACCES},
	"renameat2": {unix.EIO, unix.EINVAL, unix.ENOSYS}, "linkat": {unix.EIO, unix.EPERM}, "unlinkat": {unix.EIO},
}

// Whatever fails of what is done to the file of a core, there is no half core of
// its name, an older one stays until there is a whole one, and the target is unharmed.
func TestFileFaults(t *testing.T) {
	calls := slices.Sorted(maps.Keys(fileErrors))
	for _, form := range [][]any{{"--method", "stop"}, {"--method", "precopy"}, {"--method", "fork", "--compress", "zstd"}} {
		t.Run(form[1].(string), func(t *testing.T) {
			random := random(t)
			v := &victim{}
			v.start(t)
			args := func() []any { return append(v.args(form[1].(string)), form[2:]...) }
			v.packed = len(form) > 2
			got, counts, _ := supervised(t, nil, v.dir, calls, args()...)
			got.want(t, 0, "^$")
			if wrong := v.file(t, got); wrong != "" {
				t.Fatal(wrong)
			}
			t.Logf("%v", counts)
			outcomes := map[int]int{}
			for i := range max(5, *points/10) {
				call := calls[i%len(calls)]
				n := counts[where{false, call}]
				if n == 0 {
					continue
				}
				f := fault{call: call, n: random.IntN(n), errno: fileErrors[call][random.IntN(len(fileErrors[call]))], times: faultTimes[random.IntN(len(faultTimes))]}
				const old = "an older file"
				if err := os.WriteFile(v.core(), []byte(old), 0o600); err != nil {
					t.Fatal(err)
				}
				passed := atFailure(t, "%v", f)
				got, _, _ := supervised(t, &f, v.dir, []string{call}, args()...)
				passed()
				outcomes[got.status]++
				if b, err := os.ReadFile(v.core()); err != nil {
					t.Errorf("%v: %v after %v", f, err, got)
				} else if string(b) == old {
					if got.status != 1 || !strings.HasPrefix(got.stderr, "procmem: ") {
						t.Errorf("%v: the older file is there after %v", f, got)
					}
					if err := os.Remove(v.core()); err != nil {
						t.Fatal(err)
					}
				}
				if wrong := v.file(t, got); wrong != "" {
					t.Errorf("%v: %s", f, wrong)
				}
				if harm := v.harm(t); harm != "" {
					t.Errorf("%v: %s after %v", f, harm, got)
				}
			}
			t.Logf("statuses %v", outcomes)
		})
	}
}

// Procmem may have no other file when the descriptor comes by which it tracks
// writes: it says so, and nothing is left.
func TestNoFileForDescriptor(t *testing.T) {
	v := &victim{}
	v.start(t)
	const method = "precopy"
	_, counts, _ := supervised(t, nil, v.dir, []string{"recvmsg"}, v.args(method)...)
	refused := 0
	for n := range counts[where{false, "recvmsg"}] {
		f := fault{call: "recvmsg", n: n, noFiles: true}
		passed := atFailure(t, "%v", f)
		got, _, _ := supervised(t, &f, v.dir, []string{"recvmsg"}, v.args(method)...)
		passed()
		if got.status == 1 && strings.Contains(got.stderr, "as many files open as there may be") {
			refused++
		}
		if wrong := v.file(t, got); wrong != "" {
			t.Errorf("%v: %s", f, wrong)
		}
		if harm := v.harm(t); harm != "" {
			t.Errorf("%v: %s after %v", f, harm, got)
		}
	}
	if refused == 0 {
		t.Error("the descriptor came all the same")
	}
}
