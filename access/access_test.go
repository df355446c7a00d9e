package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/testproc"
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
	// The end of this process detaches.
	if _, _, e := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(pid), 0, 0, 0, 0); e != 0 {
		a.Attached = e.Error()
		a.Explained = Explain(pid, e)
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
		want := a.Cause
		if a.Remedy != "" {
			want += "; remedy: " + a.Remedy
		}
		if a.Explained != want {
			t.Errorf("explained as %q, want %q", a.Explained, want)
		}
	}
	for _, s := range []string{a.Cause, a.Remedy, a.Note} {
		if strings.ContainsAny(s, "\n\x1b") || strings.Contains(s, "%!") || strings.TrimRight(s, ". ") != s {
			t.Errorf("bad wording: %q", s)
		}
	}
	if t.Failed() {
		t.Logf("%+v", *a.Report)
	}
}

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
	if !strings.Contains(a.Remedy, remedy) || (remedy == "") != (a.Remedy == "") {
		t.Errorf("remedy %q, want %q", a.Remedy, remedy)
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

func TestUser(t *testing.T) {
	root(t)
	path := program(t)
	ofRoot, own, other := kids(t, 0), kids(t, nobody), kids(t, 12345)
	const sudo = "sudo"
	ask(t, nil, path, strconv.Itoa(own.PID())).want(t, "", "", "user=ok", "dumpable=ok", "CAP_SYS_PTRACE=ok")
	ask(t, as(nobody), path, strconv.Itoa(own.PID())).want(t, "", "", "user=ok", "dumpable=ok", "CAP_SYS_PTRACE=ok", "capabilities=ok", "user namespace=ok")
	ask(t, as(nobody), path, strconv.Itoa(other.PID())).want(t,
		"the target runs as uid 12345 gid 12345 and procmem as uid 65534 gid 65534", sudo, "user=no", "dumpable=ok", "CAP_SYS_PTRACE=no")
	ask(t, as(nobody), path, strconv.Itoa(ofRoot.PID())).want(t, "uid 0 gid 0", sudo, "user=no", "dumpable=unknown", "capabilities=no")

	// The group counts as well.
	group := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: 7}}
	ask(t, group, path, strconv.Itoa(own.PID())).want(t, "uid 65534 gid 65534 and procmem as uid 65534 gid 7", sudo, "user=no")

	// Root of a container is told of the container.
	ask(t, nil, path, strconv.Itoa(own.PID()), "setpriv", "--bounding-set=-sys_ptrace").want(t,
		"procmem as uid 0", "--cap-add=SYS_PTRACE", "user=no", "CAP_SYS_PTRACE=no")
	// Where sudo can have no effect, it is not what helps.
	a := ask(t, as(nobody), path, strconv.Itoa(ofRoot.PID()), "setpriv", "--no-new-privs")
	a.want(t, "uid 0", "no_new_privs")
}

// The remedy of a missing capability is a command; it is tried.
func TestSetcap(t *testing.T) {
	root(t)
	path := program(t)
	ofRoot := kids(t, 0)
	pid := strconv.Itoa(ofRoot.PID())
	before := ask(t, as(nobody), path, pid)
	m := regexp.MustCompile(`setcap ([a-z_,]+=ep) \$\(command -v procmem\)`).FindStringSubmatch(before.Remedy)
	if m == nil {
		t.Fatalf("no setcap in %q", before.Remedy)
	}
	setcap := func(caps string) {
		if out, err := exec.Command("setcap", caps, path).CombinedOutput(); err != nil {
			t.Skipf("setcap: %v: %s", err, out)
		}
	}
	setcap(m[1])
	ask(t, as(nobody), path, pid).want(t, "", "", "user=ok", "dumpable=ok", "capabilities=ok")

	// The capability that the name suggests is not enough.
	setcap("cap_sys_ptrace=ep")
	a := ask(t, as(nobody), path, pid)
	if a.Readable || !strings.Contains(a.Cause, "CAP_DAC_READ_SEARCH") || a.rule("user") != Holds || a.rule("CAP_SYS_PTRACE") != Fails {
		t.Errorf("%+v", *a.Report)
	}
}

func TestDumpable(t *testing.T) {
	root(t)
	path := program(t)
	p := kids(t, nobody)
	p.Cmd(t, "dumpable 0")
	pid := strconv.Itoa(p.PID())
	ask(t, as(nobody), path, pid).want(t, "not dumpable", "setcap", "user=ok", "dumpable=no", "CAP_SYS_PTRACE=no")
	ask(t, nil, path, pid).want(t, "", "", "dumpable=ok")
	p.Cmd(t, "dumpable 1")
	ask(t, as(nobody), path, pid).want(t, "", "", "dumpable=ok")

	// A service that gave up root is not dumpable either.
	service := kids(t, 0)
	service.Cmd(t, "setuid %d", nobody)
	ask(t, as(nobody), path, strconv.Itoa(service.PID())).want(t, "not dumpable", "sudo", "user=ok", "dumpable=no")

	// Of a process of root it is not shown: it is named as one of two causes.
	ofRoot := kids(t, 0)
	ofRoot.Cmd(t, "dumpable 0")
	bare := []string{"setpriv", "--bounding-set=-all", "--inh-caps=-all"}
	target := testproc.StartCmd(t, exec.Command("setpriv", append(bare[1:], testproc.Build(t, testproc.Kids))...))
	ask(t, nil, path, strconv.Itoa(target.PID()), bare...).want(t, "", "")
	target.Cmd(t, "dumpable 0")
	ask(t, nil, path, strconv.Itoa(target.PID()), bare...).want(t, "not dumpable (prctl(2), PR_SET_DUMPABLE), or a security module", "CAP_SYS_PTRACE",
		"user=ok", "dumpable=unknown", "capabilities=ok")
}

func TestCapabilities(t *testing.T) {
	root(t)
	path := program(t)
	p := testproc.StartCmd(t, exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
		"--inh-caps=+net_raw", "--ambient-caps=+net_raw", testproc.Build(t, testproc.Kids)))
	pid := strconv.Itoa(p.PID())
	ask(t, as(nobody), path, pid).want(t, "capabilities that procmem lacks (cap_net_raw)", "sudo",
		"user=ok", "dumpable=ok", "capabilities=no", "CAP_SYS_PTRACE=no")
	ask(t, nil, path, pid).want(t, "", "")
	// A reader that has it too needs no more.
	ask(t, nil, path, pid, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=+net_raw", "--ambient-caps=+net_raw").want(t, "", "", "capabilities=ok")
}

// unshare skips the test where this machine makes no such namespace.
func unshare(t *testing.T, args ...string) []string {
	t.Helper()
	argv := append([]string{"unshare"}, args...)
	if out, err := exec.Command(argv[0], append(argv[1:], "true")...).CombinedOutput(); err != nil {
		t.Skipf("%v: %v: %s", argv, err, out)
	}
	return argv
}

func TestUserNamespace(t *testing.T) {
	root(t)
	in := unshare(t, "-Ur")
	path := program(t)
	start := func(attr *syscall.SysProcAttr) string {
		cmd := exec.Command(in[0], append(in[1:], testproc.Build(t, testproc.Kids))...)
		cmd.SysProcAttr = attr
		return strconv.Itoa(testproc.StartCmd(t, cmd).PID())
	}
	const ns, yes = "user namespace", "user namespace=ok"
	outside := strconv.Itoa(kids(t, 0).PID())
	byRoot, byNobody := start(nil), start(as(nobody))

	ask(t, nil, path, byRoot).want(t, "", "", yes, "CAP_SYS_PTRACE=ok")
	ask(t, nil, path, byNobody).want(t, "", "", yes)
	// Who makes a namespace has all capabilities there.
	ask(t, as(nobody), path, byNobody).want(t, "", "", yes, "CAP_SYS_PTRACE=ok")
	// Its root has none outside, though the uid is the same.
	ask(t, nil, path, outside, in...).want(t, ns, "outside", "user=ok", "user namespace=no", "CAP_SYS_PTRACE=no")
	// A namespace beside: neither sees the other.
	ask(t, nil, path, byRoot, in...).want(t, ns, "outside", "user namespace=no")
	ask(t, as(nobody), path, byRoot).want(t, "the target runs as uid 0", "sudo", "user=no")

	// The user is the same, and the namespace made by somebody else.
	cmd := exec.Command(testproc.Build(t, testproc.Kids))
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: nobody, HostID: nobody, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: nobody, HostID: nobody, Size: 1}},
		Credential:  &syscall.Credential{Uid: nobody, Gid: nobody, NoSetGroups: true},
	}
	mapped := testproc.StartCmd(t, cmd)
	a := ask(t, as(nobody), path, strconv.Itoa(mapped.PID()))
	a.agree(t)
	if a.Readable || a.rule("user") != Holds || a.rule("dumpable") == Fails && a.rule(ns) == Fails {
		t.Errorf("%+v", *a.Report)
	}
}

func TestTraced(t *testing.T) {
	root(t)
	path := program(t)
	p := kids(t, 0)
	tracer := p.Cmd(t, "trace")
	a := ask(t, nil, path, strconv.Itoa(p.PID()))
	a.want(t, "already traced by kids (pid "+tracer+")", "end or detach kids (pid "+tracer+"), or use --method live", "tracer=no", "CAP_SYS_PTRACE=ok")
	if !a.Readable {
		t.Error("a traced process can be read")
	}
	p.Cmd(t, "reap") // the remedy
	ask(t, nil, path, strconv.Itoa(p.PID())).want(t, "", "", "tracer=ok")
}

// Tracers that people use, which trace one thread or all.
func TestTracedBy(t *testing.T) {
	root(t)
	path := program(t)
	p := kids(t, 0)
	p.Cmd(t, "threads 2")
	tids := p.TIDs()
	second := tids[slices.IndexFunc(tids, func(tid int) bool { return tid != p.PID() })]
	for _, c := range []struct {
		argv []string
		tid  int
	}{
		{[]string{"strace", "-o", "/dev/null", "-p", strconv.Itoa(p.PID())}, p.PID()},
		{[]string{"strace", "-o", "/dev/null", "-p", strconv.Itoa(second)}, second},
		{[]string{"gdb", "-q", "-nx", "-iex", "set debuginfod enabled off", "-iex", "set auto-load off", "-p", strconv.Itoa(p.PID())}, p.PID()},
	} {
		t.Run(c.argv[0], func(t *testing.T) {
			if _, err := exec.LookPath(c.argv[0]); err != nil {
				t.Skip(err)
			}
			cmd := exec.Command(c.argv[0], c.argv[1:]...)
			in, err := cmd.StdinPipe() // keeps gdb from ending
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			traced := func() bool {
				st, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", p.PID(), c.tid))
				return err == nil && strings.Contains(string(st), fmt.Sprintf("TracerPid:\t%d\n", cmd.Process.Pid))
			}
			testproc.Until(t, "the tracer", traced)
			who := fmt.Sprintf("already traced by %s (pid %d)", c.argv[0], cmd.Process.Pid)
			r := Diagnose(p.PID())
			if !r.Readable || r.Stoppable || !strings.Contains(r.Cause, who) {
				t.Errorf("%+v", *r)
			}
			if c.tid != p.PID() && !strings.Contains(r.Cause, fmt.Sprintf("thread %d of process", c.tid)) {
				t.Errorf("cause %q does not name the thread", r.Cause)
			}
			cmd.Process.Kill()
			cmd.Wait()
			testproc.Until(t, "the end of tracing", func() bool { return !traced() })
			ask(t, nil, path, strconv.Itoa(p.PID())).want(t, "", "")
			// A thread that a killed gdb held goes on.
			syscall.Kill(p.PID(), syscall.SIGCONT)
		})
	}
}

func TestSeccomp(t *testing.T) {
	root(t)
	path := program(t)
	pid := strconv.Itoa(kids(t, 0).PID())
	a := ask(t, nil, path, "filter "+pid)
	a.want(t, "a seccomp filter on procmem itself refuses ptrace", "--method live", "seccomp=no", "tracer=ok")
	if !a.Readable {
		t.Error("the filter does not refuse reading")
	}
	ask(t, as(nobody), path, "filter "+pid).want(t, "the target runs as uid 0", "run procmem as root", "seccomp=no", "user=no")
}

func TestSelf(t *testing.T) {
	a := ask(t, nil, program(t), "self")
	a.want(t, "procmem cannot hold itself still", "use --method live", "tracer=no")
	if !a.Readable || !strings.Contains(a.Note, "is procmem itself") || !strings.Contains(a.Note, "exec") {
		t.Errorf("%+v", *a.Report)
	}
}

// The shell's $$ is its own pid, whichever program the command names.
func TestShell(t *testing.T) {
	path := program(t)
	run := func(script string) answer {
		out, err := exec.Command("env", "sh", "-c", script, path).Output()
		if err != nil {
			t.Fatal(err)
		}
		var a answer
		if err := json.Unmarshal(out, &a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := run(`ACCESS_TEST_HELPER=$$ "$0"; true`)
	a.want(t, "", "")
	if a.Name != "sh" && a.Name != "dash" && a.Name != "bash" || !strings.Contains(a.Note, "the process that started procmem") || !strings.Contains(a.Note, "$$") {
		t.Errorf("%+v", *a.Report)
	}
	a = run(`sh -c "ACCESS_TEST_HELPER=$$ $0; true"; true`)
	a.want(t, "", "")
	if !strings.Contains(a.Note, "an ancestor of procmem") {
		t.Errorf("%+v", *a.Report)
	}
	a = run(`ACCESS_TEST_HELPER=$$ exec "$0"`)
	if a.Stoppable || !strings.Contains(a.Note, "became procmem (exec)") {
		t.Errorf("%+v", *a.Report)
	}
}

func TestNoMemory(t *testing.T) {
	path := program(t)
	p := kids(t, 0)
	zombie := p.Cmd(t, "zombie")
	a := ask(t, nil, path, zombie)
	a.agree(t)
	if a.Stoppable || a.Remedy != "" || !strings.Contains(a.Cause, "is a zombie") || !strings.Contains(a.Cause, fmt.Sprintf("kids (pid %d)", p.PID())) {
		t.Errorf("zombie: %+v", *a.Report)
	}
	p.Cmd(t, "reap")
	a = ask(t, nil, path, zombie)
	a.want(t, "no process has pid "+zombie, "", "process=no")

	q := kids(t, 0)
	q.Cmd(t, "leaderexit")
	q.WaitState(t, 'Z')
	r := Diagnose(q.PID())
	if !r.Readable || !r.Stoppable {
		t.Errorf("leader exited: %+v", *r)
	}
}

func TestKernelThread(t *testing.T) {
	b, err := os.ReadFile("/proc/2/stat")
	if err != nil || !strings.HasPrefix(string(b), "2 (kthreadd)") {
		t.Skip("kthreadd is not seen from here")
	}
	a := ask(t, nil, program(t), "2")
	a.agree(t)
	if a.Readable || a.Remedy != "" || !strings.Contains(a.Cause, "2 is the kernel thread [kthreadd]") {
		t.Errorf("%+v", *a.Report)
	}
}

func TestThread(t *testing.T) {
	p := kids(t, 0)
	p.Cmd(t, "threads 1")
	tid := slices.DeleteFunc(p.TIDs(), func(tid int) bool { return tid == p.PID() })[0]
	r := Diagnose(tid)
	if r.Readable || !strings.Contains(r.Cause, fmt.Sprintf("%d is not a process but a thread of kids (pid %d)", tid, p.PID())) || r.Remedy != fmt.Sprintf("use %d", p.PID()) {
		t.Errorf("%+v", *r)
	}
}

// A pid that a container knows is not the pid outside.
func TestPIDNamespace(t *testing.T) {
	root(t)
	in := unshare(t, "-p", "-f", "--mount-proc", "--kill-child")
	p := testproc.StartCmd(t, exec.Command(in[0], append(in[1:], testproc.Build(t, testproc.Kids))...))
	// Many children, so that one has a pid inside that is free outside.
	inner, outer := 0, 0
	for range 200 {
		pid, _ := strconv.Atoi(p.Cmd(t, "fork"))
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
			continue
		}
		inner = pid
		break
	}
	if inner == 0 {
		t.Skip("all pids of the container exist outside as well")
	}
	r := Diagnose(inner)
	if _, err := fmt.Sscanf(r.Remedy, "use %d", &outer); err != nil || !strings.Contains(r.Cause, "inside a container that number is kids") {
		t.Fatalf("%+v", *r)
	}
	if r = Diagnose(outer); !r.Stoppable || r.Name != "kids" {
		t.Errorf("the remedy names %d: %+v", outer, *r)
	}
	// And the other way round.
	a := ask(t, nil, program(t), strconv.Itoa(os.Getpid()), in...)
	a.want(t, "no process has pid", "", "process=no")
}

// A tracer outside of the pid namespace does not show inside: the error of
// attaching is explained as far as that goes.
func TestTracedFromOutside(t *testing.T) {
	root(t)
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip(err)
	}
	in := unshare(t, "-p", "-f", "--mount-proc", "--kill-child")
	p := testproc.StartCmd(t, exec.Command(in[0], append(in[1:], testproc.Build(t, testproc.Kids))...))
	const inner = 1 // kids is the init of its namespace
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", p.PID(), p.PID()))
	outer := strings.TrimSpace(string(b))
	if err != nil || outer == "" {
		t.Skipf("no list of children: %v", err)
	}
	strace := exec.Command("strace", "-o", "/dev/null", "-p", outer)
	if err := strace.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { strace.Process.Kill(); strace.Wait() }()
	testproc.Until(t, "the tracer", func() bool {
		st, err := os.ReadFile("/proc/" + outer + "/status")
		return err == nil && strings.Contains(string(st), fmt.Sprintf("TracerPid:\t%d\n", strace.Process.Pid))
	})
	a := ask(t, nil, program(t), strconv.Itoa(inner), "nsenter", "-t", outer, "-p", "-m")
	if a.Name != "kids" || a.Attached == "" || !strings.Contains(a.Explained, "a tracer outside of this pid namespace") {
		t.Errorf("attaching: %q, explained as %q: %+v", a.Attached, a.Explained, *a.Report)
	}
}

func TestHidepid(t *testing.T) {
	root(t)
	unshare(t, "-m", "sh", "-c", "mount -t proc -o hidepid=invisible proc /proc")
	path := program(t)
	pid := strconv.Itoa(kids(t, 0).PID())
	for _, mode := range []string{"noaccess", "invisible", "ptraceable"} {
		a := ask(t, nil, path, pid, "unshare", "-m", "sh", "-c",
			"mount -t proc -o hidepid="+mode+` proc /proc && exec setpriv --reuid=65534 --regid=65534 --clear-groups "$0"`)
		a.want(t, "hidepid", "root (sudo)", "process=no")
	}
}

func TestYama(t *testing.T) {
	type row struct {
		scope                         int
		descends, overrides, readable bool
		verdict                       Verdict
		cause, remedy                 string
	}
	for _, c := range []row{
		{0, false, false, true, Holds, "", ""},
		{0, false, false, false, Holds, "", ""},
		{1, true, false, true, Holds, "", ""},
		{1, true, false, false, Holds, "", ""}, // refused by another rule
		{1, false, true, true, Holds, "", ""},
		{1, false, true, false, Holds, "", ""},
		{1, false, false, true, Holds, "", ""}, // PR_SET_PTRACER
		{1, false, false, false, Fails, "is 1: without CAP_SYS_PTRACE", "sysctl kernel.yama.ptrace_scope=0"},
		{2, true, true, true, Holds, "", ""},
		{2, true, false, false, Fails, "is 2: reading another process takes", "sudo procmem"},
		{3, true, true, false, Fails, "is 3: nobody", "/etc/sysctl.d"},
		{4, true, true, false, Fails, "is 4: nobody", "/etc/sysctl.d"},
	} {
		me := testStatus(1000)
		rule, cause, remedy := yama(c.scope, true, c.descends, &sides{me: me, them: me, readable: c.readable, overrides: c.overrides})
		if rule.Verdict != c.verdict || !strings.Contains(rule.Detail, fmt.Sprintf("kernel.yama.ptrace_scope is %d: ", c.scope)) {
			t.Errorf("%+v: %+v", c, rule)
		}
		if (cause == "") != (c.cause == "") || !strings.Contains(cause, c.cause) || !strings.Contains(remedy, c.remedy) || (remedy == "") != (c.remedy == "") {
			t.Errorf("%+v: %q, %q", c, cause, remedy)
		}
	}
	if rule, cause, _ := yama(0, false, false, &sides{}); rule.Verdict != Holds || cause != "" || rule.Detail != "not in this kernel" {
		t.Errorf("%+v %q", rule, cause)
	}
}

func TestYamaScope(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ptrace_scope")
	for text, want := range map[string]struct {
		scope int
		ok    bool
	}{"0\n": {0, true}, "1\n": {1, true}, "3": {3, true}, "": {0, false}, "x\n": {0, false}} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if scope, ok := yamaScope(file); ok != want.ok || ok && scope != want.scope {
			t.Errorf("%q: %d, %v", text, scope, ok)
		}
	}
	if _, ok := yamaScope(file + ".none"); ok {
		t.Error("a kernel without Yama has a scope")
	}
}

func TestCapNames(t *testing.T) {
	for set, want := range map[uint64]string{
		1 << 13:             "cap_net_raw",
		1<<19 | 1<<0:        "cap_chown, cap_sys_ptrace",
		1<<41 - 1:           "cap_chown, cap_dac_override, cap_dac_read_search and 38 more",
		1 << 63:             "capability 63",
		1 << capSysPtrace:   "cap_sys_ptrace",
		1 << 40:             "cap_checkpoint_restore",
		1<<1 | 1<<2 | 1<<21: "cap_dac_override, cap_dac_read_search, cap_sys_admin",
	} {
		if got := capNames(set); got != want {
			t.Errorf("%#x: %q, want %q", set, got, want)
		}
	}
}

// What the kernel did not refuse is not explained away.
func TestExplain(t *testing.T) {
	p := kids(t, 0)
	for _, c := range []struct {
		err  error
		want string
	}{
		{io.ErrUnexpectedEOF, "unexpected EOF"},
		{unix.ENOSPC, "no space left on device"},
		{unix.ESRCH, "no such process"},
		{unix.EPERM, "operation not permitted, though all rules that procmem can see allow it"},
	} {
		if got := Explain(p.PID(), c.err); !strings.HasPrefix(got, c.want) || c.err != unix.EPERM && got != c.want {
			t.Errorf("%v: %q", c.err, got)
		}
	}
}
