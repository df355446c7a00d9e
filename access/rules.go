package access

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/process"
)

const capSysPtrace = 19 // include/uapi/linux/capability.h

// credentials is what the kernel compares of the caller.
type credentials struct {
	pid    int
	status *process.Status
}

func self() (*credentials, error) {
	p, err := process.Open(os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("/proc does not show procmem itself: %w", err)
	}
	defer p.Close()
	status, err := p.Status()
	if err != nil {
		return nil, err
	}
	return &credentials{os.Getpid(), status}, nil
}

func (c *credentials) ptraceCap() bool { return c.status.CapEff&(1<<capSysPtrace) != 0 }

// credentials goes through the rules in the kernel's order. readable is the
// kernel's answer: a rule that does not hold is the cause only where the
// answer was no.
func (r *Report) credentials(me *credentials, p *process.Process, target *process.Status, readable bool) {
	cap := me.ptraceCap()
	sameNS, nsKnown := sameUserNamespace(p.PID())
	as := "the capability CAP_SYS_PTRACE"
	sudo := "run procmem as root (sudo), or give it the capability: setcap cap_sys_ptrace=ep $(command -v procmem); in a container: --cap-add=SYS_PTRACE"

	same := true
	for i := range 3 {
		same = same && target.UID[i] == me.status.UID[3] && target.GID[i] == me.status.GID[3]
	}
	who := fmt.Sprintf("the target runs as uid %s gid %s, procmem as uid %d gid %d",
		ids(target.UID), ids(target.GID), me.status.UID[3], me.status.GID[3])
	switch {
	case same:
		r.rule("user", true, "%s", who)
	case cap && readable:
		r.rule("user", true, "%s; %s overrides", who, as)
	default:
		r.rule("user", readable, "%s", who)
		if !readable && !cap {
			r.refuse(who+", which takes "+as, sudo)
		}
	}

	switch {
	case !nsKnown:
		r.rule("user namespace", readable, "the target's cannot be seen")
	case sameNS:
		r.rule("user namespace", true, "the same")
	case readable:
		r.rule("user namespace", true, "another one, below procmem's")
	default:
		r.rule("user namespace", false, "another one, where procmem's capabilities do not count")
		r.refuse("the target lives in another user namespace, where procmem's capabilities do not count",
			fmt.Sprintf("run procmem in the parent user namespace as root, or inside: nsenter -t %d -U -p -m procmem …", p.PID()))
	}
	if cap && !same && !readable && !nsKnown {
		r.refuse("procmem's CAP_SYS_PTRACE does not count for the target, which must live in another user namespace",
			"run procmem as root outside of the container, or enter the target's namespaces: nsenter -a -t "+strconv.Itoa(p.PID()))
	}

	switch dumpable, known := dumpable(p.PID(), target); {
	case !known:
		r.rule("dumpable", readable || cap, "cannot be told for a process of root")
	case dumpable:
		r.rule("dumpable", true, "yes")
	default:
		r.rule("dumpable", readable, "no: it changed its credentials, runs a file that may not be read, or asked for it with prctl(PR_SET_DUMPABLE, 0)")
		if !readable && !cap {
			r.refuse("the target is not dumpable (a setuid or setcap program, an unreadable executable, or prctl(PR_SET_DUMPABLE, 0)), which takes "+as, sudo)
		}
	}

	r.yama(me, p, readable, sudo)
	if cap {
		r.rule("capability", true, "procmem has CAP_SYS_PTRACE")
	} else {
		r.rule("capability", readable, "procmem does not have CAP_SYS_PTRACE")
	}
	if !readable && !cap && !sameSet(me, target) {
		r.refuse("the target has capabilities that procmem lacks, which takes "+as, sudo)
	}
}

// sameSet reports whether the target has no capability that the caller lacks
// (security/commoncap.c, cap_ptrace_access_check).
func sameSet(me *credentials, target *process.Status) bool {
	return target.CapEff&^me.status.CapEff == 0
}

func (r *Report) yama(me *credentials, p *process.Process, readable bool, sudo string) {
	b, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	if err != nil {
		r.rule("Yama", true, "not in this kernel")
		return
	}
	scope, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return
	}
	cap := me.ptraceCap()
	const name = "kernel.yama.ptrace_scope"
	switch {
	case scope == 0:
		r.rule("Yama", true, "%s is 0: no further limit", name)
	case scope == 3:
		r.rule("Yama", false, "%s is 3: nobody may, until the machine is restarted", name)
		r.refuse(name+" is 3: no process may be attached to until the machine is restarted",
			"set "+name+" below 3 in /etc/sysctl.d and restart the machine")
	case cap && readable:
		r.rule("Yama", true, "%s is %d; the capability CAP_SYS_PTRACE overrides", name, scope)
	case scope == 2:
		r.rule("Yama", readable, "%s is 2: only with CAP_SYS_PTRACE", name)
		if !readable {
			r.refuse(name+" is 2: only CAP_SYS_PTRACE allows to attach", sudo)
		}
	default:
		descends := descendant(p.PID(), me.pid)
		r.rule("Yama", readable, "%s is %d: only descendants of procmem (this one: %v), and processes that allowed it with prctl(PR_SET_PTRACER)", name, scope, descends)
		if !readable && !descends {
			r.refuse(name+" is 1: only a descendant may be attached to without CAP_SYS_PTRACE",
				"sudo procmem …, or for all programs until the restart: sudo sysctl "+name+"=0")
		}
	}
}

// descendant reports whether pid has ancestor among its parents.
func descendant(pid, ancestor int) bool {
	for range 1 << 10 {
		if pid == ancestor {
			return true
		}
		pid = parent(pid)
		if pid <= 1 {
			return false
		}
	}
	return false
}

func parent(pid int) int {
	p, err := process.Open(pid)
	if err != nil {
		return 0
	}
	defer p.Close()
	st, err := p.Stat()
	if err != nil {
		return 0
	}
	return st.PPID
}

// sameUserNamespace compares the user namespaces of the target and the
// caller. Seeing the target's takes the rights that may be missing.
func sameUserNamespace(pid int) (same, known bool) {
	var mine, theirs unix.Stat_t
	if unix.Stat("/proc/self/ns/user", &mine) != nil ||
		unix.Stat(fmt.Sprintf("/proc/%d/ns/user", pid), &theirs) != nil {
		return false, false
	}
	return mine.Ino == theirs.Ino && mine.Dev == theirs.Dev, true
}

// dumpable uses that the kernel gives the files in /proc of a process that is
// not dumpable to root (fs/proc/base.c, task_dump_owner).
func dumpable(pid int, target *process.Status) (yes, known bool) {
	if target.UID[1] == 0 {
		return false, false
	}
	fi, err := os.Stat(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return false, false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return false, false
	}
	return st.Uid == target.UID[1], true
}

func ids(v [4]uint32) string {
	if v[0] == v[1] && v[1] == v[2] {
		return strconv.Itoa(int(v[0]))
	}
	return fmt.Sprintf("%d/%d/%d (real/effective/saved)", v[0], v[1], v[2])
}
