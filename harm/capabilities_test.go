package harm

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/procmem/procmem/internal/testproc"
)

// withCapabilities returns a copy of procmem with file capabilities, which
// every user may run.
func withCapabilities(t testing.TB, caps string) string {
	t.Helper()
	path := filepath.Join(unprivileged(t).dir(t), "procmem")
	from, err := os.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(to, from)
	if err := join(err, to.Close()); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("setcap", caps, path).CombinedOutput(); err != nil {
		t.Fatalf("setcap: %v: %s", err, out)
	}
	programs = append(programs, path)
	return path
}

// Who may trace the process of another user may not kill it without CAP_KILL,
// nor its copy; which ends all the same.
func TestAnotherUsersProcess(t *testing.T) {
	path := withCapabilities(t, "cap_sys_ptrace,cap_dac_read_search=ep")
	u := unprivileged(t)
	start := func(args ...any) *run {
		t.Helper()
		cmd := command(args...)
		cmd.Path = path
		return begin(t, u.as(cmd))
	}
	for _, owner := range []uint32{0, 12345} {
		t.Run(fmt.Sprint("of user ", owner), func(t *testing.T) {
			forEachMethod(t, allMethods, func(t *testing.T, method string) {
				cmd := exec.Command(testproc.Build(t, testproc.Many), "fill", ballast, "--writer", "0")
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner, Gid: owner}}
				p := testproc.StartCmd(t, cmd)
				before := look(t, p.PID())
				dir := u.dir(t)
				got := start("core", "--json", "--method", method, "-o", dir+"/core", p.PID()).wait(t)
				var said report
				if err := json.Unmarshal([]byte(got.stdout), &said); got.status == 0 && err != nil {
					t.Fatal(err)
				}
				// A writer like this may be too fast for precopy.
				if got.status != 0 && method != "precopy" || method == "fork" && said.Method != "fork" {
					t.Errorf("%v", got)
				}
				undone(t, p.PID(), before)
				unharmed(t, p)

				// Nor does it stay when procmem is killed while there is a copy.
				if method != "fork" {
					return
				}
				r := start("core", "--method", method, "-o", u.dir(t)+"/core", p.PID())
				testproc.Until(t, "a copy", func() bool { return r.ended() || look(t, p.PID()).children != before.children })
				r.signal(syscall.SIGKILL)
				undone(t, p.PID(), before)
				unharmed(t, p)
			})
		})
	}
}
