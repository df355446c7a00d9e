package harm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/procmem/procmem/internal/testproc"
)

// A procmem whose file has capabilities is run by any user of a group. It may
// read any process, and no file that the user may not read.

// needle is what is in each file of root alone.
const needle = "only root may read this"

// capable is a copy of procmem with the capabilities of the printed remedy.
type capable struct {
	user
	path string
}

func setcap(t *testing.T) capable {
	t.Helper()
	c := capable{unprivileged(t), filepath.Join(worldDir(t), "procmem")}
	for _, argv := range [][]string{{"cp", program, c.path}, {"chmod", "0755", c.path}, {"setcap", "cap_sys_ptrace,cap_dac_read_search=ep", c.path}} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", argv, err, out)
		}
	}
	return c
}

// worldDir is a folder of root that everybody may look into.
func worldDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "procmem-harm-setcap-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// command is this procmem, run by the user in a folder of his.
func (c capable) command(dir string, args ...string) *exec.Cmd {
	cmd := c.as(exec.Command(c.path, args...))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "HOME="+dir)
	return cmd
}

// All files that a command is given the name of are opened with the rights of
// the user.
func TestSetcapOpensNoFileForItsUser(t *testing.T) {
	c := setcap(t)
	dir := c.dir(t)
	secrets := worldDir(t)
	target := testproc.Start(t, testproc.Kids)
	pid := strconv.Itoa(target.PID())
	own := strconv.Itoa(c.start(t, testproc.Kids).PID())

	// A core, candidates and text that are root's; and a folder that is, with a
	// file that all may read.
	call(t, "core", "-o", filepath.Join(secrets, "core"), pid).want(t, 0, "")
	call(t, "core", "-o", filepath.Join(secrets, "packed"), "--compress", "zstd", pid).want(t, 0, "")
	call(t, "search", pid, "--type", "u32", "1", "--save", filepath.Join(secrets, "hits")).want(t, 0, "")
	core, packed, hits := filepath.Join(secrets, "core."+pid), filepath.Join(secrets, "packed."+pid+".zst"), filepath.Join(secrets, "hits")
	text, locked := filepath.Join(secrets, "text"), filepath.Join(secrets, "locked")
	inside := filepath.Join(locked, "inside")
	if err := join(os.WriteFile(text, []byte(needle+"\n"), 0o600), os.Mkdir(locked, 0o700), os.WriteFile(inside, []byte(needle+"\n"), 0o644),
		os.Chmod(core, 0o600), os.Chmod(packed, 0o600), os.Chmod(hits, 0o600)); err != nil {
		t.Fatal(err)
	}
	// A process of root that works in the folder, and has the file open.
	open, err := os.Open(text)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	sleeper := exec.Command("sleep", "1000")
	sleeper.Dir, sleeper.ExtraFiles = locked, []*os.File{open}
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { sleeper.Process.Kill(); sleeper.Wait() }()
	root := fmt.Sprintf("/proc/%d", sleeper.Process.Pid)

	for _, args := range [][]string{
		{"search", "self", "-f", text}, {"search", "self", "-f", inside},
		{"search", "self", "-f", root + "/cwd/inside"}, {"search", "self", "-f", root + "/root" + text},
		{"search", "self", "-f", root + "/fd/3"}, {"search", "self", "-f", root + "/environ"}, {"search", "self", "--hex", "-f", root + "/maps"},
		{"search", pid, "--from", hits}, {"search", pid, "--from", hits, "--unchanged"},
		{"search", pid, "--from", hits, "--save", hits},
		{"unpack", packed, "-o", "-"}, {"unpack", text, "-o", "-"}, {"unpack", root + "/cwd/inside", "-o", "-"},
		{"pack", core, "-o", "-"}, {"pack", text, "-o", "-"},
		{"info", core}, {"info", packed}, {"maps", core}, {"maps", packed}, {"threads", core}, {"verify", core}, {"verify", packed},
		{"read", core, "[stack]"}, {"read", packed, "[stack]"}, {"dump", core, "-o", "-"}, {"dump", packed, "-o", "-"},
		{"search", core, "e"}, {"strings", core}, {"diff", core, own}, {"diff", own, packed},
		{"core", own, "-o", filepath.Join(secrets, "mine")}, {"dump", own, "-o", filepath.Join(secrets, "mine")},
		{"search", own, "--type", "u32", "1", "--save", filepath.Join(secrets, "mine")},
	} {
		r := begin(t, c.command(dir, args...)).wait(t)
		if r.status == 0 || !strings.Contains(r.stderr, "ermission denied") || strings.Contains(r.stdout+r.stderr, needle) {
			t.Errorf("%q: %v", args, r)
		}
	}
	// Nor does the environment name files for it.
	for _, env := range []string{"AWS_CA_BUNDLE=" + text, "AWS_SHARED_CREDENTIALS_FILE=" + text, "AWS_CONFIG_FILE=" + text, "AWS_WEB_IDENTITY_TOKEN_FILE=" + text} {
		cmd := c.command(dir, "core", "-o", "s3://bucket/key", own)
		cmd.Env = append(cmd.Env, "AWS_EC2_METADATA_DISABLED=true", "AWS_ENDPOINT_URL=https://127.0.0.1:1", "AWS_ROLE_ARN=r", "AWS_REGION=r", env)
		if strings.HasPrefix(env, "AWS_CA") {
			cmd.Env = append(cmd.Env, "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b")
		}
		r := begin(t, cmd).wait(t)
		if r.status == 0 || !strings.Contains(r.stderr, "ermission denied") && !strings.Contains(r.stderr, "credentials") || strings.Contains(r.stdout+r.stderr, needle) {
			t.Errorf("%s: %v", env, r)
		}
	}
}

// A process of another user is read by every command and method that could.
func TestSetcapReadsProcesses(t *testing.T) {
	c := setcap(t)
	target := testproc.Start(t, testproc.Many, "threads", "4", "fill", "40M")
	own := c.start(t, testproc.Many, "threads", "4", "fill", "40M")
	for _, p := range []*testproc.Proc{target, own} {
		pid := strconv.Itoa(p.PID())
		commands := [][]string{
			{"maps", pid}, {"read", pid, "[stack]"}, {"read", pid, "[stack]", "--follow"}, {"dump", pid, "-o", "dump." + pid}, {"threads", pid}, {"doctor", pid},
			{"search", pid, "--type", "u64", "1", "--count"}, {"strings", pid}, {"diff", pid, "--after", "1ms"},
			{"read", pid, "sym:main"},
		}
		methods := []string{"auto", "stop", "precopy", "live"}
		if p == own {
			methods = append(methods, "fork") // of another's the copy could not be ended
		}
		for _, m := range methods {
			commands = append(commands, []string{"core", "--method", m, "-o", m, pid})
		}
		dir := c.dir(t)
		for _, args := range commands {
			r := begin(t, c.command(dir, args...)).wait(t)
			if r.status != 0 && !(args[0] == "diff" && r.status == 1) {
				t.Errorf("%q: %v", args, r)
			}
		}
		if wrong := len(p.TIDs()); wrong != 5 {
			t.Errorf("%d threads", wrong)
		}
		for _, m := range methods {
			core := openCore(t, filepath.Join(dir, m+"."+pid))
			if n := len(core.Image().Threads); n != 5 {
				t.Errorf("%s: %d threads", m, n)
			}
		}
	}
}

// While it works, no thread but the tracer's has the capabilities, and it
// leaves no core of what it has read.
func TestSetcapThreads(t *testing.T) {
	c := setcap(t)
	target := testproc.Start(t, testproc.Many, "fill", "64M")
	for _, method := range []string{"live", "stop"} {
		cmd := c.command(c.dir(t), "core", "--method", method, "-o", "-", strconv.Itoa(target.PID()))
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		r := begin(t, cmd)
		if _, err := stdout.Read(make([]byte, 64)); err != nil {
			t.Fatal(err)
		}
		// It is in the middle of its work: nobody reads on.
		raised := 0
		for _, tid := range tids(r.pid()) {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", r.pid(), tid))
			if err != nil {
				continue
			}
			if !strings.Contains(string(status), "CapEff:\t0000000000000000\n") {
				raised++
			}
			if !strings.Contains(string(status), "CapPrm:\t0000000000080004\n") {
				t.Errorf("%s: thread %d: %s", method, tid, status)
			}
		}
		if method == "live" && raised != 0 || raised > 1 {
			t.Errorf("%s: %d threads have the capabilities", method, raised)
		}
		// Not dumpable: its files in /proc are root's (proc(5)).
		fi, err := os.Stat(fmt.Sprintf("/proc/%d/mem", r.pid()))
		if err != nil || fi.Sys().(*syscall.Stat_t).Uid != 0 {
			t.Errorf("%s: procmem can leave a core, or be read by its user: %v", method, err)
		}
		r.signal(syscall.SIGKILL)
		<-r.done
	}
}

// The process that it runs beside itself has no more to say than it.
func TestSetcapHelper(t *testing.T) {
	c := setcap(t)
	target := c.start(t, testproc.Many, "fill", "256M", "--writer", "0")
	cmd := c.command(c.dir(t), "core", "--method", "fork", "-o", "-", strconv.Itoa(target.PID()))
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r := begin(t, cmd)
	if _, err := stdout.Read(make([]byte, 64)); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, pid := range childrenOf(r.pid()) {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		fi, err := os.Stat(fmt.Sprintf("/proc/%d/mem", pid))
		if err != nil || fi.Sys().(*syscall.Stat_t).Uid != 0 || string(comm) != "core-helper\n" {
			t.Errorf("%q can leave a core, or be read by its user: %v", comm, err)
		}
		found++
	}
	if found != 1 {
		t.Errorf("%d helpers", found)
	}
	r.signal(syscall.SIGTERM)
	<-r.done
}

// childrenOf lists the processes that a process has started.
func childrenOf(pid int) (out []int) {
	for _, tid := range tids(pid) {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, tid))
		for f := range strings.FieldsSeq(string(b)) {
			if n, err := strconv.Atoi(f); err == nil {
				out = append(out, n)
			}
		}
	}
	return out
}

// A setuid procmem would open everything for everybody.
func TestSetuidIsRefused(t *testing.T) {
	c := setcap(t)
	if err := os.Chmod(c.path, 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	begin(t, c.command(c.dir(t), "maps", "self")).wait(t).want(t, 1, "it is setuid")
}
