package target

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/testproc"
	"github.com/procmem/procmem/process"
)

// tinyCore is an ELF core without memory: a header and one program header.
var tinyCore = func() []byte {
	b := make([]byte, 64+56)
	copy(b, "\x7fELF\x02\x01\x01")
	b[16], b[18], b[20] = 4, 62, 1 // ET_CORE, EM_X86_64
	b[32], b[52], b[54], b[56] = 64, 64, 56, 1
	b[64] = 4 // PT_NOTE
	return b
}()

func write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// program copies a helper under a name of its own.
func program(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(testproc.Build(t, testproc.Kids))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpenWord(t *testing.T) {
	t.Chdir(t.TempDir())
	p := testproc.Start(t, testproc.Kids)
	pid := strconv.Itoa(p.PID())
	write(t, "core.1", tinyCore)
	write(t, "text", []byte("hello, this is text\n"))
	write(t, "short", tinyCore[:17])
	write(t, "empty", nil)
	write(t, "self", tinyCore) // a word comes before a file
	write(t, "-1", tinyCore)
	write(t, "core.gz", []byte("\x1f\x8b\x08\x00and so on, for a while"))
	write(t, "core.zst", []byte("\x28\xb5\x2f\xfdand so on, for a while"))
	write(t, pid, tinyCore)
	if err := os.Mkdir("dir", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo("fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("core.1", "link"); err != nil {
		t.Fatal(err)
	}
	abs, err := filepath.Abs("core.1")
	if err != nil {
		t.Fatal(err)
	}

	type want struct {
		core bool
		pid  int
	}
	for word, w := range map[string]want{
		"core.1": {core: true}, "./core.1": {core: true}, abs: {core: true}, "link": {core: true}, "-1": {core: true},
		pid: {pid: p.PID()}, "000" + pid: {pid: p.PID()}, "self": {pid: os.Getpid()}, "./" + pid: {core: true}, "./self": {core: true},
	} {
		tgt, err := Open(word)
		if err != nil {
			t.Errorf("%q: %v", word, err)
			continue
		}
		if got := (want{core: tgt.Core != nil}); tgt.Process != nil {
			got.pid = tgt.Process.PID()
			if got != w {
				t.Errorf("%q: %+v, want %+v", word, got, w)
			}
		} else if got != w {
			t.Errorf("%q: %+v, want %+v", word, got, w)
		}
		if tgt.Word != word || (tgt.Core == nil) == (tgt.Process == nil) {
			t.Errorf("%q: %+v", word, tgt)
		}
		mem, done, err := tgt.Memory()
		if err != nil {
			t.Errorf("%q: %v", word, err)
		} else {
			if ms, err := mem.Mappings(); err != nil || !w.core && len(ms) == 0 {
				t.Errorf("%q: %d mappings, %v", word, len(ms), err)
			}
			done()
		}
		if err := tgt.Close(); err != nil {
			t.Errorf("%q: %v", word, err)
		}
	}

	format := func(err error) bool { _, ok := errors.AsType[*core.FormatError](err); return ok }
	packed := func(err error) bool { _, ok := errors.AsType[*core.PackedError](err); return ok }
	is := func(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }
	for word, c := range map[string]struct {
		is   func(error) bool
		text string
	}{
		"":                       {is(ErrSyntax), "empty"},
		"0":                      {is(ErrSyntax), "no process has the id 0"},
		"00":                     {is(ErrSyntax), "no process has the id 0"},
		"2147483648":             {is(ErrSyntax), "below 2^31"},
		"99999999999999999999":   {is(ErrSyntax), "below 2^31"},
		"2147483647":             {is(process.ErrNoProcess), "no such process"},
		"no-process-has-this":    {is(process.ErrNoProcess), "no core file"},
		"+5":                     {is(process.ErrNoProcess), `"+5"`},
		"0x10":                   {is(process.ErrNoProcess), `"0x10"`},
		" ":                      {is(process.ErrNoProcess), `" "`},
		"a\x1b[31mb":             {is(process.ErrNoProcess), `\x1b`},
		"text":                   {format, "not a core file"},
		"./text":                 {format, "not a core file"},
		"short":                  {format, "cut off"},
		"empty":                  {format, "empty"},
		"core.gz":                {packed, "it is damaged"},
		"core.zst":               {packed, "it is compressed with a dictionary"},
		"/proc/self/exe":         {format, "not a core file: ELF "},
		"dir":                    {is(process.ErrNoProcess), "dir"},
		"./dir":                  {nil, "directory"},
		"fifo":                   {is(process.ErrNoProcess), "fifo"},
		"./fifo":                 {nil, "a pipe"},
		"/dev/zero":              {nil, "a device"},
		"/dev/null":              {nil, "a device"},
		"./none":                 {is(os.ErrNotExist), "no such file"},
		"a/b/c":                  {is(os.ErrNotExist), "no such file"},
		"/":                      {nil, "directory"},
		"text/":                  {is(syscall.ENOTDIR), "not a directory"},
		strings.Repeat("a", 5e3): {is(process.ErrNoProcess), "aaa"},
	} {
		tgt, err := Open(word)
		if err == nil || tgt != nil || c.is != nil && !c.is(err) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%q: %v, %v", word, tgt, err)
		}
	}
	for word, c := range map[string]error{"": ErrSyntax, "0": ErrSyntax, "core.1": ErrNotProcess, "./x": ErrNotProcess, "text": ErrNotProcess} {
		if pid, err := PID(word); !errors.Is(err, c) || pid != 0 {
			t.Errorf("PID(%q): %d, %v", word, pid, err)
		}
	}
}

func TestByName(t *testing.T) {
	const name = "procmem-named-so" // 16 bytes: comm holds 15
	path := program(t, name)
	cmd := func(args ...string) *exec.Cmd { return exec.Command(path, args...) }
	first := testproc.StartCmd(t, cmd())
	for _, word := range []string{name, name[:15]} {
		if pid, err := PID(word); err != nil || pid != first.PID() {
			t.Errorf("%s: %d, %v", word, pid, err)
		}
	}
	if err := os.Remove(path); err != nil { // the kernel then says " (deleted)"
		t.Fatal(err)
	}
	if pid, err := PID(name); err != nil || pid != first.PID() {
		t.Errorf("deleted program: %d, %v", pid, err)
	}
	// A child that has exited has the name, and is not meant.
	first.Cmd(t, "zombie")
	if pid, err := PID(name); err != nil || pid != first.PID() {
		t.Errorf("with a zombie: %d, %v", pid, err)
	}
	first.Cmd(t, "reap")

	path = program(t, name)
	second := testproc.StartCmd(t, cmd("\x1b[31mred\nline", strings.Repeat("long ", 1000)))
	_, err := PID(name)
	if _, many := errors.AsType[*ManyError](err); !many {
		t.Fatal(err)
	}
	for _, p := range []*testproc.Proc{first, second} {
		if !strings.Contains(err.Error(), fmt.Sprintf("\n  %d /", p.PID())) {
			t.Errorf("%d is missing: %v", p.PID(), err)
		}
	}
	if strings.Contains(err.Error(), "\x1b") || strings.Count(err.Error(), "\n") != 2 || len(err.Error()) > 500 {
		t.Errorf("unsafe, or too long: %q", err)
	}
	for range 12 {
		testproc.StartCmd(t, cmd())
	}
	if _, err = PID(name); err == nil || strings.Count(err.Error(), "\n") != 11 || !strings.HasSuffix(err.Error(), "and 4 more") {
		t.Errorf("fourteen processes: %v", err)
	}
}

// The test itself is not what a name means, though it may have it.
func TestByNameNotSelf(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if pid, err := PID(filepath.Base(exe)); err == nil && pid == os.Getpid() {
		t.Error("the name means procmem itself")
	}
}

func TestProcessGone(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	tgt, err := Open(strconv.Itoa(p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	defer tgt.Close()
	p.Kill()
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	_, _, err = tgt.Memory()
	if pe, ok := errors.AsType[*ProcessError](err); !ok || pe.PID != p.PID() || !errors.Is(err, syscall.ESRCH) {
		t.Errorf("%v", err)
	}
}

// Processes that cannot be asked for their arguments, because a thread of
// theirs waits in the kernel with the memory locked, are found by their name.
func TestNameOfBlocked(t *testing.T) {
	file, release := testproc.StuckFile(t)
	defer release() // before the helpers are waited for
	name := fmt.Sprintf("blocked%08d", os.Getpid())
	var pids []int
	for range 12 {
		p := testproc.Start(t, testproc.Odd)
		p.Cmd(t, "name %x", name)
		p.Cmd(t, "wait %s", file)
		p.WaitState(t, 'D')
		pids = append(pids, p.PID())
		if len(pids) == 1 {
			if pid, err := PID(name); err != nil || pid != pids[0] {
				t.Errorf("%d, %v", pid, err)
			}
		}
	}
	_, err := PID(name)
	if _, many := errors.AsType[*ManyError](err); !many {
		t.Fatal(err)
	}
	for _, pid := range pids[:10] {
		if !strings.Contains(err.Error(), fmt.Sprintf("\n  %d (it is not told in time: ", pid)) {
			t.Errorf("%d: %v", pid, err)
		}
	}
}
