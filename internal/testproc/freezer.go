package testproc

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Freezer is a control group that can freeze what is in it.
type Freezer struct {
	dir  string
	file string // that freezes
	on   string
	off  string
}

// Freezers makes one of each version, by its name, and mounts the hierarchy where that is not
// done. At the end of the test they are thawed and removed. It takes root.
func Freezers(t testing.TB) map[string]*Freezer {
	t.Helper()
	out := map[string]*Freezer{}
	for version, root := range map[string]string{
		"v1": hierarchy(t, "cgroup", "freezer", "/sys/fs/cgroup/freezer"),
		"v2": hierarchy(t, "cgroup2", "", "/sys/fs/cgroup", "/sys/fs/cgroup/unified"),
	} {
		if root == "" {
			t.Logf("testproc: there is no freezer of %s", version)
			continue
		}
		f := &Freezer{filepath.Join(root, fmt.Sprintf("procmem-test-%d", os.Getpid())), "cgroup.freeze", "1", "0"}
		if version == "v1" {
			f.file, f.on, f.off = "freezer.state", "FROZEN", "THAWED"
		}
		if err := os.Mkdir(f.dir, 0o755); err != nil {
			t.Fatalf("testproc: %v", err)
		}
		t.Cleanup(func() {
			f.Thaw(t)
			Until(t, "an empty control group", func() bool { return unix.Rmdir(f.dir) == nil })
		})
		out[version] = f
	}
	if len(out) == 0 {
		t.Fatal("testproc: no control group can freeze")
	}
	return out
}

// hierarchy returns where a hierarchy is mounted, "" where there is none.
func hierarchy(t testing.TB, fs, controller string, usual ...string) string {
	for _, dir := range usual {
		b, _ := os.ReadFile("/proc/self/mounts")
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); f[1] == dir && f[2] == fs {
				return dir
			}
		}
	}
	dir := t.TempDir()
	if err := unix.Mount(fs, dir, fs, 0, controller); err != nil {
		return ""
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// Add puts a process into the group. At the end of the test it is taken out.
func (f *Freezer) Add(t testing.TB, pid int) {
	t.Helper()
	f.write(t, "cgroup.procs", strconv.Itoa(pid))
}

// Freeze freezes what is in the group, which takes effect a little later.
func (f *Freezer) Freeze(t testing.TB) { f.write(t, f.file, f.on) }

// Thaw ends that.
func (f *Freezer) Thaw(t testing.TB) { f.write(t, f.file, f.off) }

// WaitFrozen waits until all is frozen.
func (f *Freezer) WaitFrozen(t testing.TB) {
	t.Helper()
	Until(t, "it to be frozen", func() bool {
		if f.file == "freezer.state" {
			b, _ := os.ReadFile(filepath.Join(f.dir, f.file))
			return strings.TrimSpace(string(b)) == f.on
		}
		b, _ := os.ReadFile(filepath.Join(f.dir, "cgroup.events"))
		return strings.Contains(string(b), "frozen 1")
	})
}

func (f *Freezer) write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, file), []byte(text), 0); err != nil {
		t.Errorf("testproc: %v", err)
	}
}
