package procfs

import (
	"bufio"
	"io"
	"strings"
)

// Cgroup is a line of /proc/PID/cgroup (cgroups(7)): the control group of a process in one
// hierarchy.
type Cgroup struct {
	Controllers []string // of version 1; nil for version 2
	Path        string   // of the group, below the root of its hierarchy
}

// ParseCgroup reads the text of /proc/PID/cgroup. It returns the groups in the order of the
// text. It skips lines of another form.
func ParseCgroup(r io.Reader) (out []Cgroup) {
	for sc := bufio.NewScanner(r); sc.Scan(); {
		// 4:freezer:/path, or 0::/path for version 2
		_, rest, _ := strings.Cut(sc.Text(), ":")
		controllers, path, ok := strings.Cut(rest, ":")
		switch {
		case !ok:
		case controllers == "":
			out = append(out, Cgroup{Path: path})
		default:
			out = append(out, Cgroup{strings.Split(controllers, ","), path})
		}
	}
	return out
}
