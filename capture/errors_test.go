package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/sink"
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

// An option that would have no effect is an error, and the process is left alone.
func TestOptionsWithoutEffect(t *testing.T) {
	p, dir := open(t, startTarget(t)), t.TempDir()
	for want, o := range map[string]Options{"Compress": {Compress: Zstd}, "Replace": {Replace: true}} {
		c, _, err := Unnamed(t.Context(), p, dir, o)
		if c != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Unnamed with %s: %v", want, err)
		}
		_, err = Memory(t.Context(), p, "", o, func(context.Context, *Moment) error { return errors.New("called") })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Memory with %s: %v", want, err)
		}
	}
}

// The lack of room is told by a type of this package, wherever it shows.
func TestNoRoomIsOurs(t *testing.T) {
	if typ := reflect.TypeFor[NoRoomError](); !strings.HasSuffix(typ.PkgPath(), "/capture") {
		t.Errorf("it is of %s", typ.PkgPath())
	}
	err := fmt.Errorf("spool: %w", &SpoolError{Err: roomError(&sink.NoRoomError{Path: "x", Need: 2, Have: 1, Err: unix.ENOSPC})})
	e, ok := errors.AsType[*NoRoomError](err)
	if !ok || e.Need != 2 || !errors.Is(err, unix.ENOSPC) || e.Error() != "write x: no room: no space left on device" {
		t.Errorf("%+v of %v", e, err)
	}
}
