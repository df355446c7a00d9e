// Package access tells why a process can be read or cannot: which rule of the
// kernel refuses, and what would allow it.
//
// Start with Diagnose. What it says of permission is first the kernel's own
// answer, obtained by opening /proc/PID/mem, which stops nothing and changes
// nothing; the rules then explain it. Not promised: the reason of a security
// module such as SELinux, which does not tell it.
//
// Source: ptrace(2), "Ptrace access mode checking"; kernel/ptrace.c,
// __ptrace_may_access; security/yama/yama_lsm.c.
package access

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/process"
)

// Rule is one condition of the kernel and how this process meets it.
type Rule struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// Report is the answer of Diagnose.
type Report struct {
	PID  int    `json:"pid"`
	Name string `json:"name"` // of the process, "" where there is none
	// Readable: its memory and maps can be read (methods live and stop).
	Readable bool `json:"readable"`
	// Stoppable: it can also be attached to with ptrace (method stop).
	Stoppable bool   `json:"stoppable"`
	Cause     string `json:"cause,omitempty"`  // why not, "" where all is well
	Remedy    string `json:"remedy,omitempty"` // the command or setting that would allow it
	// Note is what the user may have meant otherwise, such as whose pid $$ was.
	Note  string `json:"note,omitempty"`
	Rules []Rule `json:"rules"`
}

func (r *Report) rule(name string, ok bool, format string, args ...any) {
	r.Rules = append(r.Rules, Rule{name, ok, fmt.Sprintf(format, args...)})
}

// refuse keeps the first cause, which is the one to mend first.
func (r *Report) refuse(cause, remedy string) {
	if r.Cause == "" {
		r.Cause, r.Remedy = cause, remedy
	}
}

// Diagnose finds out whether process pid can be read by the caller. It needs
// no rights and does not affect the process.
func Diagnose(pid int) *Report {
	r := &Report{PID: pid}
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
	r.rule("process", true, "pid %d is %s, state %c", pid, st.Name, st.State)

	switch {
	case st.KernelThread():
		r.rule("memory", false, "a kernel thread has no memory of its own")
		r.refuse(fmt.Sprintf("%d is the kernel thread [%s], which has no memory of its own", pid, st.Name), "")
		return r
	case st.Zombie() && !hasLiveThread(p):
		r.rule("memory", false, "exited, and waits for its parent (%s) to take note", describe(st.PPID))
		r.refuse(fmt.Sprintf("%d (%s) is a zombie: it has exited and its memory is gone; its parent, %s, has not reaped it", pid, st.Name, describe(st.PPID)), "")
		return r
	case st.Zombie():
		r.rule("memory", true, "the main thread has exited; other threads live on and are read")
	}

	me, err := self()
	if err != nil {
		r.refuse(err.Error(), "mount /proc")
		return r
	}
	readErr := p.MayRead()
	r.Readable = readErr == nil
	r.credentials(me, p, status, r.Readable)
	if !r.Readable {
		r.lastResort(readErr)
	}
	r.tracing(me, status)
	r.Stoppable = r.Readable && r.Cause == ""
	return r
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

// lastResort names what remains when every known rule allows and the kernel
// refuses all the same.
func (r *Report) lastResort(err error) {
	if r.Cause != "" {
		return
	}
	if errors.Is(err, unix.ESRCH) {
		r.refuse(fmt.Sprintf("process %d ended while it was looked at", r.PID), "")
		return
	}
	modules := "a security module"
	if b, err := os.ReadFile("/sys/kernel/security/lsm"); err == nil {
		modules = "a security module (active here: " + strings.TrimSpace(string(b)) + ")"
	}
	label := ""
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/attr/current", r.PID)); err == nil && len(b) > 1 {
		label = ", which labels the process " + strings.Trim(string(b), "\x00\n")
	}
	r.rule("security module", false, "all other rules allow, and the kernel answers: %v", err)
	r.refuse(fmt.Sprintf("%s refuses%s", modules, label), "look in the audit log (dmesg, ausearch -m avc) for the rule that refused")
}

// tracing checks what attaching needs beyond reading.
func (r *Report) tracing(me *credentials, status *process.Status) {
	if t := status.TracerPID; t != 0 {
		who := describe(t)
		r.rule("tracer", false, "already traced by %s: a process has one tracer", who)
		r.refuse(fmt.Sprintf("process %d is already traced by %s, and a process has one tracer", r.PID, who),
			"end or detach "+who+", or use --method live, which does not stop the target")
	} else {
		r.rule("tracer", true, "not traced by anyone")
	}
	if blocked := filtered(); len(blocked) > 0 {
		r.rule("seccomp", false, "a seccomp filter on procmem refuses %s", strings.Join(blocked, " and "))
		r.refuse("a seccomp filter on procmem itself refuses "+strings.Join(blocked, " and "),
			"run the container with --cap-add=SYS_PTRACE (and --security-opt seccomp=unconfined on old engines), or use --method live")
	} else if me.status.Seccomp != 0 {
		r.rule("seccomp", true, "a filter on procmem allows what it needs")
	} else {
		r.rule("seccomp", true, "no filter on procmem")
	}
}

// filtered returns which of the system calls that procmem needs are refused
// before the kernel looks at their arguments. Each is made with a process id
// that cannot exist, to which the kernel's own answer is ESRCH.
func filtered() []string {
	var out []string
	if _, _, e := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, 0, 0, 0, 0, 0); e != unix.ESRCH {
		out = append(out, "ptrace")
	}
	return out
}

// Explain returns in one line why working on process pid failed with err: the
// cause and the remedy where a rule of the kernel refused, else the error.
func Explain(pid int, err error) string {
	refused := errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ESRCH) ||
		errors.Is(err, process.ErrNoProcess)
	if !refused {
		return err.Error()
	}
	r := Diagnose(pid)
	if r.Cause == "" {
		return err.Error()
	}
	line := r.Cause
	if r.Remedy != "" {
		line += "; remedy: " + r.Remedy
	}
	return line
}
