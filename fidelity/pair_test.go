package fidelity

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
)

// pair is two cores of one process at one moment.
type pair struct {
	pid          int
	exe          string
	tids         []int // those alive
	ours, theirs *corefile
	// unread are the segments that gdb could not read to their end, and
	// filled up with zeros.
	unread []procmem.Range
}

// corefile is a core and where it lies.
type corefile struct {
	*core.File
	path string
}

func open(t testing.TB, path string) *corefile {
	t.Helper()
	f, err := core.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if lost := f.Truncated(); len(lost) > 0 {
		t.Errorf("%s is truncated: %v", path, lost)
	}
	return &corefile{f, path}
}

// Exit statuses of procmem: data is missing from a core that is otherwise
// whole.
const statusMissing = 3

// ourCore takes a core with the command, into a new folder.
func ourCore(t testing.TB, pid int, flags ...string) *corefile {
	t.Helper()
	prefix := filepath.Join(t.TempDir(), "ours")
	args := append([]string{"core", "-o", prefix}, flags...)
	out := run(t, procmemPath(), append(args, strconv.Itoa(pid))...)
	if out.status != 0 && out.status != statusMissing {
		t.Fatalf("procmem %v: status %d\n%s%s", args, out.status, out.stdout, out.stderr)
	}
	path := fmt.Sprintf("%s.%d", prefix, pid)
	if slices.Contains(flags, strings.TrimSpace(packed)) {
		if out := run(t, "zstd", "-d", "-q", path+".zst", "-o", path); out.status != 0 {
			t.Fatalf("zstd -d: %s", out.stderr)
		}
	}
	c := open(t, path)
	r := c.Report()
	if r == nil {
		t.Fatal("the core has no report")
	}
	if lacks := len(r.Missing)+len(r.ThreadsMissing) > 0; lacks != (out.status == statusMissing) && r.Consistent {
		t.Errorf("status %d, and missing is %v, %v", out.status, r.Missing, r.ThreadsMissing)
	}
	return c
}

var failedRead = regexp.MustCompile(`Memory read failed for corefile section, \d+ bytes at (0x[0-9a-f]+)\.`)

// theirCore takes a core with gdb, and returns it with the places of the
// segments that gdb says it could not read.
func theirCore(t testing.TB, pid int, flags ...string) (*corefile, map[procmem.Addr]bool) {
	t.Helper()
	prefix := filepath.Join(t.TempDir(), "theirs")
	need(t, "gdb")
	out := run(t, "gcore", append(flags, "-o", prefix, strconv.Itoa(pid))...)
	path := fmt.Sprintf("%s.%d", prefix, pid)
	// gcore's status is 0 after many a failure.
	if _, err := os.Stat(path); err != nil || out.status != 0 {
		t.Fatalf("gcore: status %d\n%s%s", out.status, out.stdout, out.stderr)
	}
	failed := map[procmem.Addr]bool{}
	for _, m := range failedRead.FindAllStringSubmatch(out.stderr+out.stdout, -1) {
		a, err := procmem.ParseAddr(m[1])
		if err != nil {
			t.Fatal(err)
		}
		failed[a] = true
	}
	return open(t, path), failed
}

// take takes both cores of a process that is held still. Ours comes first:
// gdb changes its target, as it makes pages that were never touched, and
// copies of those that it puts breakpoints into.
func take(t testing.TB, pid int, flags ...string) *pair {
	t.Helper()
	p := &pair{pid: pid, tids: living(pid)}
	var err error
	if p.exe, err = os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err != nil {
		t.Fatal(err)
	}
	p.ours = ourCore(t, pid, flags...)
	stoppedAgain(t, pid)
	var failed map[procmem.Addr]bool
	p.theirs, failed = theirCore(t, pid, flags...)
	for _, s := range p.theirs.Segments() {
		if failed[s.Start] {
			p.unread = append(p.unread, s.Range)
		}
	}
	if !slices.Equal(p.tids, living(pid)) {
		t.Fatalf("threads were %v and are %v", p.tids, living(pid))
	}
	return p
}

// unreadable reports whether gdb may have failed to read the address.
func (p *pair) unreadable(a procmem.Addr) bool {
	return slices.ContainsFunc(p.unread, func(r procmem.Range) bool { return r.Contains(a) })
}

// compare holds the two cores against each other, by what is in them and by
// what debuggers make of them.
func (p *pair) compare(t *testing.T) {
	t.Helper()
	t.Run("notes", func(t *testing.T) { p.compareNotes(t) })
	t.Run("registers", func(t *testing.T) { p.compareRegisters(t) })
	t.Run("memory", func(t *testing.T) { p.compareMemory(t) })
	t.Run("readelf", func(t *testing.T) { p.ours.checkReadelf(t, len(p.tids)) })
	t.Run("gdb", func(t *testing.T) {
		sameThreads(t, p.tids, gdbThreads(t, p.exe, p.ours.path), gdbThreads(t, p.exe, p.theirs.path))
	})
	t.Run("eu-stack", func(t *testing.T) {
		sameThreads(t, p.tids, euStack(t, p.ours.path), euStack(t, p.theirs.path))
	})
	t.Run("eu-unstrip", func(t *testing.T) {
		got, want := modules(t, p.ours.path), modules(t, p.theirs.path)
		if len(want) == 0 || !slices.Equal(got, want) {
			t.Errorf("modules of ours:\n%q\nof gcore's:\n%q", got, want)
		}
	})
	t.Run("lldb", func(t *testing.T) {
		if got := lldbThreads(t, p.exe, p.ours.path); !slices.Equal(got, p.tids) {
			t.Errorf("lldb shows frames of the threads %v, want %v", got, p.tids)
		}
	})
}

// sameThreads compares what a debugger shows of each thread.
func sameThreads(t *testing.T, tids []int, ours, theirs map[int]string) {
	t.Helper()
	if got := slices.Sorted(maps.Keys(ours)); !slices.Equal(got, tids) {
		t.Errorf("threads %v, want %v", got, tids)
	}
	for _, tid := range tids {
		if ours[tid] != theirs[tid] {
			t.Errorf("thread %d of ours:\n%s\nof gcore's:\n%s", tid, ours[tid], theirs[tid])
		}
	}
}
