package gopcln

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/procmem/procmem/internal/elffile"
	"github.com/procmem/procmem/internal/lines"
)

func open(t testing.TB, path string) *elffile.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	e, err := elffile.Open(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

type stack []uintptr

// take is inlined into its callers, as these are into theirs.
func (s *stack) take() { *s = (*s)[:runtime.Callers(1, *s)] }

func inner(s *stack) { s.take() }

func generic[T any](s *stack, _ T) { inner(s) }

// Functions, lines and inlined calls are those that the runtime itself tells.
func TestRuntime(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	table, err := Open(open(t, self))
	if err != nil {
		t.Fatal(err)
	}
	pcs := make(stack, 100)
	func() { generic(&pcs, 0) }()
	frames := runtime.CallersFrames(pcs)
	var want []lines.Frame
	for {
		f, more := frames.Next()
		want = append(want, lines.Frame{Name: f.Function, File: f.File, Line: f.Line})
		if !more {
			break
		}
	}
	var got []lines.Frame
	for _, pc := range physical(pcs) {
		got = append(got, table.At(uint64(pc)-1)...)
	}
	if len(got) != len(want) {
		t.Errorf("%d frames, want %d", len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if base(got[i].Name) != base(want[i].Name) || got[i].File != want[i].File || got[i].Line != want[i].Line {
			t.Errorf("frame %d: %+v, want %+v", i, got[i], want[i])
		}
	}
}

// base is the name of a function without the arguments of types, which are told in several ways.
func base(name string) string {
	if i, j := strings.IndexByte(name, '['), strings.LastIndexByte(name, ']'); i >= 0 && j > i {
		return name[:i] + name[j+1:]
	}
	return name
}

// physical leaves out what runtime.Callers adds for inlined calls: addresses of the same
// function, whose own frame is the last of them.
func physical(pcs []uintptr) (out []uintptr) {
	for i, pc := range pcs {
		f := runtime.FuncForPC(pc - 1)
		if i == 0 || runtime.FuncForPC(pcs[i-1]-1).Entry() != f.Entry() {
			out = append(out, pc)
		}
	}
	return out
}

// A stripped program tells what its debug information would tell.
func TestStripped(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	text := `package main

import ("fmt"; "os"; "sort"; "strings")

func small(n int) int { return n*3 + n>>2 }

func middle(s []string) (sum int) {
	for _, x := range s { sum += small(len(strings.TrimSpace(x))) }
	return sum
}

func main() {
	sort.Slice(os.Args, func(i, j int) bool { return small(len(os.Args[i])) < small(len(os.Args[j])) })
	fmt.Println(middle(os.Args))
}
`
	if err := os.WriteFile(source, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module main\n\ngo 1.20\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, toolchain := range []string{"local", "go1.20.14", "go1.22.12", "go1.24.9"} {
		for _, mode := range []string{"exe", "pie"} {
			t.Run(toolchain+" "+mode, func(t *testing.T) {
				if toolchain != "local" && (testing.Short() || mode == "pie") {
					t.Skip("it is compiled for minutes")
				}
				build := func(name, flags string) *elffile.File {
					out := filepath.Join(dir, toolchain+mode+name)
					cmd := exec.Command("go", "build", "-buildmode="+mode, "-ldflags="+flags, "-o", out, ".")
					cmd.Env = append(os.Environ(), "GOTOOLCHAIN="+toolchain, "CGO_ENABLED=0", "GOFLAGS=", "GOROOT=")
					cmd.Dir = dir
					if msg, err := cmd.CombinedOutput(); err != nil {
						t.Skipf("%v: %v\n%s", cmd.Args, err, msg)
					}
					return open(t, out)
				}
				compare(t, build("whole", ""), build("stripped", "-s -w"))
			})
		}
	}
}

func compare(t *testing.T, whole, stripped *elffile.File) {
	t.Helper()
	table, err := Open(stripped)
	if err != nil {
		t.Fatal(err)
	}
	same, err := Open(whole)
	if err != nil {
		t.Fatal(err)
	}
	p, err := lines.Open(whole, nil, lines.NewCache(64<<20, 1<<40))
	if err != nil {
		t.Fatal(err)
	}
	shift := table.text - same.text // both were linked alike, but for debug information
	asked, good, inlined := 0, 0, 0
	for i := range same.functions {
		entry := same.text + uint64(same.u32(same.funcs+8*i))
		end := same.text + uint64(same.u32(same.funcs+8*(i+1)))
		for v := entry; v < end; v += max(1, (end-entry)/5) {
			want, err := p.At(v)
			if err != nil {
				t.Fatal(err)
			}
			if want == nil {
				continue
			}
			got := table.At(v + shift)
			if asked++; equal(got, want) {
				good++
			} else if asked-good < 5 {
				t.Logf("%#x: %+v, want %+v", v, got, want)
			}
			if len(want) > 1 {
				inlined++
			}
		}
	}
	t.Logf("%d of %d addresses, %d of them in inlined functions", good, asked, inlined)
	if float64(good) < 0.97*float64(asked) || inlined == 0 {
		t.Errorf("%d of %d addresses are as the debug information has them", good, asked)
	}
}

func equal(got, want []lines.Frame) bool {
	if len(got) != len(want) {
		return false
	}
	for i, g := range got {
		w := want[i]
		if w.Line == 0 { // what compilers make has no line in DWARF
			continue
		}
		if g.Line != w.Line || g.File != w.File || base(g.Name) != base(w.Name) {
			return false
		}
	}
	return true
}
