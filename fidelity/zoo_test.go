package fidelity

import (
	"bytes"
	"encoding/hex"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
)

// zooSizes keeps gcore, which writes memory that was never touched, from
// filling the disk.
var zooSizes = []string{"--memfd", "16M", "--none", "4M", "--untouched", "8M"}

func startZoo(t *testing.T, tc testproc.Toolchain) *testproc.Proc {
	t.Helper()
	// On one processor: its number is in memory that the kernel writes (rseq(2)),
	// also of a thread that is stopped and let go again.
	path := testproc.Build(t, testproc.Zoo.With(tc))
	args := append([]string{"-c", strconv.Itoa(processor(t)), path}, zooSizes...)
	p := testproc.StartCmd(t, exec.Command(need(t, "taskset"), args...))
	p.Path = path
	// Zoo-6 spins, the others wait.
	p.WaitBlocked(t, 8)
	return p
}

// processor returns the number of one that the tests may use.
func processor(t testing.TB) int {
	t.Helper()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		if set.IsSet(i) {
			return i
		}
	}
}

// The zoo has every kind of mapping and of blocked thread, as every kind of
// program.
func TestZoo(t *testing.T) {
	testproc.HugePages(t, 5) // one for each
	for _, tc := range []testproc.Toolchain{testproc.Dynamic, testproc.StaticPIE, testproc.Musl, testproc.NoPIE, testproc.M32} {
		t.Run(string(tc), func(t *testing.T) {
			t.Parallel()
			p := startZoo(t, tc)
			hold(t, p.PID())
			both := take(t, p.PID())
			both.compare(t)
			t.Run("planted", func(t *testing.T) { checkPlanted(t, p, both.ours) })
		})
	}
}

// checkPlanted reads what the zoo says that it has: gcore has no opinion on
// memory that it cannot read, such as PROT_NONE, nor on the vector registers.
func checkPlanted(t *testing.T, p *testproc.Proc, c *corefile) {
	t.Helper()
	checkMemory(t, p, c)
	checkVectors(t, p, c)
	for key, why := range p.Facts {
		if name, ok := strings.CutPrefix(key, "no "); ok {
			t.Logf("not tested, since the kernel does not have it here: %s: %s", name, why)
		}
	}
}

func checkMemory(t *testing.T, p *testproc.Proc, c *corefile) {
	t.Helper()
	// Left out on purpose: shared memory of a file, which is the file
	// (coredump_filter), and what asks not to be dumped.
	leftOut := map[string]bool{"dontdump": true, "droppable": true, "fileshared": true, "secret": true}
	for _, m := range p.Maps() {
		for i := range m.Pages() {
			page := make([]byte, procmem.PageSize)
			n, err := c.ReadAt(page, m.Page(i))
			switch {
			case leftOut[m.Name]:
				if procmem.Cause(err) != procmem.ErrNotDumped {
					t.Errorf("%s page %d: %v, want %v", m.Name, i, err, procmem.ErrNotDumped)
				}
			case err != nil && m.Stamped(i):
				t.Errorf("%s page %d: %d bytes, %v", m.Name, i, n, err)
			case err == nil && m.Readable(i) && !bytes.Equal(page, p.Want(t, m, i)):
				t.Errorf("%s page %d is not what the zoo put there", m.Name, i)
			}
		}
	}
	for key := range p.Facts {
		if name, ok := strings.CutPrefix(key, "needle "); ok && name != "rodata" {
			a, want := p.Needle(t, name)
			got := make([]byte, len(want))
			if _, err := c.ReadAt(got, a); err != nil || !bytes.Equal(got, want) {
				t.Errorf("needle %s at %v is %x, %v, want %x", name, a, got, err, want)
			}
		}
	}
}

// checkVectors reads the vector registers of the thread that spins, which
// gdb 13 does not show from a core that is not its own.
func checkVectors(t *testing.T, p *testproc.Proc, c *corefile) {
	tid := p.TID(t, "zoo-6")
	for i := range c.Image().Threads {
		th := &c.Image().Threads[i]
		if th.TID != tid {
			continue
		}
		x := th.Regset(procmem.NTX86XState)
		width := p.Int(t, "vector")
		seen := 0
		for key, value := range p.Facts {
			name, ok := strings.CutPrefix(key, "reg ")
			if !ok || name[1:3] != "mm" {
				continue
			}
			var n int
			for _, digit := range name[3:] {
				n = 10*n + int(digit-'0')
			}
			got := x[160+16*n:][:16:16] // fxsave area: xmm0 at 160; ymm0's other half at 576
			if width == 32 {
				got = append(got, x[576+16*n:][:16]...)
			}
			if hex.EncodeToString(got) != value {
				t.Errorf("%s is %x, want %s", name, got, value)
			}
			seen++
		}
		if seen < 8 {
			t.Errorf("only %d vector registers", seen)
		}
		return
	}
	t.Errorf("no thread %d", tid)
}

// -a takes in what the program does not want to be dumped, and the files.
func TestAll(t *testing.T) {
	t.Parallel()
	p := startZoo(t, testproc.Dynamic)
	hold(t, p.PID())
	both := take(t, p.PID(), "-a")
	t.Run("memory", func(t *testing.T) { both.compareMemory(t) })
	for _, name := range []string{"dontdump", "fileshared"} {
		m := p.Map(t, name)
		for i := range m.Pages() {
			page := make([]byte, procmem.PageSize)
			if _, err := both.ours.ReadAt(page, m.Page(i)); err != nil || !bytes.Equal(page, p.Want(t, m, i)) {
				t.Errorf("%s page %d: %v, or not what the zoo put there", name, i, err)
			}
		}
	}
}
