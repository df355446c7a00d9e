package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/procmem/procmem/internal/testproc"
)

// A shell in a terminal of tmux.
type tmuxShell struct {
	t      *testing.T
	socket string
}

// patience is how long what never comes is waited for.
const patience = time.Minute

// prompt is printed by each of the shells, and by nothing else.
const prompt = "ready>"

// startShell starts a shell in dir that has read the completion for it, without any files of the
// user or the system.
func startShell(t *testing.T, shell, dir string) *tmuxShell {
	t.Helper()
	for _, program := range []string{"tmux", shell} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("PROCMEM_TEST_ALL") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	script, _, status := procmemCommand(t, "completion", shell)
	if status != 0 {
		t.Fatalf("completion %s: status %d", shell, status)
	}
	file := filepath.Join(t.TempDir(), "procmem."+shell)
	if shell == "zsh" {
		file = filepath.Join(t.TempDir(), "_procmem") // found by its name
	}
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	command := map[string]string{
		"bash": "exec bash --noprofile --rcfile " + write(t, "PS1='"+prompt+"'\nsource "+file+"\nbind 'set bell-style none'\nbind 'set show-all-if-ambiguous on'\nbind 'set page-completions off'\nbind 'set enable-bracketed-paste off'\n"),
		"zsh": "exec env ZDOTDIR=" + filepath.Dir(write(t, "PS1='"+prompt+"'\nfpath=("+filepath.Dir(file)+" $fpath)\nautoload -U compinit\ncompinit -u -D\n"+
			"setopt NO_BEEP\nLISTMAX=9999\n", ".zshrc")) + " zsh -d -i",
		"fish": "exec env HOME=" + t.TempDir() + " XDG_CONFIG_HOME= XDG_DATA_HOME= fish --no-config --interactive --init-command " +
			"'function fish_prompt; echo -n \"" + prompt + "\"; end; set -g fish_greeting; set -g fish_autosuggestion_enabled 0; source " + file + "'",
	}[shell]
	s := &tmuxShell{t, filepath.Join(t.TempDir(), "tmux")}
	s.tmux("-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "50", "-c", dir, command)
	t.Cleanup(func() { s.tmux("kill-server") })
	s.wait(prompt)
	return s
}

func write(t *testing.T, text string, name ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), append(name, "rc")[0])
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (s *tmuxShell) tmux(args ...string) string {
	s.t.Helper()
	cmd := exec.Command("tmux", append([]string{"-S", s.socket}, args...)...)
	cmd.Env = append(os.Environ(), "TERM=xterm", "LC_ALL=C.UTF-8", "INPUTRC=/dev/null")
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("tmux %q: %v: %s", args, err, out)
	}
	return string(out)
}

// wait returns the screen as soon as it holds all that is wanted.
func (s *tmuxShell) wait(want ...string) string {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		screen := s.tmux("capture-pane", "-p")
		missing := ""
		for _, w := range want {
			if !strings.Contains(screen, w) {
				missing = w
			}
		}
		if missing == "" {
			return screen
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%q does not come:\n%s", missing, screen)
		}
	}
}

// complete types a line and a tab, and waits for what is wanted. The line is not carried out.
func (s *tmuxShell) complete(line string, want ...string) string {
	s.t.Helper()
	s.tmux("send-keys", "-l", line)
	s.wait(strings.TrimRight(line, " "))
	s.tmux("send-keys", "Tab")
	screen := s.wait(want...)
	s.tmux("send-keys", "C-u", "C-l")
	s.waitEmpty()
	return screen
}

// waitEmpty waits until there is nothing but a prompt.
func (s *tmuxShell) waitEmpty() {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		screen := strings.TrimSpace(s.tmux("capture-pane", "-p"))
		if screen == prompt {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the screen does not become empty:\n%s", screen)
		}
	}
}

// Each shell completes commands, options and their values, processes with their names, cores,
// mappings and symbols, without a package of its own for that.
func TestCompletion(t *testing.T) {
	p, other, both := neighbours(t)
	pid := strconv.Itoa(p.PID())
	dir := t.TempDir()
	if _, msg, status := procmemCommand(t, "core", "-o", filepath.Join(dir, "snap"), pid); status != 0 {
		t.Fatal(msg)
	}
	for _, name := range []string{"snapshot.txt", "sn\x1bap"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("no core, but as long as the header of one"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	name, _ := nameOf(p.PID())
	for _, shell := range []string{"bash", "zsh", "fish"} {
		t.Run(shell, func(t *testing.T) {
			s := startShell(t, shell, dir)
			s.complete("procmem unp", prompt+"procmem unpack")
			s.complete("procmem core --metho", prompt+"procmem core --method")
			s.complete("procmem core --method pre", prompt+"procmem core --method precopy")
			s.complete("procmem help exi", prompt+"procmem help exit-status")
			s.complete("procmem maps "+both, pid, strconv.Itoa(other.PID()), name)
			s.complete("procmem threads 1,"+pid, prompt+"procmem threads 1,"+pid)
			screen := s.complete("procmem verify sn", prompt+"procmem verify snap."+pid)
			if strings.Contains(screen, "txt") {
				t.Errorf("a file that is no core is offered:\n%s", screen)
			}
			s.complete("procmem info ./sn", prompt+"procmem info ./snap."+pid)
			s.complete("procmem read "+pid+" ld-linux", prompt+"procmem read "+pid+" ld-linux-x86-64.so.2")
			s.complete("procmem read "+pid+" sym:malloc_usable_s", prompt+"procmem read "+pid+" sym:malloc_usable_size")
			s.complete("procmem search "+pid+" x --in ld-linux", " --in ld-linux-x86-64.so.2")
			s.complete("procmem strings snap."+pid+" --in ld-linux", " --in ld-linux-x86-64.so.2")
			bracket := "["
			if shell == "zsh" {
				bracket = `\[` // zsh itself takes [sta for a subscript
			}
			s.complete("procmem read "+pid+" "+bracket+"sta", "stack", "]")
		})
	}
}

// neighbours starts processes until two have pids that begin alike, so that a shell has a choice.
func neighbours(t *testing.T) (a, b *testproc.Proc, both string) {
	b = testproc.Start(t, testproc.Kids)
	for len(both) < 2 {
		a, b = b, testproc.Start(t, testproc.Kids)
		both = commonPrefix(strconv.Itoa(a.PID()), strconv.Itoa(b.PID()))
	}
	return a, b, both
}

func commonPrefix(a, b string) string {
	for !strings.HasPrefix(b, a) {
		a = a[:len(a)-1]
	}
	return a
}

// What a target chooses the name of is offered as a word where it means nothing to a shell.
func TestCompletionHostile(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	p := testproc.Start(t, testproc.Kids)
	if _, msg, status := procmemCommand(t, "core", strconv.Itoa(p.PID())); status != 0 {
		t.Fatal(msg)
	}
	core, err := os.ReadFile("core." + strconv.Itoa(p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a$(touch x)", "a;x", "a\nb", "a\tb", "-a", "a b", "a\x1b[31m", "a*", "good"} {
		if err := os.WriteFile(name, core, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := coreWords(""); len(got) != 2 || !strings.HasPrefix(got[1], "good\t") {
		t.Errorf("%q", got)
	}
}
