package forkroom

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/procfs"
)

// cgroups knows where the control groups of processes can be seen from here. A container may
// not show those of others, nor the groups above its own. Sources: cgroups(7),
// Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
type cgroups struct {
	mounts []cgroupMount
	// initial says that paths begin at the root of all control groups, which has no limits.
	initial bool
	// without are the controllers that this kernel does not have.
	without []string
}

// cgroupMount is a place where a hierarchy of control groups is mounted.
type cgroupMount struct {
	controllers []string // of version 1; nil for version 2
	root        string   // the path of the group at dir, as in /proc/PID/cgroup
	dir         string
}

// group is a control group.
type group struct {
	name string // as in /proc/PID/cgroup
	dir  string
}

// visibleCgroups returns the hierarchies that are mounted.
func visibleCgroups() *cgroups {
	c := &cgroups{}
	if f, err := os.Open("/proc/self/mountinfo"); err == nil {
		c.mounts = parseCgroupMounts(f)
		f.Close()
	}
	var st unix.Stat_t
	const initial = 0xEFFFFFFB // PROC_CGROUP_INIT_INO
	// Kernels without cgroup namespaces have one root.
	err := unix.Stat("/proc/self/ns/cgroup", &st)
	c.initial = err == unix.ENOENT || err == nil && st.Ino == initial
	if b, err := os.ReadFile("/proc/cgroups"); err == nil {
		for line := range strings.Lines(string(b)) {
			// name, hierarchy, number of groups, enabled
			if f := strings.Fields(line); len(f) == 4 && f[3] == "0" {
				c.without = append(c.without, f[0])
			}
		}
	}
	return c
}

// parseCgroupMounts returns the hierarchies that /proc/PID/mountinfo has.
func parseCgroupMounts(r io.Reader) (out []cgroupMount) {
	for _, mount := range procfs.ParseMountinfo(r) {
		m := cgroupMount{root: mount.Root, dir: mount.Point}
		switch mount.Type {
		case "cgroup2":
		case "cgroup":
			m.controllers = strings.Split(mount.Options, ",") // among other options
		default:
			continue
		}
		out = append(out, m)
	}
	return out
}

// of returns the group that limits a process by a controller, and the visible groups above it,
// the nearest first. text is /proc/PID/cgroup. hidden names the group where even that one
// cannot be seen.
func (c *cgroups) of(text, controller string) (groups []group, hidden string) {
	path, v2, ok := cgroupPath(text, controller)
	if !ok || slices.Contains(c.without, controller) {
		return nil, ""
	}
	for _, m := range c.mounts {
		if v2 != (m.controllers == nil) || !v2 && !slices.Contains(m.controllers, controller) {
			continue
		}
		rest, ok := below(m.root, path)
		if !ok {
			continue
		}
		var found []group
		for name := rest; ; name = filepath.Dir(name) {
			dir := filepath.Join(m.dir, name)
			// The mount may be covered by another, and a group may be gone.
			if _, err := os.Stat(dir + "/cgroup.procs"); err == nil {
				found = append(found, group{joinGroup(m.root, name), dir})
			} else if name == rest {
				break
			}
			if name == "/" {
				break
			}
		}
		if len(found) > len(groups) {
			groups = found
		}
	}
	if len(groups) == 0 && !(c.initial && path == "/") {
		hidden = path
	}
	return groups, hidden
}

// cgroupPath returns the path of the group of a controller in the text of /proc/PID/cgroup. A
// controller is in one hierarchy.
func cgroupPath(text, controller string) (path string, v2, ok bool) {
	for _, g := range procfs.ParseCgroup(strings.NewReader(text)) {
		if slices.Contains(g.Controllers, controller) {
			return g.Path, false, true
		}
		if g.Controllers == nil {
			path, v2, ok = g.Path, true, true
		}
	}
	return path, v2, ok
}

// below returns the part of path that is below root. Both begin at the same group. "/.." leads
// out of what is known.
func below(root, path string) (rest string, ok bool) {
	if root != "/" {
		if path, ok = strings.CutPrefix(path, root); !ok || path != "" && path[0] != '/' {
			return "", false
		}
	}
	if path == "/.." || strings.HasPrefix(path, "/../") {
		return "", false
	}
	return filepath.Join("/", path), true
}

// joinGroup joins the paths of groups, which may begin with "/..".
func joinGroup(root, rest string) string {
	if joined := strings.TrimSuffix(root, "/") + strings.TrimSuffix(rest, "/"); joined != "" {
		return joined
	}
	return "/"
}

// number reads a file with one number. A file without a limit contains "max", and ok is false.
func (g group) number(file string) (n uint64, ok bool) {
	b, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil {
		return 0, false
	}
	n, err = strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil
}

// fields reads a file with a name and a number in each line.
func (g group) fields(file string) map[string]uint64 {
	out := make(map[string]uint64)
	b, _ := os.ReadFile(filepath.Join(g.dir, file))
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			if n, err := strconv.ParseUint(value, 10, 64); err == nil {
				out[name] = n
			}
		}
	}
	return out
}
