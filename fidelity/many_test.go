package fidelity

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
)

// allowMappings lets a process have n mappings until the test ends, when the
// system's setting becomes what it was. Tests of several packages run at
// once, so the one that changes it holds a lock.
func allowMappings(t *testing.T, n int) {
	t.Helper()
	const path = "/proc/sys/vm/max_map_count"
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), fmt.Sprintf("procmem-max_map_count-%d.lock", os.Getuid())), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Close() })
	for {
		if err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	old, err := strconv.Atoi(strings.TrimSpace(string(before)))
	if err != nil {
		t.Fatal(err)
	}
	if old >= n {
		return
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(n)), 0); err != nil {
		missing(t, "%s is %d and may not be set: %v", path, old, err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(path, before, 0); err != nil {
			t.Error(err)
		}
	})
}

// More mappings than e_phnum can count: the real number is in the first
// section header, and not every reader knows (docs/consumers.md).
func TestManyMappings(t *testing.T) {
	t.Parallel()
	const mappings = 70_000
	allowMappings(t, 2*mappings)
	p := testproc.Start(t, testproc.Many, "mappings", strconv.Itoa(mappings))
	base := p.Addr(t, "mappings")
	last := base + (mappings-1)*procmem.PageSize
	c := ourCore(t, p.PID())

	t.Run("memory", func(t *testing.T) {
		if n := len(c.Segments()); n < mappings {
			t.Fatalf("%d segments, want %d or more", n, mappings)
		}
		page := make([]byte, procmem.PageSize)
		for i := range procmem.Addr(mappings) {
			a := base + i*procmem.PageSize
			if _, err := c.ReadAt(page, a); err != nil || !bytes.Equal(page, p.Stamp(t, a)) {
				t.Fatalf("mapping %d at %v: %v, or not what the helper put there", i, a, err)
			}
		}
	})
	word := fmt.Sprintf("0x%016x", binary.LittleEndian.Uint64(p.Stamp(t, last)))
	t.Run("readelf", func(t *testing.T) {
		out := run(t, "readelf", "-W", "-h", c.path)
		count := regexp.MustCompile(`Number of program headers: +65535 \((\d+)\)`).FindStringSubmatch(out.ok(t))
		if count == nil || out.stderr != "" {
			t.Fatalf("no count of program headers in\n%s%s", out.stdout, out.stderr)
		}
		if n, err := strconv.Atoi(count[1]); err != nil || n < mappings {
			t.Errorf("%s program headers, want %d or more", count[1], mappings)
		}
	})
	t.Run("eu-readelf", func(t *testing.T) {
		out := run(t, "eu-readelf", "-l", c.path)
		if !strings.Contains(out.ok(t), fmt.Sprintf("0x%016x", uint64(last))) || out.stderr != "" {
			t.Errorf("no segment at %v; %s", last, out.stderr)
		}
	})
	t.Run("gdb", func(t *testing.T) {
		out := gdb(t, p.Path, c.path, "bt", fmt.Sprintf("x/1xg %v", last))
		if !strings.Contains(out, " main (") || !strings.Contains(out, word) {
			t.Errorf("no main, or no %s at %v, in\n%s", word, last, out)
		}
	})
	t.Run("lldb", func(t *testing.T) {
		out := lldb(t, "-b", "-o", "bt all", "-o", fmt.Sprintf("memory read -s8 -fx -c1 %v", last), "-c", c.path, p.Path)
		if !strings.Contains(out, "`main") || !strings.Contains(out, word) {
			t.Errorf("no main, or no %s at %v, in\n%s", word, last, out)
		}
	})
	// elfutils 0.188 compares each segment with every other, for 20 s.
	t.Run("eu-stack", func(t *testing.T) {
		if frames := euStack(t, c.path)[p.PID()]; !strings.Contains(frames, " main\n") {
			t.Errorf("no main in\n%s", frames)
		}
	})
}

func TestManyThreads(t *testing.T) {
	t.Parallel()
	const threads = 5000
	p := testproc.Start(t, testproc.Many, "threads", strconv.Itoa(threads))
	p.WaitBlocked(t, threads+1)
	want := living(p.PID())
	if len(want) < threads {
		t.Fatalf("%d threads", len(want))
	}
	c := ourCore(t, p.PID(), "--method", "auto")
	if n := len(c.Report().ThreadsMissing); n > 0 {
		t.Errorf("%d threads are missing", n)
	}
	for _, method := range []string{"fork", "precopy"} {
		p.WaitBlocked(t, threads+1) // again
		other := ourCore(t, p.PID(), "--method", method)
		other.wantMethod(t, method)
		other.sameRegisters(t, c)
	}
	c.checkReadelf(t, len(want))
	check := func(tool string, got []int) {
		t.Helper()
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s shows %d threads, want %d", tool, len(got), len(want))
		}
	}
	var shown []int
	for _, m := range gdbInfoThread.FindAllStringSubmatch(gdb(t, p.Path, c.path, "info threads"), -1) {
		tid, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		shown = append(shown, tid)
	}
	check("gdb", shown)
	shown = nil
	for tid := range euStack(t, c.path) {
		shown = append(shown, tid)
	}
	check("eu-stack", shown)
	check("lldb", lldbThreads(t, p.Path, c.path))
}

// sameRegisters requires that all threads are the same, and where they were:
// none of them runs.
func (c *corefile) sameRegisters(t *testing.T, other *corefile) {
	t.Helper()
	regs := func(c *corefile) map[int]string {
		all := map[int]string{}
		for i := range c.Image().Threads {
			th := &c.Image().Threads[i]
			all[th.TID] = string(th.Regset(procmem.NTPRStatus))
		}
		return all
	}
	a, b := regs(c), regs(other)
	if len(a) != len(b) {
		t.Errorf("%d threads and %d", len(a), len(b))
	}
	for tid, want := range b {
		if len(want) == 0 || a[tid] != want {
			t.Fatalf("thread %d: registers\n%x, and\n%x", tid, a[tid], want)
		}
	}
}

var gdbInfoThread = regexp.MustCompile(`(?m)^[* ] \d+ +Thread 0x[0-9a-f]+ \(LWP (\d+)\)`)
