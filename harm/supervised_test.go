package harm

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/testproc"
)

// A fault is what goes wrong at one system call of procmem.
type fault struct {
	helper bool   // a call of its helper process
	call   string // see callNumbers; "any"
	n      int    // which of them, from 0
	errno  unix.Errno
	times  int  // how many calls fail, that one the first
	kill   bool // the process is killed instead
	// From then on it may open no other file.
	noFiles bool

	at string // the call that it was, and the one before
}

func (f fault) String() string {
	what := fmt.Sprintf("%s, %d times from", unix.ErrnoName(f.errno), f.times)
	if f.kill {
		what = "killed at"
	}
	if f.noFiles {
		what = "no other file from"
	}
	return fmt.Sprintf("%s %s number %d of %s", what, f.call, f.n, role(f.helper))
}

func role(helper bool) string {
	if helper {
		return "the helper"
	}
	return "procmem"
}

// callNumbers are the system calls that can be made to fail.
var callNumbers = map[string]int{
	"ptrace": unix.SYS_PTRACE, "waitid": unix.SYS_WAITID, "wait4": unix.SYS_WAIT4, "ioctl": unix.SYS_IOCTL, "kill": unix.SYS_KILL,
	"pidfd_open": unix.SYS_PIDFD_OPEN, "pidfd_getfd": unix.SYS_PIDFD_GETFD, "process_vm_readv": unix.SYS_PROCESS_VM_READV,
	"clone": unix.SYS_CLONE, "clone3": unix.SYS_CLONE3, "execve": unix.SYS_EXECVE, "mmap": unix.SYS_MMAP,
	"sendmsg": unix.SYS_SENDMSG, "recvmsg": unix.SYS_RECVMSG, "socketpair": unix.SYS_SOCKETPAIR, "pipe2": unix.SYS_PIPE2,
	"openat": unix.SYS_OPENAT, "pread64": unix.SYS_PREAD64, "readlinkat": unix.SYS_READLINKAT, "sched_setattr": unix.SYS_SCHED_SETATTR,
	"pwrite64": unix.SYS_PWRITE64, "write": unix.SYS_WRITE, "fallocate": unix.SYS_FALLOCATE, "ftruncate": unix.SYS_FTRUNCATE,
	"fsync": unix.SYS_FSYNC, "renameat": unix.SYS_RENAMEAT, "renameat2": unix.SYS_RENAMEAT2, "linkat": unix.SYS_LINKAT, "unlinkat": unix.SYS_UNLINKAT,
}

var callNames = func() map[int]string {
	names := make(map[int]string)
	for name, n := range callNumbers {
		names[n] = name
	}
	return names
}()

// ofFile are those that count where they are about a file in the folder of the
// core: procmem writes to pipes and events of its runtime, too.
var ofFile = map[string]bool{"pwrite64": true, "write": true, "fallocate": true, "ftruncate": true, "fsync": true}

// ptraceNames are requests, for people.
var ptraceNames = map[uint64]string{
	unix.PTRACE_CONT: "CONT", 12: "GETREGS", 13: "SETREGS", 14: "GETFPREGS",
	unix.PTRACE_DETACH: "DETACH", unix.PTRACE_SYSCALL: "SYSCALL", unix.PTRACE_SETOPTIONS: "SETOPTIONS", unix.PTRACE_GETEVENTMSG: "GETEVENTMSG",
	unix.PTRACE_GETREGSET: "GETREGSET", unix.PTRACE_SEIZE: "SEIZE", unix.PTRACE_INTERRUPT: "INTERRUPT", 0x4209: "PEEKSIGINFO",
	0x420a: "GETSIGMASK", 0x420e: "GET_SYSCALL_INFO", 0x420f: "GET_RSEQ_CONFIGURATION", 0x4211: "GET_SYSCALL_USER_DISPATCH_CONFIG",
}

// nameOf names a call, for people.
func nameOf(c testproc.Call) string {
	name := callNames[c.Number]
	if name == "ptrace" {
		name += " " + ptraceNames[c.Args[0]]
	}
	return name
}

// where is how often each call was made, by whom.
type where struct {
	helper bool
	call   string
}

// supervised runs procmem with a fault, and returns how often each of the calls
// was made. The helper has ended, too.
func supervised(t testing.TB, f *fault, dir string, calls []string, args ...any) (got result, counts map[where]int, hit bool) {
	t.Helper()
	numbers := make([]int, len(calls))
	for i, c := range calls {
		numbers[i] = callNumbers[c]
	}
	var (
		mu   sync.Mutex
		main int
		gone bool // killed
		last string
	)
	counts = make(map[where]int)
	s := &testproc.Supervisor{Judge: func(c testproc.Call) (v testproc.Verdict) {
		mu.Lock()
		defer mu.Unlock()
		w := where{c.PID != main, callNames[c.Number]}
		if ofFile[w.call] {
			link, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", c.PID, int32(c.Args[0])))
			if !strings.HasPrefix(link, dir) {
				return v
			}
		}
		if f != nil && !gone && w.helper == f.helper {
			defer func() { last = nameOf(c) }()
		}
		any := where{w.helper, "any"}
		counts[any]++
		n := counts[w]
		counts[w]++
		if f != nil && f.call == "any" {
			w, n = any, counts[any]-1
		}
		if f == nil || gone || f.helper != w.helper || f.call != w.call || n < f.n || n >= f.n+max(1, f.times) {
			return v
		}
		hit, gone = true, f.kill
		f.at = fmt.Sprintf("%s, after %s", nameOf(c), last)
		if f.noFiles {
			gone = true
			if err := noFiles(c.PID); err != nil {
				t.Error(err)
			}
		}
		return testproc.Verdict{Errno: f.errno, Kill: f.kill}
	}}
	cmd := command(args...)
	s.Supervise(t, cmd, numbers...)
	mu.Lock() // until it is known who is who
	r := begin(t, cmd)
	main = r.pid()
	mu.Unlock()
	s.Attach(t, r.pid())
	got = r.wait(t)
	s.Wait(t)
	return got, counts, hit
}

// noFiles has a process open no file more.
func noFiles(pid int) error {
	lowest := 0 // number that is free
	for ; ; lowest++ {
		if _, err := os.Lstat(fmt.Sprintf("/proc/%d/fd/%d", pid, lowest)); err != nil {
			break
		}
	}
	var limit unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		return err
	}
	limit.Cur = uint64(lowest)
	return unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil)
}

// victim is a target that is started again when it was harmed.
type victim struct {
	*testproc.Proc
	before traces
	dir    string // of cores
	packed bool   // that are compressed
	more   []string
	harmed map[string]int
}

func (v *victim) start(t testing.TB) {
	t.Helper()
	v.Proc = testproc.Start(t, testproc.Torture, v.more...)
	v.before = look(t, v.PID())
	if v.dir == "" {
		v.dir, v.harmed = t.TempDir(), map[string]int{}
	}
}

func (v *victim) args(method string) []any {
	return []any{"core", "--method", method, "--force", "-o", filepath.Join(v.dir, "core"), v.PID()}
}

func (v *victim) core() string {
	name := fmt.Sprintf("core.%d", v.PID())
	if v.packed {
		name += ".zst"
	}
	return filepath.Join(v.dir, name)
}

// harm tells what the target is the worse for, "" for nothing. Then there is
// another target.
func (v *victim) harm(t testing.TB) (what string) {
	t.Helper()
	what = v.look(t)
	if what == "" {
		what, _ = v.Check(t)
	}
	if what != "" {
		v.Kill()
		v.start(t)
	}
	return what
}

// look is harm without what only the target can tell.
func (v *victim) look(t testing.TB) (what string) {
	pid := v.PID()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if s := v.State(); s == 'Z' || s == 'X' || s == 0 {
			stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			return "it has died: status " + lastField(string(stat))
		}
		now := testproc.TracesOf(t, pid)
		switch {
		case len(helpers()) > 0:
			what = "a helper is left"
		case !untraced(pid):
			what = "it is being traced"
		case stoppedThread(pid):
			what = "a thread is stopped"
		case now.Children != v.before.children:
			what = fmt.Sprintf("children %s; before %s", describe(now.Children), v.before.children)
		case now.FDs != v.before.fds:
			what = "files:\n" + now.FDs + "\nbefore:\n" + v.before.fds
		case now.Watched != "":
			what = "memory is tracked: " + now.Watched
		case len(tids(pid)) != len(v.before.threads):
			what = "another number of threads"
		default:
			return ""
		}
		if time.Now().After(end) {
			return what
		}
	}
}

// describe adds the states of processes to their ids.
func describe(pids string) (out string) {
	for f := range strings.FieldsSeq(pids) {
		pid, _ := strconv.Atoi(f)
		out += fmt.Sprintf("%d (%c) ", pid, testproc.State(pid, pid))
	}
	return out
}

func lastField(s string) string {
	f := strings.Fields(s)
	if len(f) == 0 {
		return "unknown"
	}
	return f[len(f)-1]
}

func stoppedThread(pid int) bool {
	for _, tid := range tids(pid) {
		if s := testproc.State(pid, tid); s == 'T' || s == 't' {
			return true
		}
	}
	return false
}

// file tells what is wrong with what a run left, "" for nothing: either a whole
// core, or a reason and nothing.
func (v *victim) file(t testing.TB, got result) string {
	t.Helper()
	name, partial := filepath.Base(v.core()), filepath.Base(v.core())+".partial"
	left := strings.Join(names(t, v.dir), " ")
	defer func() {
		for _, n := range names(t, v.dir) {
			os.Remove(filepath.Join(v.dir, n))
		}
	}()
	if strings.HasPrefix(left, name) && left != partial {
		if wrong := broken(v.core()); wrong != "" {
			return fmt.Sprintf("%s after %v", wrong, got)
		}
	}
	switch {
	case (got.status == 0 || got.status == 3) && left == name,
		got.status == 1 && left == "" && strings.HasPrefix(got.stderr, "procmem: "),
		got.status == 1 && left == name && strings.HasPrefix(got.stderr, "procmem: "): // whole, but perhaps not on the disk
		return ""
	case got.status == -1, got.status == 2 && runtimeGaveUp(got.stderr):
		// It was killed, or its runtime gave up.
		if left == "" || left == partial || left == name {
			return ""
		}
	}
	return fmt.Sprintf("left %q after %v", left, got)
}

// runtimeGaveUp reports whether the runtime of Go ended procmem: it says so, or, where
// it got no memory in the midst of collecting garbage, has a fault on its own stack.
func runtimeGaveUp(stderr string) bool {
	for _, said := range []string{"fatal error: ", "runtime: ", "SIGSEGV: segmentation violation\nPC="} {
		if strings.HasPrefix(stderr, said) {
			return true
		}
	}
	return false
}

// broken tells what is wrong with a core.
func broken(path string) string {
	c, err := core.Open(path)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	if c.Report() == nil || len(c.Truncated()) > 0 || len(c.Image().Threads) == 0 {
		return fmt.Sprintf("report %v, truncated %v, %d threads", c.Report(), c.Truncated(), len(c.Image().Threads))
	}
	return ""
}
