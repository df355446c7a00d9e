package process

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/procmem/procmem/internal/procfs"
)

// Frozen returns the control group that has the process frozen, or is about to freeze it. No
// thread of the process runs code of its own before the thaw. It returns "" if none is seen.
func (p *Process) Frozen() string {
	for _, g := range p.freezers() {
		if name := g.frozen(); name != "" {
			return name
		}
	}
	// The groups around a container are not seen from inside it.
	tids, _ := p.Threads()
	for _, tid := range tids[:min(len(tids), maxFrozenLooks)] {
		if !p.ThreadFrozen(tid) {
			return ""
		}
	}
	if len(tids) == 0 {
		return ""
	}
	return "not seen from here"
}

// maxFrozenLooks is how many threads are asked, because all are frozen, or none.
const maxFrozenLooks = 2

// freezer is a control group that may freeze a process.
type freezer struct {
	name string // as in /proc/PID/cgroup
	root string // where the hierarchy is mounted
	v1   bool
}

func (p *Process) freezers() (out []freezer) {
	f, err := p.Open("cgroup")
	if err != nil {
		return nil
	}
	defer f.Close()
	for _, g := range procfs.ParseCgroup(f) {
		switch {
		case g.Controllers == nil:
			out = append(out, freezer{g.Path, "/sys/fs/cgroup", false}, freezer{g.Path, "/sys/fs/cgroup/unified", false})
		case slices.Contains(g.Controllers, "freezer"):
			out = append(out, freezer{g.Path, filepath.Join("/sys/fs/cgroup", strings.Join(g.Controllers, ",")), true})
		}
	}
	return out
}

// frozen returns the name of the group that is frozen, this one or one above it, or "".
func (g freezer) frozen() string {
	for dir := g.name; ; dir = filepath.Dir(dir) {
		if g.v1 {
			// freezer.state tells of the groups above, too.
			b, err := os.ReadFile(filepath.Join(g.root, dir, "freezer.state"))
			if state := strings.TrimSpace(string(b)); err == nil && (state == "FROZEN" || state == "FREEZING") {
				return dir
			}
		} else if b, err := os.ReadFile(filepath.Join(g.root, dir, "cgroup.freeze")); err == nil && strings.TrimSpace(string(b)) == "1" {
			return dir
		}
		if dir == "/" || dir == "." {
			return ""
		}
	}
}

// ThreadFrozen reports whether a control group has a thread frozen. The thread goes on after
// the thaw.
func (p *Process) ThreadFrozen(tid int) bool {
	where, err := parse(p, "task/"+strconv.Itoa(tid)+"/wchan", procfs.ReadSmall)
	if err != nil {
		return false
	}
	st, err := p.ThreadStat(tid)
	if err != nil {
		return false
	}
	switch name := string(where); name {
	case "__refrigerator": // version 1, kernel/freezer.c
		return st.State == 'D'
	case "do_freezer_trap", "get_signal": // version 2; one of these functions may be inlined into the other
		return st.State == 'S'
	default: // version 1, for a thread that was stopped by ptrace
		return st.State == 'D' && strings.HasPrefix(name, "ptrace_")
	}
}
