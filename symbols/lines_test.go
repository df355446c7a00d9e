package symbols

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
)

// runTool runs a tool that makes a test's files, or skips the test.
func runTool(t *testing.T, name string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skip(err)
	}
	cmd := exec.Command(name, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
}

// linesOf starts a program and returns its Lines, and the address at which its file's addresses
// begin.
func linesOf(t *testing.T, path string, d Debug) (*Lines, uint64) {
	t.Helper()
	p := testproc.StartCmd(t, exec.Command(path))
	v, ms := view(t, p)
	if d.PID == 0 {
		d.PID = p.PID()
	}
	l := New(ms, OfProcess(p.PID(), v)).Lines(d)
	t.Cleanup(func() { l.Close() })
	return l, baseOf(t, ms, path, false)
}

// function returns where a function is in a file that has symbols.
func function(t *testing.T, path, name string) uint64 {
	t.Helper()
	for _, s := range list(t, path) {
		if s.name == name {
			return s.value
		}
	}
	t.Fatalf("%s has no %s", path, name)
	return 0
}

// strip makes a copy of a program without debug information and symbols, with what else objcopy
// is told to do, and returns its path and that of the debug file.
func strip(t *testing.T, v testproc.Variant, args ...string) (path, debug string) {
	t.Helper()
	path = copyProgram(t, v)
	debug = path + ".debug"
	runTool(t, "objcopy", "--only-keep-debug", path, debug)
	runTool(t, "objcopy", append(append([]string{"--strip-all"}, args...), path)...)
	return path, debug
}

// check asks for an address 4 bytes into main, of which the answer must be whole.
func check(t *testing.T, l *Lines, at uint64, whole bool) {
	t.Helper()
	got := l.At(context.Background(), procmem.Addr(at+4))
	if len(got) == 0 {
		t.Fatal("nothing is known")
	}
	last := got[len(got)-1]
	if last.Function != "main" || last.Symbol != "main" || last.Offset != 4 {
		t.Errorf("%+v", got)
	}
	if whole != (strings.HasSuffix(last.File, "/kids.c") && last.Line > 0) {
		t.Errorf("%+v", got)
	}
}

// A program tells its own functions and lines.
func TestLines(t *testing.T) {
	path := testproc.Build(t, testproc.Kids)
	l, base := linesOf(t, path, Debug{})
	check(t, l, base+function(t, path, "main"), true)
	if got := l.At(context.Background(), 0x1000); got != nil {
		t.Errorf("%+v", got)
	}
	if m := l.Missing(); len(m) != 0 {
		t.Errorf("%+v", m)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if got := l.At(ctx, procmem.Addr(base+function(t, path, "main")+8)); len(got) != 1 || got[0].Function != "main" {
		t.Errorf("without time: %+v", got)
	}
}

// A stripped program is told of by the file that .gnu_debuglink names, if its build id or its
// checksum says that it is the one.
func TestDebugLink(t *testing.T) {
	for name, c := range map[string]struct {
		noBuildID, damage, other, found bool
	}{
		"build id":         {found: true},
		"checksum":         {noBuildID: true, found: true},
		"another checksum": {noBuildID: true, damage: true},
		"another build":    {other: true},
	} {
		t.Run(name, func(t *testing.T) {
			path := copyProgram(t, testproc.Kids)
			debug := filepath.Join(filepath.Dir(path), ".debug", "program.debug")
			if err := os.Mkdir(filepath.Dir(debug), 0o755); err != nil {
				t.Fatal(err)
			}
			main := function(t, path, "main")
			if c.noBuildID {
				runTool(t, "objcopy", "--remove-section=.note.gnu.build-id", path)
			}
			runTool(t, "objcopy", "--only-keep-debug", path, debug)
			runTool(t, "objcopy", "--strip-all", "--add-gnu-debuglink="+debug, path)
			if c.damage {
				f, err := os.OpenFile(debug, os.O_APPEND|os.O_WRONLY, 0)
				if err != nil {
					t.Fatal(err)
				}
				if _, err = f.WriteString("more"); errors.Join(err, f.Close()) != nil {
					t.Fatal(err)
				}
			}
			if c.other {
				runTool(t, "objcopy", "--only-keep-debug", testproc.Build(t, testproc.Zoo), debug)
			}
			l, base := linesOf(t, path, Debug{})
			if c.found {
				check(t, l, base+main, true)
				return
			}
			if got := l.At(context.Background(), procmem.Addr(base+main)); got != nil {
				t.Errorf("%+v", got)
			}
			if m := l.Missing(); len(m) != 1 || m[0].Path != path || !errors.Is(m[0].Err, errNoDebugFile) {
				t.Errorf("%+v", m)
			}
		})
	}
}

// A stripped program with .gnu_debugdata has names.
func TestDebugdata(t *testing.T) {
	path := copyProgram(t, testproc.Kids)
	main := function(t, path, "main")
	mini := path + ".mini"
	runTool(t, "objcopy", "--strip-debug", path, mini)
	runTool(t, "xz", "--keep", mini)
	runTool(t, "objcopy", "--strip-all", "--add-section", ".gnu_debugdata="+mini+".xz", path)
	l, base := linesOf(t, path, Debug{})
	check(t, l, base+main, false)
	if m := l.Missing(); len(m) != 1 || len(m[0].BuildID) != 20 {
		t.Errorf("%+v", m)
	}
}

// A server is asked once for a build id, only if it is told to, and what it sends is kept.
func TestDebuginfod(t *testing.T) {
	path, debug := strip(t, testproc.Kids)
	main := function(t, testproc.Build(t, testproc.Kids), "main")
	asked := atomic.Int32{}
	send := func(b []byte, err error) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			if err != nil || !strings.HasPrefix(r.URL.Path, "/buildid/") || !strings.HasSuffix(r.URL.Path, "/debuginfo") {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			_, _ = w.Write(b)
		}
	}
	good := httptest.NewServer(send(os.ReadFile(debug)))
	defer good.Close()
	other := httptest.NewServer(send(os.ReadFile(testproc.Build(t, testproc.Zoo))))
	defer other.Close()
	unknown := httptest.NewServer(send(nil, os.ErrNotExist))
	defer unknown.Close()

	cache := t.TempDir()
	l, base := linesOf(t, path, Debug{Cache: cache})
	if got := l.At(context.Background(), procmem.Addr(base+main)); got != nil || asked.Load() != 0 {
		t.Errorf("nobody may be asked: %+v", got)
	}
	l, base = linesOf(t, path, Debug{Cache: t.TempDir(), Servers: []string{other.URL}})
	if got := l.At(context.Background(), procmem.Addr(base+main)); got != nil {
		t.Errorf("by the file of another build: %+v", got)
	}
	asked.Store(0)
	for range 2 {
		l, base = linesOf(t, path, Debug{Cache: cache, Servers: []string{unknown.URL, good.URL + "/"}})
		check(t, l, base+main, true)
	}
	if asked.Load() != 2 {
		t.Errorf("servers were asked %d times", asked.Load())
	}
}

// A server that never answers takes no more time than the caller has.
func TestDebuginfodHangs(t *testing.T) {
	path, _ := strip(t, testproc.Kids)
	began, release := make(chan bool, 1), make(chan bool)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		began <- true
		<-release
	}))
	defer server.Close()
	defer close(release)
	l, base := linesOf(t, path, Debug{Cache: t.TempDir(), Servers: []string{server.URL}})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-began
		cancel()
	}()
	if got := l.At(ctx, procmem.Addr(base+function(t, testproc.Build(t, testproc.Kids), "main"))); got != nil {
		t.Errorf("%+v", got)
	}
}

// A file that two debug files have in common (dwz(1)) has names of inlined functions.
func TestAlt(t *testing.T) {
	dir := t.TempDir()
	var files []string
	for _, v := range []testproc.Variant{testproc.Kids, testproc.Zoo} {
		path := copyProgram(t, v)
		runTool(t, "objcopy", "--decompress-debug-sections", path)
		files = append(files, path)
	}
	common := filepath.Join(dir, "common")
	runTool(t, "dwz", append([]string{"-m", common}, files...)...)
	l, base := linesOf(t, files[0], Debug{})
	if !hasSection(t, files[0], ".gnu_debugaltlink") {
		t.Skip("dwz has found nothing in common")
	}
	check(t, l, base+function(t, files[0], "main"), true)
	if l.modules[0].alt == nil {
		t.Error("the common file was not read")
	}
}

func hasSection(t *testing.T, path, name string) bool {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return f.Section(name) != nil
}

// Code that the process has compiled is named by its perf map, which may grow. The map of
// another user, or one that is no regular file, is not taken.
func TestPerfMap(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	code := procmem.Mapping{Range: procmem.Range{Start: 0x10000, End: 0x20000}, Perm: procmem.PermRead | procmem.PermExec}
	data := procmem.Mapping{Range: procmem.Range{Start: 0x20000, End: 0x30000}, Perm: procmem.PermRead}
	path := fmt.Sprintf("/tmp/perf-%d.map", p.PID())
	t.Cleanup(func() { os.Remove(path) })
	fresh := func() *Lines {
		l := New([]procmem.Mapping{code, data}, OfProcess(p.PID(), nil)).Lines(Debug{PID: p.PID()})
		t.Cleanup(func() { l.Close() })
		return l
	}
	name := func(l *Lines, a procmem.Addr) string {
		got := l.At(context.Background(), a)
		if len(got) == 0 {
			return ""
		}
		return fmt.Sprintf("%s+%d", got[0].Function, got[0].Offset)
	}
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := fresh()
	if got := name(l, 0x10008); got != "" {
		t.Error(got)
	}
	write("10000 10 old\n10000 20 LazyCompile:~f /a b.js:3\nbroken\n20000 10 data\n")
	if got := name(l, 0x10008); got != "LazyCompile:~f /a b.js:3+8" {
		t.Error(got)
	}
	if got := name(l, 0x20008); got != "" {
		t.Errorf("data is %s", got)
	}
	if got := name(l, 0x10108); got != "" {
		t.Error(got)
	}
	write("10000 20 f\n10100 0x10 g\n")
	if got := name(l, 0x10108); got != "g+8" {
		t.Error(got)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		if got := name(fresh(), 0x10108); got != "" {
			t.Errorf("by another user's file: %s", got)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	runTool(t, "mkfifo", path)
	if got := name(fresh(), 0x10108); got != "" {
		t.Errorf("by a pipe: %s", got)
	}
}

// Names are as in the source, and what cannot be read stays as it is.
func TestDemangled(t *testing.T) {
	for name, want := range map[string]string{
		"main": "main", "": "", "_ZN5outer5failsEi": "outer::fails", "_Z": "_Z", "_Rx": "_Rx",
		"_ZN4core3ptr19swap_nonoverlapping17h28a68c17ff59906dE": "core::ptr::swap_nonoverlapping",
		"_RNvMs7_NtCsgEmfK2I1SDS_4core3numy11checked_rem":       "<u64>::checked_rem",
		"_ZN5outer5failsEi.cold":                                "outer::fails",
		"runtime.memmove.abi0":                                  "runtime.memmove",
		"slices.Sort[go.shape.[]int,go.shape.int]":              "slices.Sort[...]",
		"[odd]": "[odd]",
	} {
		if got := demangled(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	// Substitutions make long names of short ones.
	hostile := "_Z1fI1AE" + strings.Repeat("S_S0_", 400)
	bomb := bytes.Buffer{}
	bomb.WriteString("_Z1fI")
	for i := range 60 {
		fmt.Fprintf(&bomb, "1tIS%d_S%d_E", i, i)
	}
	for _, name := range []string{hostile, bomb.String(), "_R" + strings.Repeat("INvB", 1000)} {
		began := processorTime()
		if got := demangled(name); len(got) > 4<<10 {
			t.Errorf("%d bytes", len(got))
		}
		if took := processorTime() - began; took > 2*time.Second {
			t.Errorf("took %v", took)
		}
	}
}

// oneFile is a file that counts how often it is open.
type oneFile struct {
	*bytes.Reader
	open *atomic.Int32
}

func (f oneFile) Close() error { f.open.Add(-1); return nil }

// No more files are open than the bound, whatever the process has mapped, and none in the end.
func TestLinesAreBounded(t *testing.T) {
	e := elfSpec{wide: true, symbols: []testSymbol{{"text", 0x1010, 0x10, 1, 0x12}}}
	b := e.bytes()
	var ms []procmem.Mapping
	for i := range procmem.Addr(3 * maxModules) {
		ms = append(ms, procmem.Mapping{Range: procmem.Range{Start: 0x100000 + i*0x10000, End: 0x102000 + i*0x10000}, Path: fmt.Sprintf("/lib%d", i), Inode: uint64(i) + 1, Perm: procmem.PermExec})
	}
	var open atomic.Int32
	l := New(ms, func(*procmem.Mapping) (File, error) {
		open.Add(1)
		return oneFile{bytes.NewReader(b), &open}, nil
	}).Lines(Debug{})
	for round := range 2 {
		for _, m := range ms {
			if got := l.At(context.Background(), m.Start+0x1014); len(got) != 1 || got[0].Function != "text" || got[0].Offset != 4 {
				t.Fatalf("round %d, %v: %+v", round, m.Start, got)
			}
			if n := open.Load(); n > maxModules {
				t.Fatalf("%d files are open", n)
			}
		}
	}
	if n := len(l.Missing()); n == 0 || n > maxModules {
		t.Errorf("%d files have no debug information", n)
	}
	if err := l.Close(); err != nil || open.Load() != 0 {
		t.Errorf("%d files are open, %v", open.Load(), err)
	}
	if got := l.At(context.Background(), ms[0].Start+0x1015); len(got) != 1 || open.Load() != 0 {
		t.Errorf("after Close: %+v, %d files are open", got, open.Load())
	}
}

// silentFile has symbols, and never answers once it is asked for more.
type silentFile struct {
	*bytes.Reader
	first bool
	asked chan bool
	never chan bool
}

func (f silentFile) ReadAt(p []byte, off int64) (int, error) {
	if !f.first {
		f.asked <- true
		<-f.never
	}
	return f.Reader.ReadAt(p, off)
}

func (silentFile) Close() error { return nil }

// A file that does not answer keeps nobody: the symbol is told when the caller's time is over.
func TestLinesOfSilentFile(t *testing.T) {
	e := elfSpec{wide: true, symbols: []testSymbol{{"text", 0x1010, 0x10, 1, 0x12}}}
	ms := []procmem.Mapping{{Range: procmem.Range{Start: 0x100000, End: 0x102000}, Path: "/lib", Inode: 1, Perm: procmem.PermExec}}
	asked, never := make(chan bool, 1), make(chan bool)
	defer close(never)
	opened := 0
	l := New(ms, func(*procmem.Mapping) (File, error) {
		opened++
		return silentFile{bytes.NewReader(e.bytes()), opened == 1, asked, never}, nil
	}).Lines(Debug{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-asked
		cancel()
	}()
	for range 2 {
		if got := l.At(ctx, 0x101014); len(got) != 1 || got[0].Function != "text" {
			t.Errorf("%+v", got)
		}
	}
	if err := l.Close(); !errors.Is(err, errNoAnswer) {
		t.Error(err)
	}
}
