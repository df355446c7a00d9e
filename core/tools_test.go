package core

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/procmem/procmem"
)

// tool runs a program that is not ours and returns what it says.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip(name, " is not installed")
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBUGINFOD_URLS=", "HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// shell starts a process that says when it is ready and then waits for input.
func shell(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "echo ready; read line")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // the end of the input ends it
		_ = cmd.Wait()
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// gcore takes a core with gdb, and returns what the process' memory was then.
func gcore(t *testing.T) (pid int, path string, mem *os.File) {
	t.Helper()
	pid = shell(t)
	path = filepath.Join(t.TempDir(), "core")
	if _, err := exec.LookPath("gcore"); err != nil {
		t.Skip("gcore is not installed")
	}
	tool(t, "gcore", "-o", path, strconv.Itoa(pid))
	mem, err := os.Open("/proc/" + strconv.Itoa(pid) + "/mem")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mem.Close() })
	return pid, path + "." + strconv.Itoa(pid), mem
}

func TestReadGcore(t *testing.T) {
	pid, path, mem := gcore(t)
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img := f.Image()
	exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	if err != nil {
		t.Fatal(err)
	}
	if img.Process.PID != pid || img.Exe != exe || len(img.Threads) != 1 || img.Threads[0].TID != pid || img.Process.PPID != os.Getpid() {
		t.Errorf("process %+v, executable %q, %d threads", img.Process, img.Exe, len(img.Threads))
	}
	if f.Report() != nil || f.Truncated() != nil {
		t.Errorf("report %v, truncated %v", f.Report(), f.Truncated())
	}
	pc, sp, ok := img.Arch.PC(&img.Threads[0])
	if !ok {
		t.Fatal("no registers")
	}
	maps, _ := f.Mappings()
	names := map[string]int{}
	for i, m := range maps {
		names[m.Path]++
		if m.Path == "[stack]" && !m.Contains(sp) {
			t.Errorf("[stack] %v does not hold sp %v", m.Range, sp)
		}
		if i > 0 && m.Start < maps[i-1].End {
			t.Errorf("%v overlaps", m.Range)
		}
	}
	if names["[vdso]"] != 1 || names["[stack]"] != 1 || names[exe] == 0 {
		t.Errorf("mappings %v", names)
	}
	if _, err := f.ReadAt(make([]byte, 1), pc); err != nil && procmem.Cause(err) != procmem.ErrNotDumped {
		t.Errorf("pc %v: %v", pc, err)
	}
	// The kernel writes the number of the CPU into the process' rseq area
	// whenever it goes on, so these few bytes may have changed since.
	const rseqSize = 32
	compared, changed := 0, 0
	for _, s := range f.Segments() {
		if !s.Dumped {
			continue
		}
		want, got := make([]byte, s.Size()), make([]byte, s.Size())
		if _, err := mem.ReadAt(want, int64(s.Start)); err != nil {
			continue // [vvar], [vsyscall]
		}
		if _, err := f.ReadAt(got, s.Start); err != nil {
			t.Errorf("%v: %v", s.Range, err)
		}
		for i := range got {
			if got[i] != want[i] {
				changed++
			}
		}
		compared++
	}
	if changed > rseqSize {
		t.Errorf("%d bytes differ from the process", changed)
	}
	if compared < 5 {
		t.Errorf("only %d segments compared", compared)
	}
}

// rewrite makes a core of ours out of the one of gdb.
func rewrite(t *testing.T, f *File, stream bool) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ours")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	// A core does not tell which pages were private, and without that Select
	// would leave out read-only ones such as those of the linker (RELRO).
	img := *f.Image()
	img.Mappings = slices.Clone(img.Mappings)
	for i := range img.Mappings {
		m := &img.Mappings[i]
		m.Usage = &procmem.Usage{}
		if _, err := f.ReadAt(make([]byte, m.Size()), m.Start); err == nil {
			m.Usage.Anonymous = m.Size()
		}
	}
	segs := Select(&img, f, FilterDefault)
	w := mustFile(t, out, &img, segs)
	if stream {
		w = mustStream(t, out, &img, segs)
	}
	if err := w.Copy(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(&img, &Report{Version: "test", Method: "stop"}); err != nil {
		t.Fatal(err)
	}
	return path
}

// What gdb says about a core of ours is what it says about its own, and the
// other readers find nothing to complain about.
func TestToolsReadOurs(t *testing.T) {
	_, theirs, _ := gcore(t)
	f, err := Open(theirs)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	questions := func(path string) []string {
		return []string{"-nx", "-batch", "-ex", "bt", "-ex", "info threads", "-ex", "info registers", "-ex", "info auxv",
			"-ex", "p $_siginfo.si_signo", "-ex", "x/64gx $sp", "-ex", "info sharedlibrary", f.Image().Exe, path}
	}
	for name, stream := range map[string]bool{"file": false, "stream": true} {
		t.Run(name, func(t *testing.T) {
			ours := rewrite(t, f, stream)
			t.Run("readelf", func(t *testing.T) {
				out := tool(t, "readelf", "-W", "-h", "-l", "-n", ours)
				if strings.Contains(strings.ToLower(out), "warning") || strings.Contains(out, "rror") || !strings.Contains(out, "NT_PRSTATUS") {
					t.Error(out)
				}
			})
			t.Run("eu-readelf", func(t *testing.T) {
				out := tool(t, "eu-readelf", "-n", ours)
				for _, want := range []string{"PRSTATUS", "PRPSINFO", "SIGINFO", "AUXV", "FILE", f.Image().Exe, "procmem"} {
					if !strings.Contains(out, want) {
						t.Errorf("no %s in\n%s", want, out)
					}
				}
				if strings.Contains(out, "invalid") || strings.Contains(out, "<unknown>: 0") {
					t.Error(out)
				}
			})
			t.Run("gdb", func(t *testing.T) {
				got, want := tool(t, "gdb", questions(ours)...), tool(t, "gdb", questions(theirs)...)
				if strings.Contains(got, "arning") && !strings.Contains(want, "arning") {
					t.Error(got)
				}
				skip := func(s string) string {
					var keep []string
					for line := range strings.Lines(s) {
						if !strings.HasPrefix(line, "Core was") && !strings.HasPrefix(line, "Program terminated") {
							keep = append(keep, line)
						}
					}
					return strings.Join(keep, "")
				}
				if skip(got) != skip(want) {
					t.Errorf("of ours:\n%s\nof its own:\n%s", got, want)
				}
			})
			t.Run("lldb", func(t *testing.T) {
				out := tool(t, "lldb", "-b", "-o", "bt", "-o", "register read rip", "-c", ours, f.Image().Exe)
				if !strings.Contains(out, "frame #0") || strings.Contains(out, "error:") {
					t.Error(out)
				}
			})
		})
	}
}

// saved writes a core of the fake process and returns its path.
func saved(t *testing.T, img *procmem.Image, mem procmem.Memory) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "core")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w := mustFile(t, out, img, Select(img, mem, FilterDefault))
	if err := w.Copy(t.Context(), mem); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(img, &Report{}); err != nil {
		t.Fatal(err)
	}
	return path
}

// Other architectures, and more segments than e_phnum can say.
func TestToolsReadFakes(t *testing.T) {
	many := newFake()
	for i := range procmem.Addr(70_000) {
		perm := rw
		if i%2 == 1 {
			perm = procmem.PermRead
		}
		many.maps = append(many.maps, anon(0x100000+i*page, 0x101000+i*page, perm, ""))
	}
	many.pages[0x100000+69_999*page] = bytes.Repeat([]byte{0x5a}, page)
	manyCore := saved(t, fakeImage(procmem.AMD64, many.maps), many)
	img386, mem386 := scene(procmem.I386)
	core386 := saved(t, img386, mem386)
	imgARM, memARM := scene(procmem.ARM64)
	coreARM := saved(t, imgARM, memARM)
	last := procmem.Addr(0x100000 + 69_999*page).String()

	for _, c := range []struct {
		name string
		args []string
		want []string
	}{
		{"readelf", []string{"-W", "-h", "-l", "-n", manyCore}, []string{"(70002)"}},
		{"eu-readelf", []string{"-l", manyCore}, []string{strings.TrimPrefix(last, "0x")}},
		{"gdb", []string{"-nx", "-batch", "-ex", "x/1xb " + last, "-ex", "info threads", "-c", manyCore}, []string{"0x5a", "LWP 42"}},
		{"readelf", []string{"-W", "-h", "-l", "-n", core386}, []string{"ELF32", "NT_PRSTATUS", "NT_PRPSINFO"}},
		{"eu-readelf", []string{"-n", core386}, []string{"PRSTATUS", "eip:", "fname: fake", "PRPSINFO"}},
		// The registers of fakeImage are bytes that count up from 1.
		{"gdb", []string{"-nx", "-batch", "-ex", "info registers eip", "-ex", "x/1xw 0x1000000", "-c", core386}, []string{"0x34333231", "0x01000001"}},
		{"readelf", []string{"-W", "-h", "-l", "-n", coreARM}, []string{"AArch64", "NT_PRSTATUS"}},
		{"eu-readelf", []string{"-n", coreARM}, []string{"PRSTATUS", "x30:", "fname: fake"}},
	} {
		t.Run(c.name+" "+filepath.Base(filepath.Dir(c.args[len(c.args)-1])), func(t *testing.T) {
			out := tool(t, c.name, c.args...)
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%.3000s", want, out)
				}
			}
			if c.name != "gdb" && (strings.Contains(out, "arning") || strings.Contains(out, "invalid")) {
				t.Errorf("%.3000s", out)
			}
		})
	}
}
