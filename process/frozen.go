package process

import (
	"bufio"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Frozen tells which control group has the process frozen, or is about to: no
// thread of it runs code of its own before that is thawed. "" is none, as far as it
// can be seen.
func (p *Process) Frozen() string {
	for _, g := range p.freezers() {
		if name := g.frozen(); name != "" {
			return name
		}
	}
	// From inside of a container the groups around it are not seen.
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

// maxFrozenLooks is how many threads are asked: all are frozen, or none.
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
	for sc := bufio.NewScanner(f); sc.Scan(); {
		// 4:freezer:/path, or 0::/path for version 2
		_, rest, _ := strings.Cut(sc.Text(), ":")
		controllers, name, ok := strings.Cut(rest, ":")
		switch {
		case !ok:
		case controllers == "":
			out = append(out, freezer{name, "/sys/fs/cgroup", false}, freezer{name, "/sys/fs/cgroup/unified", false})
		case strings.Contains(","+controllers+",", ",freezer,"):
			out = append(out, freezer{name, filepath.Join("/sys/fs/cgroup", controllers), true})
		}
	}
	return out
}

// frozen returns the name of the group that is frozen: this, or one around it.
func (g freezer) frozen() string {
	for dir := g.name; ; dir = filepath.Dir(dir) {
		if g.v1 {
			// It tells of those around it too.
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

// ThreadFrozen reports whether a thread is frozen by a control group: it goes on
// when that is thawed.
func (p *Process) ThreadFrozen(tid int) bool {
	where, err := parse(p, "task/"+strconv.Itoa(tid)+"/wchan", readSmall)
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
	case "do_freezer_trap", "get_signal": // version 2; the one may be a part of the other
		return st.State == 'S'
	default: // version 1, of a thread that was stopped by ptrace
		return st.State == 'D' && strings.HasPrefix(name, "ptrace_")
	}
}
