package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/procmem/procmem/internal/testproc"
)

// The tests run the commands as a person would: testscript puts programs
// named procmem and gcore, which are this test program, into PATH.

func TestMain(m *testing.M) {
	command := func() { os.Exit(run()) }
	testscript.Main(m, map[string]func(){"procmem": command, "gcore": command})
}

// TestScripts runs testdata/script. Beside the commands of testscript:
//
//	start NAME PROGRAM [ARG...]    a helper program of testproc; -uid=N as another user, -copy=FILE from a copy of its
//	                               file. Sets NAME to its pid, and NAME_map_X, NAME_needle_X, NAME_hex_X and NAME_tid_X to what it announces
//	say NAME COMMAND...            sends it a command; ANSWER is what it says
//	end NAME                       kills it, and waits for that
//	status N COMMAND...            runs a command that exits with N
//	bytes FILE HEX                 FILE holds exactly these bytes
//	mode FILE PERM                 the permissions of FILE, in octal
//	fifo FILE                      makes a pipe
//	set NAME VALUE                 env, with the arithmetic of addresses: 0x10+4
//
// The conditions [root], [mount] (in a namespace), [namespaces] (they can be
// made) and [exec:NAME] tell what a machine has.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Values["t"] = env.T().(testing.TB)
			env.Values["procs"] = map[string]*testproc.Proc{}
			env.Setenv("LC_ALL", "C")
			env.Setenv("TERM", "xterm")
			openToAll(t)
			return nil
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Getuid() == 0, nil
			case "mount":
				return exec.Command("unshare", "-m", "sh", "-c", "mount -t tmpfs none /mnt").Run() == nil, nil
			case "namespaces":
				return exec.Command("unshare", "-U", "-p", "-f", "true").Run() == nil, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"start": cmdStart, "say": cmdSay, "end": cmdEnd, "status": cmdStatus,
			"bytes": cmdBytes, "mode": cmdMode, "fifo": cmdFifo, "set": cmdSet,
		},
	})
}

// openToAll lets other users run the programs that testscript has put into
// PATH.
func openToAll(t testing.TB) {
	path, err := exec.LookPath("procmem")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, filepath.Dir(path), filepath.Dir(filepath.Dir(path))} {
		if err := os.Chmod(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func usage(ts *testscript.TestScript, ok bool, text string) {
	if !ok {
		ts.Fatalf("usage: %s", text)
	}
}

func procs(ts *testscript.TestScript) map[string]*testproc.Proc {
	return ts.Value("procs").(map[string]*testproc.Proc)
}

func proc(ts *testscript.TestScript, name string) *testproc.Proc {
	p := procs(ts)[name]
	if p == nil {
		ts.Fatalf("no process %s was started", name)
	}
	return p
}

var helpers = map[string]testproc.Variant{
	"zoo": testproc.Zoo, "witness": testproc.Witness, "many": testproc.Many, "signals": testproc.Signals,
	"kids": testproc.Kids, "goprog": testproc.GoProg, "zoo32": testproc.Zoo.With(testproc.M32), "kids32": testproc.Kids.With(testproc.M32),
}

func cmdStart(ts *testscript.TestScript, _ bool, args []string) {
	t := ts.Value("t").(testing.TB)
	var attr *syscall.SysProcAttr
	if len(args) > 0 {
		if s, ok := strings.CutPrefix(args[0], "-uid="); ok {
			uid, err := strconv.Atoi(s)
			ts.Check(err)
			attr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
			args = args[1:]
		}
	}
	file := ""
	if len(args) > 0 {
		if path, ok := strings.CutPrefix(args[0], "-copy="); ok {
			file, args = ts.MkAbs(path), args[1:]
		}
	}
	usage(ts, len(args) >= 2, "start [-uid=N] [-copy=FILE] NAME PROGRAM [ARG...]")
	v, ok := helpers[args[1]]
	usage(ts, ok, "start: unknown program")
	name := args[0]
	path := testproc.Build(t, v)
	if file != "" {
		ts.Check(copyProgram(file, path))
		path = file
	}
	cmd := exec.Command(path, args[2:]...)
	cmd.SysProcAttr = attr
	p := testproc.StartCmd(t, cmd)
	procs(ts)[name] = p
	ts.Setenv(name, strconv.Itoa(p.PID()))
	for key := range p.Facts {
		if n, ok := strings.CutPrefix(key, "needle "); ok {
			addr, b := p.Needle(t, n)
			ts.Setenv(name+"_needle_"+n, addr.String())
			ts.Setenv(name+"_hex_"+n, hex.EncodeToString(b))
			ts.Setenv(name+"_len_"+n, strconv.Itoa(len(b)))
		}
	}
	for _, m := range p.Maps() {
		ts.Setenv(name+"_map_"+m.Name, m.Range.String())
		ts.Setenv(name+"_start_"+m.Name, m.Start.String())
		ts.Setenv(name+"_end_"+m.Name, m.End.String())
	}
	for _, th := range p.Threads {
		ts.Setenv(name+"_tid_"+th.Name, strconv.Itoa(th.TID))
	}
	ts.Setenv(name+"_exe", p.Path)
}

func copyProgram(to, from string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o700)
}

func cmdSay(ts *testscript.TestScript, _ bool, args []string) {
	usage(ts, len(args) >= 2, "say NAME COMMAND...")
	ts.Setenv("ANSWER", proc(ts, args[0]).Cmd(ts.Value("t").(testing.TB), "%s", strings.Join(args[1:], " ")))
}

func cmdEnd(ts *testscript.TestScript, _ bool, args []string) {
	usage(ts, len(args) == 1, "end NAME")
	p := proc(ts, args[0])
	p.Kill()
	_, err := p.Wait()
	ts.Check(err)
}

func cmdStatus(ts *testscript.TestScript, _ bool, args []string) {
	usage(ts, len(args) >= 2, "status N COMMAND...")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

func cmdBytes(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 2, "bytes FILE HEX")
	if got := hex.EncodeToString([]byte(ts.ReadFile(args[0]))); (got == args[1]) == neg {
		ts.Fatalf("%s holds %.200s, want %s", args[0], got, args[1])
	}
}

func cmdMode(ts *testscript.TestScript, _ bool, args []string) {
	usage(ts, len(args) == 2, "mode FILE PERM")
	fi, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := fmt.Sprintf("%o", fi.Mode().Perm()); got != args[1] {
		ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
	}
}

func cmdFifo(ts *testscript.TestScript, _ bool, args []string) {
	usage(ts, len(args) == 1, "fifo FILE")
	ts.Check(syscall.Mkfifo(ts.MkAbs(args[0]), 0o600))
}

func cmdSet(ts *testscript.TestScript, _ bool, args []string) {
	usage(ts, len(args) == 2, "set NAME ADDRESS[+-]NUMBER")
	i := strings.LastIndexAny(args[1], "+-")
	usage(ts, i > 0, "set NAME ADDRESS[+-]NUMBER")
	a, err := strconv.ParseUint(args[1][:i], 0, 64)
	ts.Check(err)
	n, err := strconv.ParseInt(args[1][i:], 0, 64)
	ts.Check(err)
	ts.Setenv(args[0], fmt.Sprintf("%#x", a+uint64(n)))
}
