package harm

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
	"github.com/procmem/procmem/process"
)

// footprint is what there is of a target, in bytes.
type footprint struct{ rss, tables, memfd uint64 }

func measure(t testing.TB, p *testproc.Proc) (f footprint) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var kb uint64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kb); n == 1 {
			f.rss = kb << 10
		}
		if n, _ := fmt.Sscanf(line, "VmPTE: %d kB", &kb); n == 1 {
			f.tables = kb << 10
		}
	}
	m := p.Map(t, "memfd")
	var st unix.Stat_t
	name := fmt.Sprintf("/proc/%d/map_files/%x-%x", p.PID(), uint64(m.Start), uint64(m.End))
	if err := unix.Stat(name, &st); err != nil {
		t.Fatal(err)
	}
	f.memfd = uint64(st.Blocks) * 512
	return f
}

const sparseLimit = 1 << 20

// within checks that hardly anything has come into existence.
func (f footprint) within(t testing.TB, after footprint) {
	t.Helper()
	grown := func(before, after uint64) bool { return after > before+sparseLimit }
	if grown(f.rss, after.rss) || grown(f.tables, after.tables) || grown(f.memfd, after.memfd) {
		t.Fatalf("RSS, page tables, blocks of the memfd: %+v; before %+v", after, f)
	}
}

// onDisk is what a file or the files of a folder take on the disk.
func onDisk(t testing.TB, path string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(path, func(path string, _ os.DirEntry, err error) error {
		n += written(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Memory that the target has never touched is neither read, nor allocated,
// nor written, whoever asks.
func TestUntouchedMemory(t *testing.T) {
	args := []string{"--nospin", "--only", "untouched,none,memfd", "--untouched", "1G", "--none", "1G", "--memfd", "256M"}
	for _, who := range []string{"root", "nobody"} {
		t.Run(who, func(t *testing.T) {
			u := unprivileged(t)
			var p *testproc.Proc
			var as func(*exec.Cmd) *exec.Cmd
			missing := 0
			if who == "root" {
				p, as = testproc.Start(t, testproc.Zoo, args...), func(cmd *exec.Cmd) *exec.Cmd { return cmd }
			} else {
				// Only CAP_CHECKPOINT_RESTORE allows to look into the memfd
				// without touching it.
				p, as, missing = u.start(t, testproc.Zoo, args...), u.as, 3
			}
			dir := u.dir(t)
			before := measure(t, p)
			run := func(status int, pattern string, args ...any) result {
				t.Helper()
				cmd := as(command(args...))
				if args[0] == "read" {
					null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
					if err != nil {
						t.Fatal(err)
					}
					defer null.Close()
					cmd.Stdout = null
				}
				r := begin(t, cmd).wait(t)
				r.want(t, status, pattern)
				before.within(t, measure(t, p))
				unharmed(t, p)
				return r
			}
			lost := "^$"
			if missing > 0 {
				lost = `^(procmem: missing 0x.*: not touched by the target, .*CAP_CHECKPOINT_RESTORE.*\n){2}$`
			}
			for _, method := range append(allMethods, "live") {
				run(missing, lost, "core", "--method", method, "-o", dir+"/"+method, p.PID())
				path := fmt.Sprintf("%s/%s.%d", dir, method, p.PID())
				if n := onDisk(t, path); n > 4<<20 {
					t.Errorf("the core takes %d bytes on disk", n)
				}
				c := openCore(t, path)
				m := p.Map(t, "memfd")
				page := make([]byte, procmem.PageSize)
				for _, i := range []int{0, m.Pages() / 2, m.Pages() - 1} {
					if _, err := c.ReadAt(page, m.Page(i)); err != nil || !bytes.Equal(page, p.Want(t, m, i)) {
						t.Errorf("page %d of the memfd: %v", i, err)
					}
				}
				_, err := c.ReadAt(page, m.Page(1))
				if missing == 0 && (err != nil || !bytes.Equal(page, p.Want(t, m, 1))) || missing > 0 && err == nil {
					t.Errorf("an untouched page of the memfd in the core: %v", err)
				}
			}
			run(missing, lost, "dump", "-o", dir+"/dump", p.PID())
			if n := onDisk(t, dir+"/dump"); n > 4<<20 {
				t.Errorf("the dump takes %d bytes on disk", n)
			}
			// read prints what is there, of all of it.
			run(0, "^$", "read", p.PID(), p.Map(t, "untouched").Range)
			run(0, "^$", "read", p.PID(), p.Map(t, "none").Range)
			status, lost := 0, "^$"
			if missing > 0 {
				status, lost = 1, "not touched by the target"
			}
			run(status, lost, "read", p.PID(), p.Map(t, "memfd").Range)
			run(0, "^$", "maps", p.PID())
			run(0, "", "doctor", p.PID())
		})
	}
}

// Clean pages of a private mapping come from the file, without being mapped
// into the target.
func TestCleanFilePages(t *testing.T) {
	for _, who := range []string{"root", "nobody"} {
		t.Run(who, func(t *testing.T) {
			u := unprivileged(t)
			args := []string{"--nospin", "--only", "file,eof,newline,deleted"}
			p, as := testproc.Start(t, testproc.Zoo, args...), func(cmd *exec.Cmd) *exec.Cmd { return cmd }
			if who == "nobody" {
				p, as = u.start(t, testproc.Zoo, args...), u.as
			}
			proc, err := process.Open(p.PID())
			if err != nil {
				t.Fatal(err)
			}
			defer proc.Close()
			rss := func() string {
				ms, err := proc.Smaps()
				if err != nil {
					t.Fatal(err)
				}
				var out []string
				for _, name := range []string{"file", "eof", "newline"} {
					m := p.Map(t, name)
					if i := procmem.FindMapping(ms, m.Start); i < len(ms) && ms[i].Contains(m.Start) {
						out = append(out, fmt.Sprint(name, " ", ms[i].Usage.RSS))
					}
				}
				return strings.Join(out, ", ")
			}
			before := rss()
			dir := u.dir(t)
			r := begin(t, as(command("core", "-a", "-o", dir+"/core", p.PID()))).wait(t)
			if r.status != 0 && r.status != 3 { // eof has a page that nobody can read
				t.Fatal(r)
			}
			if after := rss(); after != before {
				t.Errorf("RSS of %s; before %s", after, before)
			}
			c := openCore(t, fmt.Sprintf("%s/core.%d", dir, p.PID()))
			page := make([]byte, procmem.PageSize)
			for _, m := range p.Maps() {
				for i := range m.Pages() {
					_, err := c.ReadAt(page, m.Page(i))
					if m.Name == "eof" && i == 2 {
						continue
					}
					if err != nil || !bytes.Equal(page, p.Want(t, m, i)) {
						t.Errorf("%s page %d: %v", m.Name, i, err)
					}
				}
			}
			unharmed(t, p)
		})
	}
}

// Memory that the target shares with a child since fork stays shared: to read
// a page in such a way that the kernel makes a copy of it first would double
// what a server with children takes.
func TestMemoryOfForkStaysShared(t *testing.T) {
	forEachMethod(t, append([]string{"live"}, allMethods...), func(t *testing.T, method string) {
		p := testproc.Start(t, testproc.Torture) // which has forked after its ballast was there
		proc, err := process.Open(p.PID())
		if err != nil {
			t.Fatal(err)
		}
		defer proc.Close()
		m := p.Map(t, "ballast")
		shared := func() uint64 {
			ms, err := proc.Smaps()
			if err != nil {
				t.Fatal(err)
			}
			return ms[procmem.FindMapping(ms, m.Start)].Usage.SharedDirty
		}
		before := shared()
		if before < m.Size() {
			t.Fatalf("%d bytes of %d are shared", before, m.Size())
		}
		c := take(t, p.PID(), method)
		c.checkMap(t, p, m)
		if after := shared(); after < before {
			t.Errorf("%d bytes are shared with the children; before %d", after, before)
		}
	})
}
