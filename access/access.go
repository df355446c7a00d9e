// Package access tells whether a process can be read, which rule of the kernel refuses, and
// what would allow it.
//
// Start with Diagnose. Its answer about permission is the kernel's own: it opens /proc/PID/mem,
// which stops nothing and changes nothing. The rules then explain that answer. Not promised:
// the reason of a security module such as SELinux, which does not tell it.
//
// In a program that imports this package, a refusal by package process has
// the text of Explain. It calls the program by its own name, and speaks of
// options as procmem has them.
//
// Source: ptrace(2), "Ptrace access mode checking"; kernel/ptrace.c, __ptrace_may_access;
// security/yama/yama_lsm.c.
package access

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/refusal"
	"github.com/procmem/procmem/process"
)

// Verdict tells whether a rule of the kernel allows.
type Verdict string

// The verdicts.
const (
	Holds   Verdict = "ok"
	Fails   Verdict = "no"
	Limited Verdict = "limited" // allows, but not everything or not with every method
	Unknown Verdict = "unknown" // procmem is not shown what it takes to tell
)

func verdict(ok bool) Verdict {
	if ok {
		return Holds
	}
	return Fails
}

// Rule is one condition of the kernel, and how the calling process meets it.
type Rule struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	Detail  string  `json:"detail"`
}

// Report is the result of Diagnose.
type Report struct {
	PID  int    `json:"pid"`
	Name string `json:"name"` // of the process, "" if there is none
	// Readable is set if its memory and maps can be read (methods live and stop).
	Readable bool `json:"readable"`
	// Stoppable is set if ptrace can attach to it as well (method stop).
	Stoppable bool   `json:"stoppable"`
	Cause     string `json:"cause,omitempty"` // why not, "" if it is both
	// Remedy is a whole command line that would allow it, "" if there is none. Otherwise says
	// in words what would, or would as well.
	Remedy    string `json:"remedy,omitempty"`
	Otherwise string `json:"otherwise,omitempty"`
	// Note tells what the user may not have meant, such as whose pid $$ was.
	Note  string `json:"note,omitempty"`
	Rules []Rule `json:"rules"`

	caller caller
}

// remedy is what would help.
type remedy struct {
	line string // a whole command line
	also string // in words, what would as well
}

// text returns the remedy as a clause.
func (h remedy) text() string {
	if h.line == "" || h.also == "" {
		return h.line + h.also
	}
	return h.line + ", or " + h.also
}

func (r *Report) rule(name string, v Verdict, format string, args ...any) {
	r.Rules = append(r.Rules, Rule{name, v, fmt.Sprintf(format, args...)})
}

// add is rule and, where there is a cause, refuse.
func (r *Report) add(rule Rule, cause string, help remedy) {
	r.Rules = append(r.Rules, rule)
	if cause != "" {
		r.refuse(cause, help)
	}
}

// refuse keeps the first cause, which is the one to mend first.
func (r *Report) refuse(cause string, help remedy) {
	if r.Cause == "" {
		r.Cause, r.Remedy, r.Otherwise = cause, help.line, help.also
	}
}

// Diagnose finds out whether the caller can read process pid. It needs no
// rights and does not affect the process. A pid without a process gives a
// report that says why.
//
// Its remedies are command lines that take a core.
func Diagnose(pid int) *Report { return diagnose(pid, core(pid)) }

func diagnose(pid int, c caller) *Report {
	r := &Report{PID: pid, caller: c}
	p, err := process.Open(pid)
	if err != nil {
		r.missing(pid, err)
		return r
	}
	defer p.Close()
	st, err1 := p.Stat()
	status, err2 := p.Status()
	if err := errors.Join(err1, err2); err != nil {
		r.missing(pid, err)
		return r
	}
	r.Name = st.Name
	r.Note = whose(pid, st.Name)
	r.rule("process", Holds, "%d is %s, state %c", pid, st.Name, st.State)

	switch {
	case st.KernelThread():
		r.rule("memory", Fails, "a kernel thread has no memory of its own")
		r.refuse(fmt.Sprintf("%d is the kernel thread [%s], which has no memory of its own", pid, st.Name), remedy{})
		return r
	case st.Zombie() && !hasLiveThread(p):
		r.rule("memory", Fails, "gone: the process has exited, and its parent, %s, has yet to reap it", describe(st.PPID))
		r.refuse(fmt.Sprintf("%d (%s) is a zombie: it has exited and its memory is gone; its parent, %s, has yet to reap it", pid, st.Name, describe(st.PPID)), remedy{})
		return r
	case st.Zombie():
		r.rule("memory", Holds, "the main thread has exited; other threads live on and are read")
	}

	readErr := p.MayRead()
	r.Readable = readErr == nil
	me, err := self()
	if err != nil { // it cannot be told why the kernel answers as it does
		if !errors.Is(err, process.ErrForeignProc) {
			r.refuse(err.Error(), remedy{line: "sudo mount -t proc proc /proc"})
			return r
		}
		r.numbers(err)
		return r
	}
	r.check(compare(pid, me, status, r.Readable))
	if !r.Readable {
		r.lastResort(readErr)
	}
	r.numbers(p.CheckNamespace())
	r.holding(me, p, status)
	r.frozen(p)
	r.filters(status)
	r.Stoppable = r.Readable && r.Cause == ""
	return r
}

// self reads what the kernel compares of the caller.
func self() (*process.Status, error) {
	pid, err := process.Self()
	if err != nil {
		return nil, err
	}
	p, err := process.Open(pid)
	if err != nil {
		return nil, fmt.Errorf("/proc does not show %s itself: %w", ownName, err)
	}
	defer p.Close()
	st, err := p.Status()
	if err == nil {
		st.CapEff |= privilege.Held() // which procmem has where it counts
	}
	return st, err
}

func hasLiveThread(p *process.Process) bool {
	tids, _ := p.Threads()
	for _, tid := range tids {
		if st, err := p.ThreadStat(tid); err == nil && !st.Zombie() {
			return true
		}
	}
	return false
}

// lastResort names what remains when every known rule allows and the kernel refuses all the
// same.
func (r *Report) lastResort(err error) {
	if r.Cause != "" {
		return
	}
	if errors.Is(err, unix.ESRCH) {
		r.refuse(fmt.Sprintf("process %d ended while it was looked at", r.PID), remedy{})
		return
	}
	modules := "a security module"
	if b, err := os.ReadFile("/sys/kernel/security/lsm"); err == nil {
		modules = "a security module (active here: " + strings.TrimSpace(string(b)) + ")"
	}
	label := ""
	if b, err := privilege.ReadProc(r.PID, "attr/current"); err == nil && len(b) > 1 {
		label = ", which labels the process " + strings.Trim(string(b), "\x00\n")
	}
	maybe := ""
	for _, rule := range r.Rules {
		switch {
		case rule.Verdict != Unknown:
		case rule.Name == "dumpable":
			maybe += "the target is not dumpable (prctl(2), PR_SET_DUMPABLE), or "
		case rule.Name == "user namespace":
			maybe += "the target is in a user namespace that another user made, or "
		}
	}
	if maybe != "" {
		r.rule("security module", Unknown, "all rules that can be seen allow, and the kernel answers: %v", err)
		r.refuse(maybe+modules+" refuses"+label,
			remedy{also: "run " + ownName + " with the capability CAP_SYS_PTRACE; if that does not help, dmesg or ausearch -m avc names the rule of the module"})
		return
	}
	r.rule("security module", Fails, "all other rules allow, and the kernel answers: %v", err)
	r.refuse("perhaps "+modules+" refuses"+label, remedy{also: "dmesg or ausearch -m avc names the rule that refused"})
}

// numbers tells whether system calls may be given the numbers that /proc shows.
func (r *Report) numbers(err error) {
	const name = "pid namespace"
	if err == nil {
		r.rule(name, Holds, "/proc shows that of %s", ownName)
		return
	}
	r.rule(name, Fails, "%v", err)
	r.refuse(err.Error(), remedy{r.caller.live(r.PID),
		"mount a /proc of " + ownName + "'s own (mount -t proc proc /proc), or enter the other namespace (nsenter --pid --mount)"})
}

// holding checks what attaching with ptrace needs beyond reading.
func (r *Report) holding(me *process.Status, p *process.Process, status *process.Status) {
	live := r.caller.live(r.PID) // which stops nothing
	if self, _ := process.Self(); r.PID == self {
		r.rule("tracer", Fails, "a process cannot trace itself")
		r.refuse(ownName+" cannot hold itself still", remedy{line: live})
	} else if tid, tracer := tracerOf(p, status); tracer != 0 {
		who := describe(tracer)
		what := fmt.Sprintf("process %d", r.PID)
		if tid != r.PID {
			what = fmt.Sprintf("thread %d of process %d", tid, r.PID)
		}
		r.rule("tracer", Fails, "already traced by %s: a thread has one tracer", who)
		r.refuse(fmt.Sprintf("%s is already traced by %s, and there can be one tracer", what, who),
			remedy{live, "end or detach " + who})
	} else {
		r.rule("tracer", Holds, "not traced by a process that %s can see", ownName)
	}
	switch blocked := filtered(); {
	case blocked != "":
		r.rule("seccomp", Fails, "a seccomp filter on %s refuses %s", ownName, blocked)
		r.refuse("a seccomp filter on "+ownName+" itself refuses "+blocked,
			remedy{live, "start this container with --cap-add=SYS_PTRACE (and --security-opt seccomp=unconfined where that is not enough)"})
	case me.Seccomp != 0:
		r.rule("seccomp", Holds, "the filter on %s allows what it needs", ownName)
	default:
		r.rule("seccomp", Holds, "no filter on %s", ownName)
	}
}

// tracerOf returns the first thread that is traced, and its tracer. A tracer attaches to
// threads, not to processes.
func tracerOf(p *process.Process, status *process.Status) (tid, tracer int) {
	const most = 1000 // a larger pool of threads is not traced in part
	if status.TracerPID != 0 {
		return p.PID(), status.TracerPID
	}
	tids, _ := p.Threads()
	for _, tid := range tids[:min(len(tids), most)] {
		if st, err := p.ThreadStatus(tid); err == nil && st.TracerPID != 0 {
			return tid, st.TracerPID
		}
	}
	return 0, 0
}

// filtered names the system call that procmem needs and a seccomp filter refuses before the
// kernel looks at its arguments. It is made with a process id that cannot exist, to which the
// kernel's own answer is ESRCH.
func filtered() string {
	if _, _, e := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, 0, 0, 0, 0, 0); e != unix.ESRCH {
		return "ptrace"
	}
	return ""
}

// In a program that imports this package the errors of process read as Explain does.
func init() {
	refusal.Register(func(pid int, err error) string {
		why, _ := Explain(pid, err)
		return why
	})
}

// Explain returns in one line why working on process pid failed with err: the cause and, after
// "; remedy: ", what would allow it. Ok is false if err is not a refusal, or if the process is
// gone and no reason is known. It looks at the process as it is now.
func Explain(pid int, err error) (why string, ok bool) {
	if r, refused := errors.AsType[*refusal.Error](err); refused {
		err = r.Err // whose text is what this returns
	}
	denied := errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
	// ENOENT: of a zombie there is no /proc/PID/exe.
	gone := errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) || errors.Is(err, process.ErrNoProcess)
	if !denied && !gone && !errors.Is(err, process.ErrForeignProc) {
		return "", false
	}
	r := diagnose(pid, again())
	help := remedy{r.Remedy, r.Otherwise}.text()
	switch {
	case r.Cause != "" && help != "":
		return r.Cause + "; remedy: " + help, true
	case r.Cause != "":
		return r.Cause, true
	case denied:
		return err.Error() + ", though all rules that " + ownName + " can see allow it: a tracer outside of this pid namespace or a security module may refuse", true
	}
	return "", false
}
