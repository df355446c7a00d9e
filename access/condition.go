package access

import (
	"fmt"
	"os"
	"strings"

	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/process"
)

// What does not refuse a core, and limits how it can be taken.

// frozen tells whether a control group has the process frozen.
func (r *Report) frozen(p *process.Process) {
	const name = "frozen"
	if group := p.Frozen(); group != "" {
		r.rule(name, Limited, "by its control group (%s): it can be read and held, and can do nothing that a method asks of it before it is thawed", group)
		return
	}
	r.rule(name, Holds, "by no control group that %s can see", ownName)
}

// filters tells of seccomp filters on the process, and of who answers for it.
func (r *Report) filters(status *process.Status) {
	const name = "target seccomp"
	const strict = 1 // SECCOMP_MODE_STRICT
	switch {
	case status.Seccomp == 0:
		r.rule(name, Holds, "no filter on the target")
	case status.Seccomp == strict:
		r.rule(name, Limited, "the target is in strict mode: methods that make it do a system call need CAP_SYS_ADMIN")
	default:
		r.rule(name, Limited, "a filter on the target: methods that make it do a system call need CAP_SYS_ADMIN%s", supervised())
	}
}

// supervised names the processes that are asked about system calls of others
// (SECCOMP_RET_USER_NOTIF).
func supervised() string {
	const most = 3
	var who []string
	pids, _ := process.List()
	for _, pid := range pids {
		if len(who) < most && hasListener(pid) {
			who = append(who, describe(pid))
		}
	}
	if len(who) == 0 {
		return ""
	}
	return fmt.Sprintf("; %s answers for system calls of filtered processes, maybe of this one", strings.Join(who, ", "))
}

// hasListener reports whether a process has the file by which a filter asks. Only the first
// files are looked at: a supervisor opens it early.
func hasListener(pid int) (found bool) {
	const most = 256
	privilege.Raised(func() {
		dir, err := os.Open(privilege.ProcPath(pid, "fd"))
		if err != nil {
			return
		}
		defer dir.Close()
		names, _ := dir.Readdirnames(most)
		for _, name := range names {
			if to, err := os.Readlink(privilege.ProcPath(pid, "fd", name)); err == nil && to == "anon_inode:seccomp notify" {
				found = true
				return
			}
		}
	})
	return found
}
