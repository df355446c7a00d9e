package harm

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/procmem/procmem/internal/testproc"
)

// nobody is a user and a group without rights.
const nobody = 65534

// user is another user than root, without capabilities.
type user struct{}

// unprivileged needs root, to become somebody else.
func unprivileged(t testing.TB) user {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("takes root")
	}
	return user{}
}

func (user) as(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return cmd
}

// start starts a helper as this user.
func (u user) start(t testing.TB, v testproc.Variant, args ...string) *testproc.Proc {
	t.Helper()
	return testproc.StartCmd(t, u.as(exec.Command(testproc.Build(t, v), args...)))
}

// call runs procmem as this user.
func (u user) call(t testing.TB, args ...any) result {
	t.Helper()
	return begin(t, u.as(command(args...))).wait(t)
}

// dir returns a folder of this user.
func (user) dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "procmem-harm-user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := join(os.Chown(dir, nobody, nobody), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	return dir
}
