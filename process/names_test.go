package process

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
)

func odd(t *testing.T) *testproc.Proc {
	t.Helper()
	return testproc.Start(t, testproc.Odd)
}

// The kernel's escape for a newline and a name that looks like it stay apart.
func TestNewlineOrBackslash(t *testing.T) {
	p := odd(t)
	names := []string{"a\nb", `a\012b`, `a\134012b`, "a\n\\012b", `deleted\012 (deleted)`}
	for _, name := range names {
		p.Cmd(t, "map %x", name)
	}
	q := open(t, p.PID())
	for what, get := range map[string]func() ([]procmem.Mapping, error){"maps": q.Mappings, "smaps": q.Smaps} {
		ms, err := get()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if !slices.ContainsFunc(ms, func(m procmem.Mapping) bool { return m.Path == filepath.Join(p.Dir, name) }) {
				t.Errorf("%s: no %q", what, name)
			}
		}
	}
}

// A path that is longer than any that can be opened costs nothing but itself.
func TestLongPath(t *testing.T) {
	p := odd(t)
	p.Send(t, "deep %s 40", p.Path)
	p.ReadFacts(t)
	if _, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.PID())); err == nil {
		t.Fatal("the path is not too long")
	}
	q := open(t, p.PID())
	exe, err := q.Exe()
	if err != nil || len(exe) < 8000 || !strings.HasSuffix(exe, "d/program") {
		t.Errorf("%d characters, %v", len(exe), err)
	}
	if _, err := q.Arch(); err != nil {
		t.Error(err)
	}
	info, err := q.Info()
	if err != nil || info.Name != "program" {
		t.Errorf("%+v, %v", info, err)
	}
	v, err := q.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	ms, _ := v.Mappings()
	i := slices.IndexFunc(ms, func(m procmem.Mapping) bool { return m.Path == exe && m.Offset == 0 })
	if i < 0 {
		t.Fatalf("no mapping of %d characters", len(exe))
	}
	if n, err := v.ReadAt(make([]byte, 64), ms[i].Start); n != 64 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// One that does not fit into a line is cut off, and the next line is not.
func TestEndlessPath(t *testing.T) {
	p := odd(t)
	p.Send(t, "deep %s 400", p.Path)
	p.ReadFacts(t)
	ms, err := open(t, p.PID()).Mappings()
	if err != nil {
		t.Fatal(err)
	}
	const cutMark, maxLine = "…", 64 << 10 // of package procfs
	cut, stack := 0, 0
	for _, m := range ms {
		switch {
		case strings.HasSuffix(m.Path, cutMark) && len(m.Path) > 4096 && len(m.Path) < maxLine:
			cut++
		case m.Path == "[stack]":
			stack++
		}
	}
	if cut < 4 || stack != 1 {
		t.Errorf("%d mappings of the program, %d stacks", cut, stack)
	}
}

// No name at all.
func TestEmptyNames(t *testing.T) {
	p := odd(t)
	p.Cmd(t, "name")
	p.Cmd(t, "thread")
	q := open(t, p.PID())
	st, err := q.Stat()
	if err != nil || st.Name != "" {
		t.Errorf("%+v, %v", st, err)
	}
	tids, err := q.Threads()
	if err != nil || len(tids) != 2 {
		t.Fatalf("%v, %v", tids, err)
	}
	for _, tid := range tids {
		if th, err := q.ThreadInfo(tid); err != nil || th.Name != "" {
			t.Errorf("%+v, %v", th, err)
		}
	}
	if info, err := q.Info(); err != nil || info.Name != "odd" {
		t.Errorf("%+v, %v", info, err)
	}
	p.Send(t, "exec %s", hex.EncodeToString([]byte(p.Path)))
	p.ReadFacts(t)
	if args, err := q.Cmdline(); err != nil || len(args) > 1 || len(args) == 1 && args[0] != "" {
		t.Errorf("%q, %v", args, err)
	}
}

// Arguments in memory that is not served are not waited for. Arguments that are all memory are
// not all read.
func TestCmdlineIsBounded(t *testing.T) {
	file, release := testproc.StuckFile(t)
	defer release()
	p := odd(t)
	p.Cmd(t, "wait %s", file)
	p.WaitState(t, 'D')
	q := open(t, p.PID())
	inTime(t, "arguments that wait", func() {
		if args, err := q.Cmdline(); !errors.Is(err, ErrBlocked) || args != nil {
			t.Errorf("%q, %v", args, err)
		}
		if info, err := q.Info(); err != nil || info.Name != "odd" || info.Args != "" {
			t.Errorf("%+v, %v", info, err)
		}
	})
	release()
	p.WaitState(t, 'S')

	p = odd(t)
	p.Cmd(t, "args 64G")
	inTime(t, "arguments without end", func() {
		if args, err := open(t, p.PID()).Cmdline(); err != nil || len(args) != maxCmdline {
			t.Errorf("%d arguments, %v", len(args), err)
		}
	})
}

// A program that says that it has fifty million sections, in a sparse file,
// tells its architecture in as many bytes as any other.
func TestArchOfHugeFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "huge")
	b, err := os.ReadFile(testproc.Build(t, testproc.Odd))
	if err != nil {
		t.Fatal(err)
	}
	const sections = 50_000_000
	at := (int64(len(b)) + 63) &^ 63
	binary.LittleEndian.PutUint64(b[40:], uint64(at)) // e_shoff
	binary.LittleEndian.PutUint16(b[60:], 0)          // e_shnum: it is in the first section
	binary.LittleEndian.PutUint16(b[62:], 0)
	first := make([]byte, 64)
	binary.LittleEndian.PutUint64(first[32:], sections)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err1 := f.Write(b)
	_, err2 := f.WriteAt(first, at)
	if err := errors.Join(err1, err2, f.Truncate(at+64*sections), f.Close()); err != nil {
		t.Fatal(err)
	}
	p := testproc.StartCmd(t, exec.Command(path))
	q := open(t, p.PID())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	inTime(t, "the architecture", func() {
		if arch, err := q.Arch(); err != nil || arch != procmem.AMD64 {
			t.Errorf("%v, %v", arch, err)
		}
	})
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes were allocated", n)
	}
}
