package lines

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/procmem/procmem/internal/elffile"
	"github.com/procmem/procmem/internal/testproc"
)

// program opens the debug information of a file.
func program(t testing.TB, path string) *Program {
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
	p, err := Open(e, nil, NewCache(64<<20, 16<<30))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

const binutils, llvm = "addr2line", "llvm-addr2line"

// ask returns what addr2line(1), or a program like it, says of each address: the innermost
// function first.
func ask(t *testing.T, oracle, path string, at []uint64) [][]Frame {
	t.Helper()
	if _, err := exec.LookPath(oracle); err != nil {
		t.Skip(err)
	}
	var in bytes.Buffer
	for _, a := range at {
		fmt.Fprintf(&in, "%#x\n", a)
	}
	cmd := exec.Command(oracle, "-a", "-i", "-f", "-e", path)
	cmd.Stdin = &in
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all [][]Frame
	name, isName := "", false
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "0x"):
			all, isName = append(all, nil), true
		case isName:
			name, isName = line, false
		default:
			place, _, _ := strings.Cut(line, " (discriminator")
			k := strings.LastIndexByte(place, ':')
			number, _ := strconv.Atoi(place[k+1:]) // "?"
			last := &all[len(all)-1]
			*last, isName = append(*last, Frame{Linkage: name, File: place[:k], Line: number}), true
		}
	}
	if len(all) != len(at) {
		t.Fatalf("addr2line answers %d of %d", len(all), len(at))
	}
	return all
}

// equal reports whether we say of an address what the oracle says. Either takes the name of the
// outermost function from the symbol table, and that of binutils the first name likewise.
func equal(oracle string, ours, theirs []Frame) bool {
	if ours == nil {
		return len(theirs) == 1 && theirs[0].Line == 0
	}
	for i, a := range ours {
		if i == len(theirs) {
			return false
		}
		b := theirs[i]
		if b.File = path.Clean(b.File); b.File == "??" {
			b.File = ""
		}
		named := a.Inlined && (i > 0 || oracle == llvm)
		if a.File != b.File || a.Line != b.Line || named && a.Linkage != b.Linkage && (a.Linkage != "" || a.Name != b.Linkage) {
			return false
		}
	}
	return len(ours) == len(theirs)
}

// sample returns addresses in the code of a file that units are about.
func sample(t *testing.T, p *Program, n int) (at []uint64) {
	t.Helper()
	if err := p.prepare(); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for len(at) < n {
		s := p.spans[random.IntN(len(p.spans))]
		if s.low >= 0x1000 { // else the linker left it out
			at = append(at, s.low+random.Uint64N(s.high-s.low))
		}
	}
	return at
}

func compare(t *testing.T, oracle, path string, n int, least float64) {
	t.Helper()
	p := program(t, path)
	at := sample(t, p, n)
	theirs := ask(t, oracle, path, at)
	good, said := 0, 0
	for i, a := range at {
		ours, err := p.At(a)
		if err != nil {
			t.Fatal(err)
		}
		if equal(oracle, ours, theirs[i]) {
			good++
		} else if said++; said <= 3 {
			t.Logf("%s %#x:\n ours   %+v\n theirs %+v", path, a, ours, theirs[i])
		}
	}
	if share := float64(good) / float64(len(at)); share < least {
		t.Errorf("%s: %d of %d addresses are as %s has them, want %.1f %%", path, good, len(at), oracle, 100*least)
	} else {
		t.Logf("%s: %d of %d", path, good, len(at))
	}
}

// build compiles a program of testdata, and returns its path.
func build(t *testing.T, source, compiler string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(compiler); err != nil {
		t.Skip(err)
	}
	out := filepath.Join(t.TempDir(), "program")
	source, err := filepath.Abs(filepath.Join("testdata", source))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(compiler, append(args, "-o", out, source)...)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("%v: %v\n%s", cmd.Args, err, text)
	}
	return out
}

// Functions, files and lines are those of another reader, for all versions of DWARF, and
// sections packed in each way. In files of version 5 addr2line of binutils 2.40 errs; llvm's
// cannot read version 2 and zstd.
func TestPrograms(t *testing.T) {
	for name, c := range map[string][]string{
		"version 2": {binutils, "many.cc", "g++", "-O2", "-gdwarf-2", "-gstrict-dwarf"},
		"version 3": {binutils, "many.cc", "g++", "-O2", "-gdwarf-3"},
		"version 4": {binutils, "many.cc", "g++", "-O2", "-gdwarf-4", "-ffunction-sections", "-Wl,--gc-sections"},
		"version 5": {llvm, "many.cc", "g++", "-O2", "-gdwarf-5"},
		"64 bits":   {llvm, "many.cc", "g++", "-O1", "-gdwarf-5", "-gdwarf64"},
		"zlib":      {llvm, "many.cc", "g++", "-O2", "-g", "-gz=zlib"},
		"zstd":      {binutils, "many.cc", "g++", "-O2", "-gdwarf-4", "-Wl,--compress-debug-sections=zstd"},
		"lto":       {llvm, "many.cc", "g++", "-O2", "-g", "-flto"},
		"clang 4":   {llvm, "many.cc", "clang++", "-O2", "-gdwarf-4"},
		"clang 5":   {llvm, "many.cc", "clang++", "-O2", "-gdwarf-5"},
		"rust":      {llvm, "many.rs", "rustc", "-g"},
		"rust -O":   {llvm, "many.rs", "rustc", "-O", "-g"},
	} {
		t.Run(name, func(t *testing.T) { compare(t, c[0], build(t, c[1], c[2], c[3:]...), 1000, 0.995) })
	}
	for _, v := range []testproc.Variant{testproc.GoProg, testproc.Zoo, testproc.Zoo.With(testproc.Musl), testproc.Zoo.With(testproc.StaticPIE), testproc.Zoo.With(testproc.M32)} {
		t.Run(v.String(), func(t *testing.T) { compare(t, llvm, testproc.Build(t, v), 1000, 0.995) })
	}
}
