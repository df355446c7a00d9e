package harm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
)

// everyCommand returns the commands that look at all memory of a process, with
// a core in dir, which the first of them makes.
func everyCommand(pid int, dir string) (all [][]any) {
	prefix := filepath.Join(dir, "core")
	for _, method := range append(allMethods, "live", "auto") {
		all = append(all, []any{"core", "--force", "--method", method, "-o", prefix, pid},
			[]any{"core", "--method", method, "-o", "-", pid},
			[]any{"dump", "--method", method, "-o", "-", pid})
	}
	c := fmt.Sprintf("%s.%d", prefix, pid)
	return append(all, []any{"core", "--force", "--method", "precopy", "--compress", "zstd", "-o", prefix, pid},
		[]any{"maps", pid}, []any{"search", pid, "no such text"}, []any{"strings", pid}, []any{"doctor", pid},
		[]any{"diff", c, pid}, []any{"diff", pid, c}, []any{"verify", c}, []any{"search", c, "no such text"})
}

// inTime runs a command that must end long before the time is over.
func inTime(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	limited := exec.CommandContext(ctx, cmd.Path, cmd.Args[1:]...)
	limited.WaitDelay = time.Second
	out, err := limited.CombinedOutput()
	if ctx.Err() != nil || limited.ProcessState.ExitCode() > 1 || bytes.Contains(out, []byte("panic")) {
		t.Fatalf("%v: %v, %v\n%.2000s", limited.Args, err, ctx.Err(), out)
	}
}

// A reservation costs nothing, however large it is.
func TestReservedMemory(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "reserved,none", "--reserved", "64T", "--none", "32T")
	dir := t.TempDir()
	for _, args := range everyCommand(p.PID(), dir) {
		inTime(t, command(args...))
	}
	for _, method := range append(allMethods, "live") {
		inTime(t, command("core", "--force", "--method", method, "-o", filepath.Join(dir, "core"), p.PID()))
		c := openCore(t, filepath.Join(dir, "core."+strconv.Itoa(p.PID())))
		m := p.Map(t, "reserved")
		page := make([]byte, procmem.PageSize)
		for _, i := range []int{0, m.Pages() / 2, m.Pages() - 1} {
			if _, err := c.ReadAt(page, m.Page(i)); err != nil || !bytes.Equal(page, p.Want(t, m, i)) {
				t.Errorf("%s: page %d: %v", method, i, err)
			}
		}
	}
	unharmed(t, p)
}

var stracedCalls = regexp.MustCompile(`(?m)^ *\S+ +\S+ +\S+ +(\d+) +(?:\d+ +)?(\w+)$`)

// What is done for a reservation does not grow with it. That is counted where
// it is done, in system calls.
func TestReservedMemoryCalls(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		if os.Getenv("PROCMEM_TEST_ALL") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "reserved", "--reserved", "1T")
	dir := t.TempDir()
	const most = 5_000 // a call for each 32 MiB would be 32,768
	for _, args := range everyCommand(p.PID(), dir) {
		counts := filepath.Join(dir, "counts")
		cmd := command(args...)
		inTime(t, exec.Command("strace", append([]string{"-f", "-c", "--seccomp-bpf", "-e", "trace=ioctl,read,pread64,lseek,mmap,process_vm_readv,write,pwrite64", "-o", counts}, cmd.Args...)...))
		b, err := os.ReadFile(counts)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, m := range stracedCalls.FindAllStringSubmatch(string(b), -1) {
			if calls, _ := strconv.Atoi(m[1]); m[2] != "total" {
				n += calls
			}
		}
		if n == 0 || n > most {
			t.Errorf("%v: %d system calls\n%s", args, n, b)
		}
	}
	unharmed(t, p)
}

// A private mapping of a sparse file is not read where it is holes: that would
// fill the page cache with zeros.
func TestSparseFile(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "sparse", "--sparse", "4G")
	m := p.Map(t, "sparse")
	f, err := os.Open(p.File(t, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cached := func() uint64 { // pages, as many as ever were
		var st unix.Cachestat_t
		if err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{}, &st, 0); err != nil {
			t.Fatal(err)
		}
		return st.Cache + st.Evicted
	}
	dir := t.TempDir()
	before := cached() // what the kernel has read ahead
	for _, args := range everyCommand(p.PID(), dir) {
		inTime(t, command(args...))
		if now := cached(); now > before+uint64(m.Pages())/64 {
			t.Fatalf("%v: %d pages of the file, of %d, have been in the page cache; %d before", args, now, m.Pages(), before)
		}
	}
	c := openCore(t, filepath.Join(dir, "core."+strconv.Itoa(p.PID())))
	page := make([]byte, procmem.PageSize)
	for _, i := range []int{0, 1, 2, m.Pages() / 2, m.Pages() - 2, m.Pages() - 1} { // the holes are too large to be in the file
		if _, err := c.ReadAt(page, m.Page(i)); err != nil || !bytes.Equal(page, p.Want(t, m, i)) {
			t.Errorf("page %d: %v", i, err)
		}
	}
	if n := onDisk(t, filepath.Join(dir, "core."+strconv.Itoa(p.PID()))); n > 4<<20 {
		t.Errorf("the core takes %d bytes on disk", n)
	}
	unharmed(t, p)
}
