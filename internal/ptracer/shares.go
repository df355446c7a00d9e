package ptracer

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/patient"
	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/procfs"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// matching returns the ids for which f is true. A question about a process in exec may have to
// wait for it (exec_update_lock), even past the point from which its memory is its own. Such a
// process is passed over.
func matching(ids []int, f func(int) bool) (out []int) {
	raised := func(id int, _ func()) (is bool) {
		privilege.Raised(func() { is = f(id) })
		return is
	}
	patient.Ask(patient.Short, ids, raised, func(id int, is bool) {
		if is {
			out = append(out, id)
		}
	})
	return out
}

// sharesMemory reports whether a process has the memory of a task. Its first thread may have
// exited, and then has none.
func sharesMemory(task, pid int) bool {
	if same, err := sys.SameMemory(task, pid); same || err != nil {
		return same
	}
	dir := privilege.ProcPath(pid, "task")
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil || st.Nlink <= 3 { // two, and one for each thread
		return false
	}
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	names, _ := f.Readdirnames(2)
	for _, name := range names {
		if tid, err := strconv.Atoi(name); err == nil && tid != pid {
			same, _ := sys.SameMemory(task, tid)
			return same
		}
	}
	return false
}

// liveTask returns a thread of the target that has memory, or 0. A leader that has exited has
// none.
func (t *Tracer) liveTask() int {
	if st, err := t.p.ThreadStat(t.p.PID()); err == nil && !st.Zombie() {
		return t.p.PID()
	}
	tids, _ := t.p.Threads()
	for _, tid := range tids {
		if st, err := t.p.ThreadStat(tid); err == nil && !st.Zombie() {
			return tid
		}
	}
	return 0
}

// taskStatus returns the status of a task by its id alone.
func taskStatus(tid int) (*process.Status, error) {
	f, err := os.Open(privilege.ProcPath(tid, "status"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := procfs.ParseStatus(f)
	return (*process.Status)(st), err
}

// ours reports whether a tracer is a thread of this program, or of its helper.
func ours(tracer int) bool {
	if tracer == 0 {
		return false
	}
	st, err := taskStatus(tracer)
	return err == nil && (st.TGID == os.Getpid() || st.PPID == os.Getpid())
}

// executes reports whether a process is in exec, or does not answer, as a process in exec does
// not.
func executes(p *process.Process) bool {
	return len(matching([]int{p.PID()}, func(tid int) bool {
		arch, err := p.Arch()
		if err != nil {
			return true
		}
		call, err := p.ThreadSyscall(tid)
		return err != nil || call.Running || !strings.HasPrefix(CallName(arch, call.Number), "execve")
	})) == 0
}

// lastBorn returns the id that the kernel gave last to a process or thread, or 0 if that is
// unknown.
func lastBorn() int {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) < 5 {
		return 0
	}
	n, _ := strconv.Atoi(f[4])
	return n
}
