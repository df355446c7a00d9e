package access

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/procfs"
	"github.com/procmem/procmem/process"
)

// describe names a process for a message.
func describe(pid int) string {
	p, err := process.Open(pid)
	if err != nil {
		return fmt.Sprintf("pid %d", pid)
	}
	defer p.Close()
	st, err := p.Stat()
	if err != nil {
		return fmt.Sprintf("pid %d", pid)
	}
	return fmt.Sprintf("%s (pid %d)", st.Name, pid)
}

// whose explains a pid that is likely to have come from $$, which a shell replaces with its own
// pid before it starts the program. It returns "" for any other.
func whose(pid int, name string) string {
	me, err := process.Self()
	if err != nil {
		return ""
	}
	if pid == me {
		return fmt.Sprintf("%d is %[2]s itself. If you wrote $$: the shell put its own pid there and then became %[2]s (exec), as it does for its last command", pid, ownName)
	}
	if pid == 1 || !descendant(me, pid) {
		return ""
	}
	what := "an ancestor of " + ownName
	if parent(me) == pid {
		what = "the process that started " + ownName
	}
	return fmt.Sprintf("%d is %s, %s. If you wrote $$: the shell replaces it with its own pid before the program starts, so /proc/$$/mem is the shell's memory, never that of the program in the command; use the word self for %s itself", pid, name, what, ownName)
}

// missing explains a pid for which there is no process.
func (r *Report) missing(pid int, err error) {
	if !procMounted() {
		r.rule("process", Fails, "%d is not shown, because no /proc is mounted", pid)
		r.refuse("no proc file system is mounted at /proc, and without it no process can be looked at", remedy{line: "sudo mount -t proc proc /proc"})
		return
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) { // hidepid=noaccess
		r.hidden(pid)
		return
	}
	if !errors.Is(err, process.ErrNoProcess) && !errors.Is(err, unix.ESRCH) {
		r.rule("process", Fails, "%v", err)
		r.refuse(err.Error(), remedy{})
		return
	}
	if tgid := threadOf(pid); tgid != 0 {
		r.rule("process", Fails, "%d is a thread of %s", pid, describe(tgid))
		r.refuse(fmt.Sprintf("%d is not a process but a thread of %s", pid, describe(tgid)), remedy{also: fmt.Sprintf("use %d", tgid)})
		return
	}
	if pid > 0 && ownProc() && unix.Kill(pid, 0) != unix.ESRCH {
		r.hidden(pid)
		return
	}
	if inner, outer := innerMatches(pid); len(inner) > 0 {
		r.rule("process", Fails, "no process %d in this pid namespace; inside others: %s", pid, strings.Join(inner, ", "))
		help := "use the pid that it has here"
		if len(inner) == 1 {
			help = fmt.Sprintf("use %d", outer)
		}
		r.refuse(fmt.Sprintf("no process has pid %d here; inside a container that number is %s", pid, strings.Join(inner, ", ")), remedy{also: help})
		return
	}
	r.rule("process", Fails, "no process %d in this pid namespace", pid)
	r.refuse(fmt.Sprintf("no process has pid %d: it has ended, or the number is of another pid namespace: a container's pids mean something inside it alone", pid), remedy{})
}

// procMounted reports whether /proc is a proc file system.
func procMounted() bool {
	var st unix.Statfs_t
	return unix.Statfs("/proc", &st) == nil && st.Type == unix.PROC_SUPER_MAGIC
}

// ownProc reports whether the numbers of this /proc are those of the caller's pid namespace.
func ownProc() bool {
	pid, err := process.Self()
	if err != nil {
		return false
	}
	p, err := process.Open(pid)
	if err != nil {
		return false
	}
	defer p.Close()
	return p.CheckNamespace() == nil
}

// hidden explains a process that the mount option hidepid conceals.
func (r *Report) hidden(pid int) {
	r.rule("process", Fails, "%d exists, and this /proc hides it (hidepid)", pid)
	r.refuse(fmt.Sprintf("process %d exists, and /proc hides it from this user (mount option hidepid)", pid),
		remedy{r.caller.sudo(), "run " + ownName + " as a member of the group that gid= names in the options of /proc"})
}

// threadOf returns the process that thread tid belongs to, 0 if tid is none.
func threadOf(tid int) int {
	f, err := privilege.OpenProc(tid, "status")
	if err != nil {
		return 0
	}
	defer f.Close()
	st, err := procfs.ParseStatus(f)
	if err != nil || st.TGID == tid {
		return 0
	}
	return st.TGID
}

// innerMatches finds processes that have the id pid inside a pid namespace below this one. It
// returns their names, and the id that the last one has here.
func innerMatches(pid int) (names []string, here int) {
	const most = 4
	pids, _ := process.List()
	for _, q := range pids {
		p, err := process.Open(q)
		if err != nil {
			continue
		}
		st, err := p.Status()
		p.Close()
		if err != nil || len(st.NSPID) < 2 || st.InnerPID() != pid {
			continue
		}
		if len(names) == most {
			return append(names, "…"), here
		}
		names, here = append(names, fmt.Sprintf("%s (pid %d here)", st.Name, q)), q
	}
	return names, here
}
