package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/procmem/procmem/internal/testproc"
)

func TestUser(t *testing.T) {
	root(t)
	path := program(t)
	ofRoot, own, other := kids(t, 0), kids(t, nobody), kids(t, 12345)
	const sudo = "sudo"
	ask(t, nil, path, strconv.Itoa(own.PID())).want(t, "", "", "user=ok", "dumpable=ok", "CAP_SYS_PTRACE=ok")
	ask(t, as(nobody), path, strconv.Itoa(own.PID())).want(t, "", "", "user=ok", "dumpable=ok", "CAP_SYS_PTRACE=ok", "capabilities=ok", "user namespace=ok")
	ask(t, as(nobody), path, strconv.Itoa(other.PID())).want(t,
		"the target runs as uid 12345 gid 12345 and helper as uid 65534 gid 65534", sudo, "user=no", "dumpable=ok", "CAP_SYS_PTRACE=no")
	refused := ask(t, as(nobody), path, strconv.Itoa(ofRoot.PID()))
	refused.want(t, "uid 0 gid 0", sudo, "user=no", "dumpable=unknown", "capabilities=no")
	if want := refused.Cause + "; remedy: sudo " + path + ", or " + refused.Otherwise; refused.Viewed != want {
		t.Errorf("process.View says %q; want %q", refused.Viewed, want)
	}

	// The group counts as well.
	group := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: 7}}
	ask(t, group, path, strconv.Itoa(own.PID())).want(t, "uid 65534 gid 65534 and helper as uid 65534 gid 7", sudo, "user=no")

	// Root of a container is told of the container.
	ask(t, nil, path, strconv.Itoa(own.PID()), "setpriv", "--bounding-set=-sys_ptrace").want(t,
		"helper as uid 0", "--cap-add=SYS_PTRACE", "user=no", "CAP_SYS_PTRACE=no")
	// Where sudo can have no effect, it is not what helps.
	a := ask(t, as(nobody), path, strconv.Itoa(ofRoot.PID()), "setpriv", "--no-new-privs")
	a.want(t, "uid 0", "no_new_privs")
}

// The remedy of a missing capability is a command. It is run word for word, in
// a mount namespace with an /etc of its own, by a user who then may, and one
// who is not in the group may not.
func TestSetcap(t *testing.T) {
	root(t)
	dir := filepath.Join(filepath.Dir(program(t)), "it's here")
	path := filepath.Join(dir, "helper")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.Rename(filepath.Join(filepath.Dir(dir), "helper"), path)); err != nil {
		t.Fatal(err)
	}
	pid := strconv.Itoa(kids(t, 0).PID())
	before := ask(t, as(nobody), path, pid)
	_, line, ok := strings.Cut(before.Otherwise, "may read and hold every process: ")
	if !ok {
		t.Fatalf("no command in %q", before.Otherwise)
	}
	shim := t.TempDir()
	for name, text := range map[string]string{"sudo": `exec "$@"`, "id": "echo nobody"} { // who types it
		if err := os.WriteFile(filepath.Join(shim, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script := `set -e
cp -a /etc "$SHIM/etc"
mount --bind "$SHIM/etc" /etc
PATH="$SHIM:$PATH:/usr/sbin:/sbin"
` + line + ` >&2
run='exec "$0"' # for setpriv keeps the capabilities of root until it executes something
if setpriv --reuid=65534 --regid=65534 --clear-groups sh -c "$run" "$0" 2>"$SHIM/refused"; then exit 1; fi
exec setpriv --reuid=65534 --regid=65534 --init-groups sh -c "$run" "$0"`
	t.Setenv("SHIM", shim)
	ask(t, nil, path, pid, "unshare", "-m", "sh", "-c", script).want(t, "", "", "user=ok", "dumpable=ok", "capabilities=ok")
	if msg, err := os.ReadFile(filepath.Join(shim, "refused")); err != nil || !strings.Contains(string(msg), "Permission denied") {
		t.Errorf("who is not in the group: %v, %q", err, msg)
	}

	// The capability that the name suggests is not enough.
	for _, argv := range [][]string{{"setcap", "cap_sys_ptrace=ep", path}, {"chmod", "0755", path}} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", argv, err, out)
		}
	}
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
	ask(t, nil, path, strconv.Itoa(target.PID()), bare...).want(t, "not dumpable (prctl(2), PR_SET_DUMPABLE), or ", "CAP_SYS_PTRACE",
		"user=ok", "dumpable=unknown", "capabilities=ok")
}

func TestCapabilities(t *testing.T) {
	root(t)
	path := program(t)
	p := testproc.StartCmd(t, exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
		"--inh-caps=+net_raw", "--ambient-caps=+net_raw", testproc.Build(t, testproc.Kids)))
	pid := strconv.Itoa(p.PID())
	ask(t, as(nobody), path, pid).want(t, "capabilities that helper lacks (cap_net_raw)", "sudo",
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
	ask(t, as(nobody), path, strconv.Itoa(mapped.PID())).want(t, "a user namespace that another user made, or a security module", "CAP_SYS_PTRACE", "user=ok", "dumpable=ok", "user namespace=unknown")
}

func TestTraced(t *testing.T) {
	root(t)
	path := program(t)
	p := kids(t, 0)
	tracer := p.Cmd(t, "trace")
	a := ask(t, nil, path, strconv.Itoa(p.PID()))
	a.want(t, "already traced by kids (pid "+tracer+")", " core --method live "+strconv.Itoa(p.PID())+", or end or detach kids (pid "+tracer+")", "tracer=no", "CAP_SYS_PTRACE=ok")
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
	a.want(t, "a seccomp filter on helper itself refuses ptrace", "--method live", "seccomp=no", "tracer=ok")
	if !a.Readable {
		t.Error("the filter does not refuse reading")
	}
	ask(t, as(nobody), path, "filter "+pid).want(t, "the target runs as uid 0", "run helper as root", "seccomp=no", "user=no")
}

func TestSelf(t *testing.T) {
	a := ask(t, nil, program(t), "self")
	a.want(t, "helper cannot hold itself still", " core --method live ", "tracer=no")
	if !a.Readable || !strings.Contains(a.Note, "is helper itself") || !strings.Contains(a.Note, "exec") {
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
	if a.Name != "sh" && a.Name != "dash" && a.Name != "bash" || !strings.Contains(a.Note, "the process that started helper") || !strings.Contains(a.Note, "$$") {
		t.Errorf("%+v", *a.Report)
	}
	a = run(`sh -c "ACCESS_TEST_HELPER=$$ $0; true"; true`)
	a.want(t, "", "")
	if !strings.Contains(a.Note, "an ancestor of helper") {
		t.Errorf("%+v", *a.Report)
	}
	a = run(`ACCESS_TEST_HELPER=$$ exec "$0"`)
	if a.Stoppable || !strings.Contains(a.Note, "became helper (exec)") {
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
	if r.Readable || !strings.Contains(r.Cause, fmt.Sprintf("%d is not a process but a thread of kids (pid %d)", tid, p.PID())) || r.Otherwise != fmt.Sprintf("use %d", p.PID()) {
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
	if _, err := fmt.Sscanf(r.Otherwise, "use %d", &outer); err != nil || !strings.Contains(r.Cause, "inside a container that number is kids") {
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
		a.want(t, "hidepid", "sudo "+path+" core "+pid, "process=no")
	}
}

// Where no /proc is mounted, nothing hides.
func TestNoProc(t *testing.T) {
	root(t)
	unshare(t, "-m", "sh", "-c", "mount -t tmpfs none /proc")
	a := ask(t, nil, program(t), "1", "unshare", "-m", "sh", "-c",
		`mount -t tmpfs none /proc && mkdir -m 0 /proc/1 && exec setpriv --reuid=65534 --regid=65534 --clear-groups "$0"`)
	a.want(t, "no proc file system is mounted at /proc", "sudo mount -t proc proc /proc", "process=no")
}
