package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/testproc"
	"github.com/procmem/procmem/process"
)

// The tests look at real processes with the rights of real users: the test
// program runs itself again as another user, in a namespace, or behind a
// seccomp filter. What Diagnose says is compared with what the kernel does.

func TestMain(m *testing.M) {
	if words := strings.Fields(os.Getenv("ACCESS_TEST_HELPER")); len(words) > 0 {
		helper(words)
		return
	}
	os.Exit(m.Run())
}

// answer is what the helper found out about one process.
type answer struct {
	*Report
	// Opened and Attached are what the kernel itself says: "" for yes.
	Opened, Attached string
	Explained        string // the error of attaching, explained
	Viewed           string // the error of process.View
}

// helper runs in a process of its own: [filter] PID, or [filter] self.
func helper(words []string) {
	if words[0] == "filter" {
		refusePtrace()
		words = words[1:]
	}
	pid, err := strconv.Atoi(words[0])
	if words[0] == "self" {
		pid, err = os.Getpid(), nil
	}
	if err != nil {
		panic(err)
	}
	a := answer{Report: Diagnose(pid)}
	if f, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid)); err != nil {
		a.Opened = err.Error()
	} else {
		f.Close()
	}
	if p, err := process.Open(pid); err == nil {
		v, err := p.View()
		if err == nil {
			v.Close()
		} else if a.Viewed = err.Error(); !errors.Is(err, os.ErrPermission) {
			a.Viewed = "not refused: " + a.Viewed
		}
		p.Close()
	}
	// The end of this process detaches.
	if _, _, e := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(pid), 0, 0, 0, 0); e != 0 {
		a.Attached = e.Error()
		a.Explained, _ = Explain(pid, e)
	}
	if err := json.NewEncoder(os.Stdout).Encode(a); err != nil {
		panic(err)
	}
}

// refusePtrace filters the system calls of this process.
func refusePtrace() {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	prog := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_PTRACE, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	if err := setFilter(prog); err != nil {
		panic(err)
	}
}

// root skips tests of what only root can set up.
func root(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("takes root, to run processes as other users")
	}
}

const nobody = 65534

// program returns a copy of the test program that every user may run, and
// that a test may give capabilities.
func program(t *testing.T) string {
	t.Helper()
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	dir, err := os.MkdirTemp("", "procmem-access-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "helper")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o755)
	if err == nil {
		_, err = io.Copy(f, exe)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// ask runs the helper: argv is wrapped around it, words are its own.
func ask(t *testing.T, attr *syscall.SysProcAttr, path, words string, wrapper ...string) answer {
	t.Helper()
	argv := append(wrapper, path)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = attr
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "ACCESS_TEST_HELPER="+words)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	var a answer
	if err := json.Unmarshal(out, &a); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return a
}

func as(uid uint32) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
}

// agree fails where the report contradicts the kernel, or itself.
func (a answer) agree(t *testing.T) {
	t.Helper()
	if a.Readable != (a.Opened == "") {
		t.Errorf("readable is %v, and opening mem gives %q", a.Readable, a.Opened)
	}
	if a.Stoppable != (a.Attached == "") {
		t.Errorf("stoppable is %v, and attaching gives %q", a.Stoppable, a.Attached)
	}
	if a.Stoppable != (a.Cause == "") {
		t.Errorf("stoppable is %v, with the cause %q", a.Stoppable, a.Cause)
	}
	failed := ""
	for _, r := range a.Rules {
		if r.Verdict == Fails {
			failed = r.Name
		}
		if r.Verdict == Unknown && a.Readable {
			t.Errorf("rule %s is unknown, and the process can be read", r.Name)
		}
		if r.Detail == "" || r.Name == "" {
			t.Errorf("a rule says nothing: %+v", r)
		}
	}
	if (failed == "") != (a.Cause == "") {
		t.Errorf("rule %q failed, and the cause is %q", failed, a.Cause)
	}
	if a.Attached != "" && a.Cause != "" {
		if rest, ok := strings.CutPrefix(a.Explained, a.Cause); !ok || !strings.HasSuffix(rest, a.Otherwise) || strings.HasPrefix(rest, "; remedy: ") != (a.help() != "") {
			t.Errorf("explained as %q, want %q; remedy: %q", a.Explained, a.Cause, a.help())
		}
	}
	for _, s := range []string{a.Cause, a.Remedy, a.Otherwise, a.Note} {
		if strings.ContainsAny(s, "\n\x1b") || strings.Contains(s, "%!") || strings.TrimRight(s, ". ") != s {
			t.Errorf("bad wording: %q", s)
		}
	}
	if t.Failed() {
		t.Logf("%+v", *a.Report)
	}
}

// help is all that would help.
func (a answer) help() string { return remedy{a.Remedy, a.Otherwise}.text() }

func (a answer) rule(name string) Verdict {
	for _, r := range a.Rules {
		if r.Name == name {
			return r.Verdict
		}
	}
	return ""
}

// want checks the cause and the remedy, and the verdicts that are listed as
// "user=no".
func (a answer) want(t *testing.T, cause, remedy string, rules ...string) {
	t.Helper()
	a.agree(t)
	if !strings.Contains(a.Cause, cause) || (cause == "") != (a.Cause == "") {
		t.Errorf("cause %q, want %q", a.Cause, cause)
	}
	if !strings.Contains(a.help(), remedy) || (remedy == "") != (a.help() == "") {
		t.Errorf("remedy %q, want %q", a.help(), remedy)
	}
	for _, s := range rules {
		name, v, _ := strings.Cut(s, "=")
		if got := a.rule(name); got != Verdict(v) {
			t.Errorf("rule %s: %q, want %q", name, got, v)
		}
	}
	if t.Failed() {
		t.Logf("%+v", *a.Report)
	}
}

// kids starts the helper program of that name, as a user.
func kids(t *testing.T, uid uint32) *testproc.Proc {
	t.Helper()
	cmd := exec.Command(testproc.Build(t, testproc.Kids))
	if uid != 0 {
		cmd.SysProcAttr = as(uid)
	}
	return testproc.StartCmd(t, cmd)
}

// setFilter puts a seccomp filter on all threads of this process.
func setFilter(filter []unix.SockFilter) error {
	const setModeFilter, allThreads = 1, 1
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, e := unix.RawSyscall(unix.SYS_SECCOMP, setModeFilter, allThreads, uintptr(unsafe.Pointer(&prog))); e != 0 {
		return e
	}
	return nil
}

func testStatus(id uint32) *process.Status {
	v := [4]uint32{id, id, id, id}
	return &process.Status{UID: v, GID: v}
}
