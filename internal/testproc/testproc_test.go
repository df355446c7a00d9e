package testproc

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/procmem/procmem"
)

// smallArgs start each program quickly.
var smallArgs = map[string][]string{
	"zoo":     {"--memfd", "1M", "--gap"},
	"witness": {"--pages", "16"},
	"many":    {"threads", "4"},
	"torture": {"--ballast", "1M"},
}

func forEachToolchain(t *testing.T, run func(t *testing.T, tc Toolchain)) {
	for _, tc := range Toolchains() {
		t.Run(string(tc), func(t *testing.T) { run(t, tc) })
	}
}

// reader reads from /proc/PID/mem.
func reader(t *testing.T, p *Proc) func(addr procmem.Addr, b []byte) error {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/mem", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return func(addr procmem.Addr, b []byte) error {
		_, err := f.ReadAt(b, int64(addr))
		return err
	}
}

// Every program says its own pid, answers, and ends when its stdin closes,
// without a signal.
func TestEveryVariant(t *testing.T) {
	for _, v := range Variants() {
		t.Run(v.String(), func(t *testing.T) {
			p := Start(t, v, smallArgs[v.Program]...)
			if got := p.Int(t, "pid"); got != int64(p.PID()) {
				t.Errorf("pid %d; want %d", got, p.PID())
			}
			p.Cmd(t, "ping")
			if _, err := p.TryCmd(t, "nonsense"); err == nil {
				t.Error("an unknown command is not refused")
			}
			exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.PID()))
			if err != nil || exe != p.Path {
				t.Errorf("exe %q, %v; want %q", exe, err, p.Path)
			}
			p.CloseStdin()
			state, err := p.Wait()
			if err != nil || state.ExitCode() != 0 {
				t.Errorf("after stdin closed: %v, %v; want exit 0", state, err)
			}
			if s := p.State(); s != 0 {
				t.Errorf("state %c after Wait; want none", s)
			}
		})
	}
}

func TestZooMemory(t *testing.T) {
	forEachToolchain(t, func(t *testing.T, tc Toolchain) {
		p := Start(t, Zoo.With(tc), "--memfd", "1M", "--untouched", "64K", "--none", "64K")
		read := reader(t, p)
		got := make([]byte, procmem.PageSize)
		for _, m := range p.Maps() {
			for i := range m.Pages() {
				err := read(m.Page(i), got)
				switch {
				case !m.Readable(i):
					if err == nil {
						t.Fatalf("%s page %d can be read", m.Name, i)
					}
				case err != nil:
					t.Fatalf("%s page %d: %v", m.Name, i, err)
				case !bytes.Equal(got, p.Want(t, m, i)):
					t.Fatalf("%s page %d (stamped: %v) differs", m.Name, i, m.Stamped(i))
				}
			}
		}
		for key := range p.Facts {
			name, ok := strings.CutPrefix(key, "needle ")
			if !ok {
				continue
			}
			addr, want := p.Needle(t, name)
			if err := read(addr, got[:len(want)]); err != nil || !bytes.Equal(got[:len(want)], want) {
				t.Errorf("needle %s: %x, %v; want %x", name, got[:len(want)], err, want)
			}
		}
	})
}

// No two announced mappings are one for the kernel, and the kernel has each
// exactly as announced.
func TestZooMaps(t *testing.T) {
	forEachToolchain(t, func(t *testing.T, tc Toolchain) {
		p := Start(t, Zoo.With(tc), "--nospin", "--memfd", "16M")
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.PID()))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range p.Maps() {
			line := fmt.Sprintf("%08x-%08x ", uint64(m.Start), uint64(m.End))
			if !strings.Contains("\n"+string(text), "\n"+line) {
				t.Errorf("%s: no line %q in\n%s", m.Name, line, text)
			}
			if m.FileSize >= 0 && !slices.Contains([]string{"deleted", "deletedclean", "replaced"}, m.Name) {
				if fi, err := os.Stat(p.File(t, m.Name)); err != nil || fi.Size() != m.FileSize {
					t.Errorf("file of %s: %v; want %d bytes", m.Name, err, m.FileSize)
				}
			}
		}
	})
}

func TestZooNeedlesAreUnique(t *testing.T) {
	p := Start(t, Zoo, "--nospin", "--only", "anon")
	memory := dump(t, p)
	for key := range p.Facts {
		name, ok := strings.CutPrefix(key, "needle ")
		if !ok || name == "rodata" {
			continue
		}
		_, want := p.Needle(t, name)
		if n := bytes.Count(memory, want); n != 1 {
			t.Errorf("needle %s is there %d times; want once", name, n)
		}
	}
}

// dump reads all that can be read.
func dump(t *testing.T, p *Proc) []byte {
	t.Helper()
	read := reader(t, p)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for line := range strings.Lines(string(text)) {
		var start, end uint64
		if _, err := fmt.Sscanf(line, "%x-%x", &start, &end); err != nil {
			t.Fatal(err)
		}
		if start >= 1<<63 || end-start > 16<<20 {
			continue
		}
		b := make([]byte, end-start)
		if read(procmem.Addr(start), b) == nil {
			all = append(all, b...)
		}
	}
	return all
}

func TestZooThreads(t *testing.T) {
	forEachToolchain(t, func(t *testing.T, tc Toolchain) {
		p := Start(t, Zoo.With(tc), "--only", "anon")
		p.WaitBlocked(t, 8)
		if n := len(p.TIDs()); n != 9 {
			t.Errorf("%d threads; want 9", n)
		}
		for _, th := range p.Threads {
			name, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/comm", p.PID(), th.TID))
			if err != nil || strings.TrimSpace(string(name)) != th.Name {
				t.Errorf("thread %d is named %q, %v; want %q", th.TID, name, err, th.Name)
			}
			want := byte('S')
			if th.Place == "spin" {
				want = 'R'
			}
			if s := State(p.PID(), th.TID); s != want {
				t.Errorf("%s, in %s: state %c; want %c", th.Name, th.Place, s, want)
			}
		}
		before := p.CmdInts(t, "spin")
		Until(t, "the thread that spins", func() bool { return p.CmdInts(t, "spin")[0] != before[0] })
		if got := p.CmdInts(t, "wake"); got[0] != 1 || got[1] != 0 {
			t.Errorf("wake: %v; want one wake and no changed register", got)
		}
		if got := p.CmdInts(t, "spin"); got[1] != 0 {
			t.Errorf("spin: %v; want no changed register", got)
		}
		if got := p.CmdInts(t, "returns"); got[0] != 0 {
			t.Errorf("returns: %v; want none", got)
		}
		if r := p.Range(t, "spinloop"); r.Empty() {
			t.Errorf("spinloop %v", r)
		}
	})
}

func TestZooCommands(t *testing.T) {
	p := Start(t, Zoo, "--nospin", "--only", "anon,shared,memfd", "--memfd", "1M")
	read := reader(t, p)
	zeros := make([]byte, procmem.PageSize)
	check := func(what string, addr procmem.Addr, want []byte) {
		t.Helper()
		got := make([]byte, procmem.PageSize)
		if err := read(addr, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("after %s: %v at %v differs, %v", what, got[:8], addr, err)
		}
	}
	anon, shared := p.Map(t, "anon"), p.Map(t, "shared")
	p.Cmd(t, "touch anon 8")
	check("touch", anon.Page(8), p.Stamp(t, anon.Page(8)))
	p.Cmd(t, "drop anon 1 2")
	check("drop", anon.Page(2), zeros)
	p.Cmd(t, "remap anon 3 1")
	check("remap", anon.Page(3), zeros)
	p.Cmd(t, "zero anon 4")
	check("zero", anon.Page(4), zeros)
	p.Cmd(t, "punch shared 1")
	check("punch", shared.Page(1), zeros)
	p.Cmd(t, "punch memfd")
	check("punch", p.Map(t, "memfd").Page(0), zeros)
	p.Cmd(t, "protect anon r")
	moved, err := procmem.ParseAddr(p.Cmd(t, "move anon"))
	if err != nil {
		t.Fatal(err)
	}
	check("move", moved, p.Stamp(t, anon.Start))
	p.Cmd(t, "unmap anon 0 1")
	if err := read(moved, zeros); err == nil {
		t.Error("after unmap: the page can be read")
	}
	added, err := procmem.ParseAddr(p.Cmd(t, "add new 64K"))
	if err != nil {
		t.Fatal(err)
	}
	check("add", added+15*procmem.PageSize, p.Stamp(t, added+15*procmem.PageSize))
	for _, bad := range []string{"touch anon 16", "touch anon 1 16", "touch nothing", "protect anon"} {
		if _, err := p.TryCmd(t, "%s", bad); err == nil {
			t.Errorf("%q succeeds", bad)
		}
	}
}

func TestWitness(t *testing.T) {
	forEachToolchain(t, func(t *testing.T, tc Toolchain) {
		for _, memory := range []string{"anon", "shared", "memfd", "thp"} {
			const pages = 256
			p := Start(t, Witness.With(tc), "--pages", fmt.Sprint(pages), "--memory", memory)
			read, base := reader(t, p), p.Addr(t, "base")
			// Running, it is torn sooner or later; stopped, it never is.
			Until(t, "a torn read", func() bool {
				steps, err := CheckWitness(read, base, pages)
				if err != nil {
					t.Fatal(err)
				}
				return steps > 1
			})
			stop(t, p)
			if steps, err := CheckWitness(read, base, pages); err != nil || steps > 1 {
				t.Errorf("%s: %d steps, %v, while stopped", memory, steps, err)
			}
		}
	})
}

// stop stops all threads, and waits until they have.
func stop(t *testing.T, p *Proc) {
	t.Helper()
	if err := syscall.Kill(p.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	Until(t, "all threads to stop", func() bool {
		for _, tid := range p.TIDs() {
			if State(p.PID(), tid) != 'T' {
				return false
			}
		}
		return true
	})
}

func TestCheckWitness(t *testing.T) {
	failed := errors.New("failed")
	for _, c := range []struct {
		words []uint64
		torn  bool
	}{
		{[]uint64{5, 5, 5, 5}, false},
		{[]uint64{5, 4, 4, 4}, false},
		{[]uint64{5, 5, 5, 4}, false},
		{[]uint64{5, 5, 6, 6}, true}, // later pages are newer
		{[]uint64{5, 3, 3, 3}, true}, // a sweep is missing
		{[]uint64{5, 4, 5, 4}, true},
		{[]uint64{6, 5, 4, 4}, true},
		{[]uint64{5, 5, 5, 0}, true}, // never written
		{[]uint64{0, 1 << 63, 0}, true},
	} {
		read := func(addr procmem.Addr, p []byte) error {
			binary.LittleEndian.PutUint64(p, c.words[(addr-0x1000)/procmem.PageSize])
			return nil
		}
		if steps, err := CheckWitness(read, 0x1000, len(c.words)); err != nil || (steps > 1) != c.torn {
			t.Errorf("%v: %d steps, %v; want torn: %v", c.words, steps, err, c.torn)
		}
	}
	if _, err := CheckWitness(func(procmem.Addr, []byte) error { return failed }, 0, 1); !errors.Is(err, failed) {
		t.Errorf("error %v; want %v", err, failed)
	}
}

func TestMany(t *testing.T) {
	forEachToolchain(t, func(t *testing.T, tc Toolchain) {
		t.Run("threads", func(t *testing.T) {
			p := Start(t, Many.With(tc), "threads", "200")
			p.WaitBlocked(t, 201)
		})
		t.Run("mappings", func(t *testing.T) {
			p := Start(t, Many.With(tc), "mappings", "2000")
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.PID()))
			if err != nil {
				t.Fatal(err)
			}
			base := p.Addr(t, "mappings")
			for i, perm := range []string{"rw-p", "r--p"} {
				a := base + procmem.Addr(i)*procmem.PageSize
				if want := fmt.Sprintf("%08x-%08x %s", uint64(a), uint64(a)+procmem.PageSize, perm); !strings.Contains(string(text), want) {
					t.Errorf("no mapping %q", want)
				}
			}
			if n := bytes.Count(text, []byte("\n")); n < 2000 {
				t.Errorf("%d mappings; want at least 2000", n)
			}
		})
		t.Run("storm", func(t *testing.T) {
			p := Start(t, Many.With(tc), "storm", "4")
			before := p.CmdInts(t, "storm")[0]
			Until(t, "100 more threads", func() bool { return p.CmdInts(t, "storm")[0] > before+100 })
			if got := p.CmdInts(t, "storm"); got[1] < 4 {
				t.Errorf("storm %v; want 4 threads alive", got)
			}
		})
		for _, kind := range []string{"random", "zero", "mixed"} {
			t.Run("fill-"+kind, func(t *testing.T) { testFill(t, tc, kind) })
		}
	})
}

func testFill(t *testing.T, tc Toolchain, kind string) {
	p := Start(t, Many.With(tc), "fill", "1M", kind, "--memory", "memfd", "--gap", "--writer", "1000", "--writeset", "64K")
	Until(t, "the writer", func() bool { return p.CmdInts(t, "writes")[0] > 20 })
	p.Cmd(t, "gap reset")
	Until(t, "the gap meter", func() bool {
		gap := p.CmdInts(t, "gap")
		return gap[0] > 1e6 && gap[1] > 0 && gap[2] > 0
	})
	p.Cmd(t, "writer -1")
	f, read := p.Fill(t), reader(t, p)
	if f.Size() != 1<<20 || f.Kind != kind {
		t.Fatalf("fill %v %s", f.Range, f.Kind)
	}
	got, want := make([]byte, procmem.PageSize), make([]byte, procmem.PageSize)
	for i := range int(f.Size() / procmem.PageSize) {
		if err := read(f.Start+procmem.Addr(i)*procmem.PageSize, got); err != nil {
			t.Fatal(err)
		}
		f.Want(want, i)
		if n := procmem.PageSize - 8; !bytes.Equal(got[:n], want[:n]) {
			t.Fatalf("page %d differs", i)
		}
	}
}

func TestSignals(t *testing.T) {
	forEachToolchain(t, func(t *testing.T, tc Toolchain) {
		p := Start(t, Signals.With(tc))
		p.Cmd(t, "send rt0 1000")
		p.Cmd(t, "send rt7 10 %d", p.TID(t, "sig-sleep"))
		p.Cmd(t, "send usr1 1 %d", p.TID(t, "sig-read"))
		var got []int64
		Until(t, "1011 signals", func() bool {
			got = p.CmdInts(t, "counts")
			return got[0] == 1 && got[1] == 1000 && got[8] == 10
		})
		if got[9] != 1000*1001/2+10*11/2 || got[10] != 0 {
			t.Errorf("counts %v; want the sum %d and nothing spurious", got, 1000*1001/2+10*11/2)
		}
		if err := syscall.Kill(p.PID(), syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		Until(t, "SIGUSR1", func() bool { return p.CmdInts(t, "counts")[0] == 2 })
	})
}

func TestKids(t *testing.T) {
	forEachToolchain(t, func(t *testing.T, tc Toolchain) {
		p := Start(t, Kids.With(tc))
		child := int(p.CmdInts(t, "vfork")[0])
		p.WaitState(t, 'D')
		if s := State(child, child); s != 'S' && s != 'R' {
			t.Errorf("child of vfork: state %c", s)
		}
		p.Cmd(t, "release")
		zombie := int(p.CmdInts(t, "zombie")[0])
		if s := State(zombie, zombie); s != 'Z' {
			t.Errorf("zombie: state %c", s)
		}
		p.Cmd(t, "reap")
		tracer := p.CmdInts(t, "trace")[0]
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
		if want := fmt.Sprintf("TracerPid:\t%d\n", tracer); err != nil || !strings.Contains(string(status), want) {
			t.Errorf("no %q in the status", want)
		}
		p.Cmd(t, "reap")
		child = int(p.CmdInts(t, "fork")[0])
		p.Cmd(t, "threads 3")
		tid := int(p.CmdInts(t, "leaderexit")[0])
		if p.State() != 'Z' || State(p.PID(), tid) == 0 {
			t.Errorf("after leaderexit: state %c", p.State())
		}
		p.Cmd(t, "ping")
		p.Send(t, "exec %s", p.Path) // by another thread than the leader, which it becomes
		p.ReadFacts(t)
		if n := len(p.TIDs()); n != 1 || p.Int(t, "pid") != int64(p.PID()) {
			t.Errorf("after exec: %d threads, pid %d", n, p.Int(t, "pid"))
		}
		p.Send(t, "threadexec %s", p.Path)
		p.ReadFacts(t)
		p.Cmd(t, "threads 2")
		p.Cmd(t, "seccomp errno")
		if _, err := p.TryCmd(t, "fork"); err == nil {
			t.Error("fork succeeds under seccomp")
		}
		p.Cmd(t, "threads 1")
		p.Cmd(t, "dumpable 0")
		p.Cmd(t, "compute")
		if err := syscall.Kill(p.PID(), syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		if got := p.Recv(t); got != "done" {
			t.Errorf("after SIGUSR1: %q", got)
		}
		p.Cmd(t, "files 0")
		if _, err := p.TryCmd(t, "trace"); err == nil { // which makes a pipe
			t.Error("a file can be made where none may be")
		}
		p.Send(t, "exit 7")
		if state, err := p.Wait(); err != nil || state.ExitCode() != 7 {
			t.Errorf("exit 7: %v, %v", state, err)
		}
		Until(t, "the end of the child", func() bool { s := State(child, child); return s == 0 || s == 'Z' })
	})
}

// TestParentDies kills a test, of which TestIsParent is the body, and expects
// its helpers to be gone.
func TestParentDies(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestIsParent$")
	cmd.Env = append(os.Environ(), "TESTPROC_IS_PARENT=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	var dirs []string
	for lines := bufio.NewScanner(stdout); lines.Scan() && lines.Text() != "end"; {
		if text, ok := strings.CutPrefix(lines.Text(), "pid "); ok {
			pid, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
		if dir, ok := strings.CutPrefix(lines.Text(), "dir "); ok {
			dirs = append(dirs, dir)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the parent was not killed")
	}
	if len(pids) != len(Variants())+2 {
		t.Errorf("%d helpers; want %d", len(pids), len(Variants())+2)
	}
	for _, pid := range pids {
		Until(t, fmt.Sprintf("the end of %d", pid), func() bool {
			s := State(pid, pid)
			return s == 0 || s == 'Z'
		})
	}
	for _, dir := range dirs {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	}
}

func TestIsParent(t *testing.T) {
	if os.Getenv("TESTPROC_IS_PARENT") == "" {
		t.Skip("the body of TestParentDies")
	}
	for _, v := range Variants() {
		p := Start(t, v, smallArgs[v.Program]...)
		fmt.Printf("dir %s\npid %d\n", p.Dir, p.PID())
	}
	p := Start(t, Kids)
	fmt.Println("dir", p.Dir)
	fmt.Println("pid", p.CmdInts(t, "fork")[0])
	p.Cmd(t, "leaderexit")
	fmt.Println("pid", p.CmdInts(t, "vfork")[0])
	fmt.Println("end")
	_, _ = os.Stdin.Read(make([]byte, 1))
}

// A helper outlives the thread of the test that started it.
func TestStartingThreadEnds(t *testing.T) {
	var p *Proc
	done := make(chan int)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		p = Start(t, Kids)
		done <- syscall.Gettid()
	}()
	tid := <-done
	// The main thread does not end; Go parks it for ever.
	Until(t, "the end of the thread", func() bool { return tid == os.Getpid() || State(os.Getpid(), tid) == 0 })
	p.Cmd(t, "ping")
}

func TestHugePages(t *testing.T) {
	HugePages(t, 1)
	p := Start(t, Zoo, "--nospin", "--only", "huge")
	read, m, got := reader(t, p), p.Map(t, "huge"), make([]byte, procmem.PageSize)
	for i := range m.Pages() {
		if err := read(m.Page(i), got); err != nil || !bytes.Equal(got, p.Want(t, m, i)) {
			t.Fatalf("page %d differs, %v", i, err)
		}
	}
}

func TestAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	cmd := exec.Command(Build(t, Zoo), "--memfd", "1M", "--nospin")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	p := StartCmd(t, cmd)
	var st syscall.Stat_t
	if err := syscall.Stat(fmt.Sprintf("/proc/%d", p.PID()), &st); err != nil || st.Uid != 65534 {
		t.Errorf("uid %d, %v; want 65534", st.Uid, err)
	}
}

// Two that build at once do not disturb each other.
func TestBuildAtOnce(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			path, err := build(Witness)
			if err != nil {
				t.Error(err)
				return
			}
			if fi, err := os.Stat(path); err != nil || fi.Mode()&0o111 == 0 {
				t.Errorf("%s: %v", path, err)
			}
		})
	}
	wg.Wait()
	cache, err := cacheDir()
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(cache); err != nil || len(entries) != 1 {
		t.Errorf("%d entries in the cache, %v; want 1", len(entries), err)
	}
}

func TestRemoveStale(t *testing.T) {
	cache := t.TempDir()
	old := time.Now().Add(-2 * time.Hour)
	gone := strconv.Itoa(1 << 30) // above the largest pid
	for name, want := range map[string]bool{
		"run-" + gone + "-1":                        false,
		"build-" + gone + "-1":                      false,
		"zoo-" + gone + "-1":                        true,
		fmt.Sprintf("run-%d-1", os.Getpid()):        true,
		"zoo-static-pie-0123456789abcdef":           true,
		fmt.Sprintf("run-%s-%s", gone, "just-made"): true,
	} {
		dir := filepath.Join(cache, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(name, "just-made") {
			if err := os.Chtimes(dir, old, old); err != nil {
				t.Fatal(err)
			}
		}
		removeStale(cache)
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("%s: %v; want there: %v", name, err, want)
		}
	}
}

func TestMissingToolchain(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := build(Zoo)
	if _, ok := errors.AsType[*missingError](err); !ok {
		t.Errorf("error %v; want a missing toolchain", err)
	}
}
