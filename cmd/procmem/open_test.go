package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/procmem/procmem/internal/testproc"
)

// coreOf takes a core of a helper whose program has that name in a new folder. It returns the
// folder and the name of the core there.
func coreOf(t *testing.T, program string) (dir, core string) {
	t.Helper()
	dir = t.TempDir()
	if err := copyProgram(filepath.Join(dir, program), testproc.Build(t, testproc.Kids)); err != nil {
		t.Fatal(err)
	}
	p := testproc.StartCmd(t, exec.Command(filepath.Join(dir, program)))
	if _, msg, status := procmemCommand(t, "core", "-o", filepath.Join(dir, "c"), strconv.Itoa(p.PID())); status != 0 {
		t.Fatal(msg)
	}
	return dir, "c." + strconv.Itoa(p.PID())
}

// A debugger takes no name of a program for commands. lldb puts names into commands of its own.
func TestOpenHostileNames(t *testing.T) {
	const most = time.Minute // lldb 14 hangs now and then
	for _, program := range []string{"a\nplatform shell touch pwned\nb", "$(touch pwned)`touch pwned`", `"; touch pwned; "`, "--eval-command=shell touch pwned", "\x1b[31m"} {
		dir, core := coreOf(t, program)
		for name, args := range map[string][]string{"gdb": {"-nx", "-batch", "-ex", "bt"}, "lldb": {"--batch", "-o", "bt"}} {
			if _, err := exec.LookPath(name); err != nil {
				t.Logf("no %s", name)
				continue
			}
			out := ""
			for range 3 {
				ctx, cancel := context.WithTimeout(context.Background(), most)
				cmd := exec.CommandContext(ctx, "procmem", append([]string{"open", core, "--with", name, "--"}, args...)...)
				cmd.Dir, cmd.WaitDelay = dir, time.Second
				b, _ := cmd.CombinedOutput()
				cancel()
				if out = string(b); ctx.Err() == nil {
					break
				}
			}
			if !strings.Contains(out, "main") {
				t.Errorf("%s with a program %q shows no frames: %s", name, program, out)
			}
			if _, err := os.Stat(filepath.Join(dir, "pwned")); err == nil {
				t.Errorf("%s has run a command in the name %q: %s", name, program, out)
			}
		}
		out, msg, status := procmemCommand(t, "open", "--with", "gdb", "--print", filepath.Join(dir, core))
		if strings.ContainsAny(out+msg, "\x1b`") && status == 0 || strings.Count(out, "\n") > 1 {
			t.Errorf("%q: status %d, %q, %q", program, status, out, msg)
		}
	}
}

func TestHowToInstall(t *testing.T) {
	for release, want := range map[string]string{
		"NAME=\"Debian GNU/Linux\"\nID=debian\n":                             "sudo apt install gdb",
		"ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n":                          "sudo apt install gdb",
		"ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.4\"\n": "sudo dnf install gdb",
		"ID='alpine'": "sudo apk add gdb",
		"ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"": "sudo zypper install gdb",
		"ID=arch":                 "sudo pacman -S gdb",
		"ID=nixos\nNAME=debian\n": "install gdb with the package manager of this machine",
		"":                        "install gdb with the package manager of this machine",
	} {
		if got := installCommand(release, "gdb", false); got != want {
			t.Errorf("%q: %s, want %s", release, got, want)
		}
	}
	if got := installCommand("ID=debian", "lldb-19", true); got != "apt install lldb-19" {
		t.Error(got)
	}
}
