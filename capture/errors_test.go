package capture

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/snapshot"
)

// The error of a process that cannot be taken has the words of package access.
func TestProcessErrorExplains(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	cases := map[int]string{
		cmd.Process.Pid: fmt.Sprintf("%d (true) is a zombie: it has exited", cmd.Process.Pid),
		os.Getpid():     filepath.Base(os.Args[0]) + " cannot hold itself still; remedy: ",
	}
	if p, err := process.Open(2); err == nil {
		if st, err := p.Stat(); err == nil && st.KernelThread() {
			cases[2] = "2 is the kernel thread ["
		}
		p.Close()
	}
	for pid, want := range cases {
		p, err := process.Open(pid)
		if err != nil {
			t.Fatal(err)
		}
		_, err = ToWriter(t.Context(), p, io.Discard, Options{Method: snapshot.MethodStop})
		if e, ok := errors.AsType[*ProcessError](err); !ok || e.PID != pid || e.Err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
		p.Close()
	}
}
