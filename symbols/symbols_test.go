package symbols

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/regular"
	"github.com/procmem/procmem/internal/testproc"
	"github.com/procmem/procmem/process"
)

// view opens the memory of a helper program.
func view(t testing.TB, p *testproc.Proc) (*process.View, []procmem.Mapping) {
	t.Helper()
	proc, err := process.Open(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proc.Close() })
	v, err := proc.View()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	ms, err := v.Mappings()
	if err != nil {
		t.Fatal(err)
	}
	return v, ms
}

// listed is a line of readelf(1).
type listed struct {
	value, size uint64
	name        string
}

// list returns the symbols of code and data that have sizes, by readelf(1).
func list(t *testing.T, path string) (out []listed) {
	t.Helper()
	if _, err := exec.LookPath("readelf"); err != nil {
		t.Skip(err)
	}
	text, err := exec.Command("readelf", "-sW", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 8 || !slices.Contains([]string{"FUNC", "OBJECT", "IFUNC"}, f[3]) || f[6] == "UND" || f[6] == "ABS" {
			continue
		}
		value, err1 := strconv.ParseUint(f[1], 16, 64)
		size, err2 := strconv.ParseUint(f[2], 0, 64)
		if err1 != nil || err2 != nil {
			t.Fatalf("readelf: %q", line)
		}
		if size > 0 {
			name, _, _ := strings.Cut(strings.Join(f[7:], " "), "@")
			out = append(out, listed{value, size, name})
		}
	}
	return out
}

// baseOf returns where a program is loaded.
func baseOf(t *testing.T, ms []procmem.Mapping, path string, fixed bool) uint64 {
	t.Helper()
	for i := range ms {
		if ms[i].Path == path {
			if fixed {
				return 0
			}
			return uint64(ms[i].Start)
		}
	}
	t.Fatalf("no mapping of %s", path)
	return 0
}

// Every symbol that readelf(1) lists of a program is found at its address in the
// process, in its middle and not behind its end, by whatever way the file is
// had.
func TestPrograms(t *testing.T) {
	variants := []testproc.Variant{testproc.GoProg}
	for _, tc := range testproc.Toolchains() {
		variants = append(variants, testproc.Zoo.With(tc))
	}
	for _, variant := range variants {
		t.Run(variant.String(), func(t *testing.T) {
			p := testproc.Start(t, variant, "--nospin")
			v, ms := view(t, p)
			fixed := variant.Toolchain == testproc.NoPIE || variant.Toolchain == testproc.Go
			base := baseOf(t, ms, p.Path, fixed)
			all := list(t, p.Path)
			byName := map[string][]uint64{}
			for _, s := range all {
				byName[s.name] = append(byName[s.name], base+s.value)
			}
			openers := map[string]Opener{"process": OfProcess(p.PID(), v)}
			if variant.Toolchain != testproc.Go && variant.Toolchain != testproc.Musl { // whose linkers make no such build id
				openers["core"] = OfCore(v)
			}
			for how, open := range openers {
				tab := New(ms, open)
				for _, s := range all {
					a := procmem.Addr(base + s.value)
					for _, off := range []uint64{0, s.size / 2, s.size - 1} {
						name, got, ok := tab.Lookup(a + procmem.Addr(off))
						// Another name may begin at the same place, or inside.
						at := uint64(a) + off - got
						if !ok || got > off || !slices.Contains(byName[name], at) {
							t.Errorf("%s: %v+%#x is %s+%#x, %v; readelf says %s", how, a, off, name, got, ok, s.name)
						}
					}
					if found := tab.Find(s.name); !slices.ContainsFunc(found, func(f Symbol) bool { return f.Start == a && f.Size() == s.size }) {
						t.Fatalf("%s: Find(%s): %v; readelf says %v", how, s.name, found, a)
					}
				}
				if len(all) < 50 {
					t.Errorf("readelf lists %d symbols", len(all))
				}
			}
		})
	}
}

// Symbols of libraries, of the vdso, and none in memory that belongs to no file.
func TestLibraries(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin")
	v, ms := view(t, p)
	tab := New(ms, OfProcess(p.PID(), v))
	for _, c := range []struct{ name, file string }{{"malloc", "libc.so.6"}, {"_rtld_global", "ld-linux"}, {"__vdso_clock_gettime", "[vdso]"}} {
		found := tab.Find(c.name)
		if len(found) != 1 || !strings.Contains(found[0].File, c.file) {
			t.Errorf("Find(%s): %v", c.name, found)
			continue
		}
		name, off, ok := tab.Lookup(found[0].Start + 1)
		if !ok || off != 1 || name != c.name && name != strings.TrimPrefix(c.name, "__vdso_") {
			t.Errorf("%s+1 is %s+%d, %v", c.name, name, off, ok)
		}
	}
	anon := p.Map(t, "anon")
	heap := ms[slices.IndexFunc(ms, func(m procmem.Mapping) bool { return m.Path == "[heap]" })]
	stack := ms[slices.IndexFunc(ms, func(m procmem.Mapping) bool { return m.Path == "[stack]" })]
	for _, a := range []procmem.Addr{0, 0x1000, anon.Start, anon.End, heap.Start, heap.End - 1, stack.End - 8, 1<<64 - 1} {
		if name := tab.Name(a); name != "" {
			t.Errorf("%v is %s", a, name)
		}
	}
	if got := tab.Find("no_such_symbol"); len(got) != 0 {
		t.Error(got)
	}
	main := tab.Find("main")
	if len(main) != 1 || tab.Name(main[0].Start) != "main" || tab.Name(main[0].Start+0x11) != "main+0x11" {
		t.Errorf("main: %v", main)
	}
}

// copyProgram puts a program elsewhere, so that it can be changed.
func copyProgram(t *testing.T, v testproc.Variant) string {
	t.Helper()
	b, err := os.ReadFile(testproc.Build(t, v))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// A file that has another's name by now is never taken for it, and one that has
// no name left is still found by who may.
func TestReplacedFile(t *testing.T) {
	path := copyProgram(t, testproc.Kids)
	p := testproc.StartCmd(t, exec.Command(path))
	v, ms := view(t, p)
	base := baseOf(t, ms, path, false)
	var main listed
	for _, s := range list(t, path) {
		if s.name == "main" {
			main = s
		}
	}
	a := procmem.Addr(base + main.value)
	if got := New(ms, OfCore(v)).Name(a); got != "main" {
		t.Fatalf("before: %q", got)
	}
	other, err := os.ReadFile(testproc.Build(t, testproc.Zoo))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", other, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	if got := New(ms, OfCore(v)).Name(a); got != "" {
		t.Errorf("by the build id: %q", got)
	}
	i := slices.IndexFunc(ms, func(m procmem.Mapping) bool { return m.Path == path })
	if f, err := openBelowRoot(p.PID(), path); err != nil || f.inode == ms[i].Inode {
		t.Errorf("by the inode: %v", err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/map_files/%x-%x", p.PID(), uint64(ms[i].Start), uint64(ms[i].End))); err != nil {
		t.Skip("map_files are not for us:", err)
	}
	if got := New(ms, OfProcess(p.PID(), v)).Name(a); got != "main" {
		t.Errorf("of the process: %q", got)
	}
}

// A file with the same headers and another build id, or none, is another file.
func TestSameFile(t *testing.T) {
	e := elfSpec{wide: true, buildID: []byte("0123456789")}
	e.symbols = []testSymbol{{"f", 0x1000, 8, 1, 0x12}}
	file := e.bytes()
	mem := fakeMemory{0x10000: file}
	m := &procmem.Mapping{Range: procmem.Range{Start: 0x10000, End: 0x10000 + procmem.Addr(len(file))}, Path: filepath.Join(t.TempDir(), "file")}
	check := func(what string, b []byte, process, core bool) {
		t.Helper()
		f := newBytesFile(b)
		if got := sameFile(f, mem, m); got != process {
			t.Errorf("%s of a process: %v", what, got)
		}
		if err := os.WriteFile(m.Path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		found, err := OfCore(mem)(m)
		if got := err == nil; got != core {
			t.Errorf("%s of a core: %v, %v", what, got, err)
		}
		if err == nil {
			found.Close()
		}
	}
	check("the same", file, true, true)
	other := e
	other.buildID = []byte("0123456780")
	check("another build", other.bytes(), false, false)
	other.buildID = nil
	check("no build id", other.bytes(), false, false)
	check("no ELF file", []byte("#!/bin/sh\n"), false, false)
	headers := e.bytes()
	headers[0x100+48]++ // the alignment of a segment
	check("other headers", headers, false, false)
	mem[0x10000] = other.bytes()
	check("no build id in memory", file, false, false)
	check("no build id anywhere", other.bytes(), true, false)
	delete(mem, 0x10000)
	check("not in memory", file, true, false)
}

// A file that is loaded twice has its symbols at both places; one that is only
// mapped as data has none where a loader would have put something else.
func TestPlaces(t *testing.T) {
	e := elfSpec{wide: true}
	e.symbols = []testSymbol{{"text", 0x1010, 0x10, 1, 0x12}, {"data", 0x3010, 8, 2, 0x11}, {"bss", 0x4800, 8, 2, 0x11}, {"far", 0x6010, 8, 2, 0x11}}
	file := newBytesFile(e.bytes())
	m := func(start, end procmem.Addr, off uint64, path string) procmem.Mapping {
		mm := procmem.Mapping{Range: procmem.Range{Start: start, End: end}, Offset: off, Path: path}
		if strings.HasPrefix(path, "/") {
			mm.Inode = 5
		}
		return mm
	}
	ms := []procmem.Mapping{
		m(0x10000, 0x12000, 0, "/lib"), m(0x13000, 0x14000, 0x2000, "/lib"), m(0x14000, 0x15000, 0, ""), // once, with .bss
		m(0x20000, 0x22000, 0, "/lib"), m(0x23000, 0x24000, 0x2000, "/lib"), m(0x24000, 0x25000, 0, "[anon:.bss]"), // twice
		m(0x25000, 0x26000, 0, "[heap]"),
		m(0x30000, 0x33000, 0, "/lib"), // as data
		m(0x3a000, 0x3b000, 0, ""),
		m(0xfffffffffffef000, 0xffffffffffff1000, 0, "/lib"), m(0xffffffffffff2000, 0xffffffffffff3000, 0x2000, "/lib"),
		m(0xffffffffffff5000, 0xffffffffffff6000, 0, ""), // touches nothing
	}
	tab := New(ms, func(*procmem.Mapping) (File, error) { return file, nil })
	for a, want := range map[procmem.Addr]string{
		0x11010: "text", 0x1101f: "text+0xf", 0x11020: "", 0x13010: "data", 0x14800: "bss", 0x14808: "",
		0x21010: "text", 0x23011: "data+0x1", 0x24800: "bss", 0x25800: "",
		0x31010: "text", 0x32010: "", 0x33010: "", 0x3a800: "", // the data is at 0x32010 there, and has no address
		0xffffffffffff0010: "text", 0xffffffffffff2010: "data", 0xffffffffffff5010: "",
	} {
		if got := tab.Name(a); got != want {
			t.Errorf("%v is %q, want %q", a, got, want)
		}
	}
	var at []procmem.Addr
	for _, s := range tab.Find("bss") {
		at = append(at, s.Start)
	}
	if !slices.Equal(at, []procmem.Addr{0x14800, 0x24800}) {
		t.Errorf("bss is at %v", at)
	}
}

// Which of several names an address goes by.
func TestChoice(t *testing.T) {
	const local, global, weak = 0x00, 0x10, 0x20
	const notype, object, function, section, file, tls = 0, 1, 2, 3, 4, 6
	for _, wide := range []bool{true, false} {
		e := elfSpec{wide: wide}
		e.symbols = []testSymbol{
			{"__libc_malloc", 0x1000, 0x20, 1, global | function},
			{"malloc", 0x1000, 0x20, 1, weak | function},
			{"__malloc", 0x1000, 0x20, 1, local | function},
			{"label", 0x1000, 0, 1, local | notype},
			{"inner", 0x1008, 4, 1, local | function},
			{"asm", 0x1100, 0, 1, global | notype},
			{"$x", 0x1108, 0, 1, local | notype},
			{".L5", 0x110a, 0, 1, local | notype},
			{"entry", 0x1114, 0, 1, global | notype},
			{"next", 0x1110, 0x10, 1, global | function},
			{"versioned@@GLIBC_2.2", 0x1200, 8, 1, global | function},
			{"__bss_start", 0x3000, 0, 2, global | notype},
			{"table", 0x3008, 0x10, 2, global | object},
			{"errno", 0x10, 4, 2, global | tls},
			{"source.c", 0, 0, 0xfff1, local | file},
			{"", 0x3000, 0, 2, local | section},
			{"undefined", 0, 0, 0, global | function},
			{"wraps", ^uint64(0) - 3, 16, 1, global | function},
		}
		o, err := readObject(newBytesFile(e.bytes()), int64(len(e.bytes())), all())
		if err != nil {
			t.Fatal(err)
		}
		for v, want := range map[uint64]string{
			0xfff: "", 0x1000: "malloc+0", 0x1008: "inner+0", 0x100b: "inner+3", 0x100c: "malloc+12", 0x101f: "malloc+31", 0x1020: "",
			0x1100: "asm+0", 0x110f: "asm+15", 0x1110: "next+0", 0x1118: "next+8", 0x1120: "", 0x1204: "versioned+4",
			0x3000: "", 0x3008: "table+0", 0x3018: "", 0x10: "", 0: "", ^uint64(0): "",
		} {
			got := ""
			if name, off, ok := o.lookup(v); ok {
				got = fmt.Sprintf("%s+%d", name, off)
			}
			if got != want {
				t.Errorf("wide %v: %#x is %q, want %q", wide, v, got, want)
			}
		}
	}
}

// A Table is asked by several goroutines at once, and opens each file once.
func TestParallel(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	v, ms := view(t, p)
	open := OfProcess(p.PID(), v)
	var mu sync.Mutex
	opened := map[string]int{}
	tab := New(ms, func(m *procmem.Mapping) (File, error) {
		mu.Lock()
		defer mu.Unlock()
		opened[m.Path]++
		return open(m)
	})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range ms {
				tab.Lookup(ms[i].Start)
			}
			tab.Find("main")
		})
	}
	wg.Wait()
	for path, n := range opened {
		if n != 1 {
			t.Errorf("%s was opened %d times", path, n)
		}
	}
}

// No more than the bound is held in memory, whatever a file claims.
func TestRoom(t *testing.T) {
	e := elfSpec{wide: true}
	for i := range 1000 {
		e.symbols = append(e.symbols, testSymbol{fmt.Sprintf("symbol%d", i), 0x1000 + uint64(i), 1, 1, 0x12})
	}
	file := newBytesFile(e.bytes())
	for _, room := range []int64{0, 100, 20_000, 40_000, maxMemory} {
		o, err := readObject(file, file.Size(), &budget{room, maxWork})
		if err != nil {
			t.Fatal(err)
		}
		if o.memory() > room {
			t.Errorf("%d bytes where there is room for %d", o.memory(), room)
		}
		if n := len(o.symbols); (n == 1000) != (room == maxMemory) {
			t.Errorf("%d symbols in %d bytes", n, room)
		}
	}
	// All files have the room in common.
	ms := []procmem.Mapping{
		{Range: procmem.Range{Start: 0x10000, End: 0x12000}, Inode: 1, Path: "/one"},
		{Range: procmem.Range{Start: 0x20000, End: 0x22000}, Inode: 2, Path: "/two"},
	}
	tab := New(ms, func(*procmem.Mapping) (File, error) { return file, nil })
	tab.left.room = 1001*symbolBytes + 15_000
	if one, two := tab.Name(0x11000), tab.Name(0x21000); one != "symbol0" || two != "" {
		t.Errorf("%q and %q", one, two)
	}
}

// A sparse file of a terabyte whose sections claim most of it is read in
// bounded memory.
func TestHugeFile(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "huge"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	e := elfSpec{wide: true, hugeStrings: 1 << 39, hugeSymbols: 1 << 39}
	e.symbols = []testSymbol{{"f", 0x1000, 8, 1, 0x12}}
	if _, err := f.Write(e.bytes()); err != nil {
		t.Fatal(err)
	}
	const size = 1 << 40
	if err := f.Truncate(size); err != nil {
		t.Skip(err)
	}
	r := &countingReader{r: f}
	o, err := readObject(r, size, &budget{1 << 20, maxWork})
	if err != nil {
		t.Fatal(err)
	}
	if o.memory() > 1<<20 || r.n > 1<<20 {
		t.Errorf("%d bytes are held and %d were read", o.memory(), r.n)
	}
	if o, err = readObject(f, size, all()); err != nil || o.memory() > maxMemory || len(o.symbols) != 1 {
		t.Errorf("%d bytes are held: %v", o.memory(), err)
	}
}

type countingReader struct {
	r io.ReaderAt
	n int
}

func (c *countingReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.r.ReadAt(p, off)
	c.n += n
	return n, err
}

// What is damaged has no symbols, or some; it never ends the program.
func FuzzObject(f *testing.F) {
	for _, wide := range []bool{true, false} {
		e := elfSpec{wide: wide, buildID: []byte("id")}
		e.symbols = []testSymbol{{"f", 0x1000, 8, 1, 0x12}, {"g", 0x1000, 0, 1, 0x10}, {"h", 0x3004, 8, 2, 0x11}}
		f.Add(e.bytes(), uint64(0x1004))
		f.Add(e.bytes()[:len(e.bytes())-9], uint64(0x3004))
	}
	f.Fuzz(func(t *testing.T, b []byte, v uint64) {
		defer inTime(t, processorTime())
		o, err := readObject(newBytesFile(b), int64(len(b)), all())
		if (o == nil) != (err != nil) {
			t.Fatalf("%v and %v", o, err)
		}
		m := &procmem.Mapping{Range: procmem.Range{Start: 0x10000, End: 0x20000}, Path: "/f"}
		sameFile(newBytesFile(b), fakeMemory{0x10000: b}, m)
		_, _ = identityIn(fakeMemory{0x10000: b}, m)
		found := &Found{newBytesFile(b), m.Path, []byte("id")}
		found.IsGo()
		if text, err := textOf(found, m.Start); err == nil {
			text.has(procmem.Addr(v), v)
		}
		if o == nil {
			return
		}
		if len(o.symbols) > len(b) {
			t.Errorf("%d symbols in %d bytes", len(o.symbols), len(b))
		}
		if name, off, ok := o.lookup(v); ok {
			if v-off > v || len(name) > maxName || bytes.IndexByte([]byte(name), 0) >= 0 {
				t.Errorf("%q+%#x", name, off)
			}
			if len(name) > 0 && !slices.ContainsFunc(o.find(name), func(s symbol) bool { return s.value == v-off }) {
				t.Errorf("%q is not found by its name", name)
			}
		}
		o.address(v)
		o.holds(v, v)
	})
}

func BenchmarkLookup(b *testing.B) {
	p := testproc.Start(b, testproc.Zoo, "--nospin")
	v, ms := view(b, p)
	tab := New(ms, OfProcess(p.PID(), v))
	a := tab.Find("malloc")[0].Start
	b.ReportAllocs()
	for b.Loop() {
		tab.Lookup(a + 8)
	}
}

func BenchmarkLoad(b *testing.B) {
	f, err := newFile(regular.Open(unix.AT_FDCWD, testproc.Build(b, testproc.Zoo.With(testproc.StaticPIE))))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	n := 0
	for b.Loop() {
		o, err := readObject(f, f.Size(), all())
		if err != nil {
			b.Fatal(err)
		}
		n = len(o.symbols)
	}
	b.ReportMetric(float64(n), "symbols")
}

// inTime fails where made-up input of this size, a MiB at most, has taken too long.
func inTime(t *testing.T, began time.Duration) {
	if took := processorTime() - began; took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

// all is the budget of a whole table.
func all() *budget { return &budget{maxMemory, maxWork} }
